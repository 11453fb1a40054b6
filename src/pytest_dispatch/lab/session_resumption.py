"""Gives a session to another holder, or back to one that was away, also after a restart of the lab."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.leases import PRIVATE, Lease, LeaseKind
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import LiveSession
from pytest_dispatch.lab.session_service import granted
from pytest_dispatch.store.journal import session_row
from pytest_dispatch.store.records import LAB_USER

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Policy, Run
    from pytest_dispatch.lab.issue_reviews import IssueReviews
    from pytest_dispatch.lab.session_feed import IssueRule
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import KeptSession, SessionRecord

RECALLED = 100_000  # most console lines restored for an interrupted session
MOMENT, MOMENTS = 0.1, 15  # seconds, and how often, until a holder that was killed is known to be gone


class SessionResumption:
    """Resumes sessions: those in memory for another holder, and those that only the journal has.

    Args:
        lab_state: The lab's.
        want: Prepares what runs need, such as their bytes.
        recall: Restores what the journal has of a session besides its runs.
        issues: Issues on their way to GitHub.
        api: Address of the GitHub API for issues.
        private: Whether the lab belongs to one pytest and ends with it; then no session ends by silence.
    """

    def __init__(
        self,
        lab_state: LabState,
        want: Callable[[list[Run]], Awaitable[None]],
        recall: Callable[[str, KeptSession], None],
        issues: IssueReviews,
        api: str,
        *,
        private: bool,
    ) -> None:
        self._lab_state = lab_state
        self._now = lab_state.clock.now
        self._private = private
        self._queue = lab_state.queue
        self._want = want
        self._recall = recall
        self._issues = issues
        self._api = api

    async def resume(
        self, source: str, policy: Policy, issues: IssueRule, lease: Lease = PRIVATE, user: str = LAB_USER
    ) -> SessionRecord | None:
        """Resume the user's newest session of this source and owner that was interrupted; return None if there is none.

        Machines keep what they hold; all other runs wait until they are submitted again. A holder that was killed a
        moment ago may seem to be there for another moment.
        """
        for _ in range(MOMENTS):
            found, held = await self._resumed(source, policy, issues, lease, user)
            if not held:
                return found
            await asyncio.sleep(MOMENT)
        return None

    async def _resumed(
        self, source: str, policy: Policy, issues: IssueRule, lease: Lease, user: str
    ) -> tuple[SessionRecord | None, bool]:
        """Return the resumed session, if there is one, and whether its holder is still there."""
        async with self._lab_state.taking_back:
            self._lab_state.hand_over()
            await self._lab_state.on_disk()
            record = await self._lab_state.journal.background.last_unfinished(source, lease.owner, user)
            if record is None:
                return None, False
            if record.id not in self._lab_state.live_sessions:
                return await self._restore(record, policy, issues, lease), False
            if self._private or self._queue.table.is_held(record.id):
                self._lab_state.live_session(record.id).feed.wake()  # streams look whether their reader is still there
                return None, not self._private
            return await self._take_over(record.id, lease, policy, issues), False

    async def take_over(self, session: str, lease: Lease, policy: Policy, issues: IssueRule) -> SessionRecord:
        """Give a session to another holder, which submits again the runs that have not begun.

        Returns:
            The session's record with the new holder's epoch, even if yet another holder takes it over afterwards.

        Raises:
            UnknownError: There is no such session, or it was closed.
        """
        async with self._lab_state.taking_back:
            if session not in self._lab_state.live_sessions:
                record = await self._lab_state.journal.background.unfinished(session)
                if record is not None:
                    return await self._restore(record, policy, issues, lease)
            return await self._take_over(session, lease, policy, issues)

    async def restore_detached(self, record: SessionRecord) -> None:
        """Restore a detached session of an earlier lab: its runs go on to wait, since nobody submits them again.

        Raises:
            ConfigError: The lab does not know the kind of a run, or the kind has changed; nothing is restored.
        """
        async with self._lab_state.taking_back:
            if record.id not in self._lab_state.live_sessions:
                lease = Lease(kind=LeaseKind.DETACHED, owner=record.owner)
                await self._restore(record, record.policy, record.issues, lease, waits=False)

    async def come_back(
        self, session: str, epoch: int, lease: Lease, policy: Policy, issues: IssueRule
    ) -> tuple[SessionRecord, bool]:
        """Let a holder that lost its connections go on, even after its lease has ended or the lab was restarted.

        A holder whose answer to an earlier request of this kind was lost still has the epoch before; it is known by its
        name, and by nobody else's holding the session.

        Args:
            session: Id of the session.
            epoch: The epoch that the holder has.
            lease: The lease that it asks for if it has to take the session over.
            policy: Likewise.
            issues: Likewise.

        Returns:
            The session's record, and whether it was taken over: then its epoch is another one, and runs that have not
            begun wait until they are submitted again.

        Raises:
            UnknownError: There is no such session, or it was closed.
            StaleLeaseError: Another holder has it.
        """
        async with self._lab_state.taking_back:
            table = self._queue.table
            if session not in self._lab_state.live_sessions:
                record = await self._lab_state.journal.background.unfinished(session)
                if record is not None:
                    _check_comes_back(record, epoch, lease, held=False)
                    return await self._restore(record, policy, issues, lease), True
            record = self._lab_state.live_session(session).record
            if table.epoch(session) == epoch and table.is_attended(session):
                table.heard(session, epoch, self._now())
                return record, False
            _check_comes_back(record, epoch, lease, held=table.is_held(session))
            return await self._take_over(session, lease, policy, issues), True

    async def _take_over(self, session: str, lease: Lease, policy: Policy, issues: IssueRule) -> SessionRecord:
        live_session, lease = self._lab_state.live_session(session), granted(lease, self._now(), private=self._private)
        epoch = self._queue.table.take_over(session, lease, self._now())
        self._queue.sessions.take_over(session, policy, self._now())
        record = replace(
            live_session.record,
            owner=lease.owner,
            epoch=epoch,
            policy=policy,
            issues=issues,
            api=issues.api or self._api,
            lease=lease.kind,
        )
        self._lab_state.commit()
        self._lab_state.live_sessions[session] = live_session.handed_over(record)
        live_session.feed.wake()  # whose readers were the earlier holder's
        self._have_judged(session)
        self._lab_state.write([session_row(record)])
        self._lab_state.commit()
        self._lab_state.wake()
        await self._lab_state.on_disk()
        return record

    async def _restore(
        self, record: SessionRecord, policy: Policy, issues: IssueRule, lease: Lease, *, waits: bool = True
    ) -> SessionRecord:
        """Restore a session of an earlier lab, and return its record with the new holder's epoch.

        With `waits`, runs that have not begun wait until they are submitted again; without, its holder stays the same.

        Attempts on machines that the earlier lab had started end as faults of the lab, because the machines ended with
        it. If the journal was damaged, so do all others: what machines now run may have been in the lost part.
        """
        journal, kept = self._lab_state.journal, await self._kept(record.id)
        lease = granted(replace(lease, epoch=record.epoch + waits), self._now(), private=self._private)
        record = replace(
            record,
            epoch=lease.epoch,
            owner=lease.owner,
            lease=lease.kind,
            api=issues.api or self._api,
            policy=policy,
            issues=issues,
        )
        self._queue.sessions.restore(record.id, policy, kept.runs, self._now(), lease, kept.ran, source=record.source)
        # those that the queue has; what it has not taken back is never forgotten with the session
        self._lab_state.batches.know(run for run in kept.runs if run.id in self._queue.runs)
        self._lab_state.live_sessions[record.id] = live_session = LiveSession(record)
        self._lab_state.write([session_row(record)])
        self._recall(record.id, kept)
        self._fault_machines(record.id)
        self._have_judged(record.id)
        if waits:
            self._queue.sessions.hold_back(record.id, self._now())
        self._lab_state.commit()
        await self._lab_state.on_disk()  # otherwise the next lab might grant the same epoch
        # from now on, new issues are recorded there as well
        live_session.recall(await journal.background.of_issues(lambda reader: reader.filed(record.id)))
        self._lab_state.tracker.recall_links(await journal.background.of_issues(lambda reader: reader.links(record.id)))
        alive, runs = self._queue.transitions.run_index.alive, self._queue.sessions.runs_of(record.id)
        await self._want([run for run in runs if run.id in alive])
        return record

    def _fault_machines(self, session: str) -> None:
        """End attempts on machines that ended with the earlier lab; all of them, if the journal was damaged."""
        damage = self._lab_state.journal.damage
        why = "the journal was damaged" if damage else "the lab was restarted"
        for name, seen in list(self._queue.machines.items()):
            mine = seen.holds and self._queue.runs[seen.holds].session == session
            elsewhere = mine and self._queue.transitions.runs.record(seen.holds).lifecycle.elsewhere
            if mine and not elsewhere and (damage or seen.machine.driven):
                self._queue.scheduler.fault(name, why, self._now(), lab=True, excused=True)

    async def _kept(self, session: str) -> KeptSession:
        """Return what the journal has of a session that is not in memory."""
        self._lab_state.hand_over()
        await self._lab_state.on_disk()
        return await self._lab_state.journal.background.kept(session, RECALLED)

    def _have_judged(self, session: str) -> None:
        """Ask the new holder for verdicts and reviews still due; accept proposals if the session no longer judges."""
        for run in self._queue.sessions.runs_of(session):
            proposed = run.outcome is None and run.attempt.proposed is not None
            if proposed and not self._queue.table.policy(session).judged:
                self._queue.verdicts.amend(run.id, None, "", self._now())
            elif proposed or self._issues.drafts(run):
                self._lab_state.live_session(session).feed.note(
                    Change(run, CoreEvent.COMPLETE, run.attempt.number, self._now())
                )


def _check_comes_back(record: SessionRecord, epoch: int, lease: Lease, *, held: bool) -> None:
    """Refuse whoever is not the latest holder of a session.

    Raises:
        StaleLeaseError: Another holder has taken it over.
    """
    answer_was_lost = not held and record.epoch == epoch + 1 and lease.owner != ""
    if record.owner != lease.owner or not answer_was_lost:
        Lease(owner=record.owner, epoch=record.epoch).check(epoch)
