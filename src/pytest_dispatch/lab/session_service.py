"""What sessions ask of a lab: to open, submit runs, follow them, judge, cancel, and close."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import IssueRule, LiveSession
from pytest_dispatch.lab.state import LabState, UnknownError
from pytest_dispatch.store.journal import KeptSession, SessionRecord, session_row

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Outcome, Policy, Run, Workload
    from pytest_dispatch.lab.issue_reviews import IssueReviews

RECALLED = 100_000  # most console lines restored for an interrupted session
HEARTBEAT = 1.0  # seconds without a change after which `changes` yields None as a sign of life


class SessionService:
    """The operations of sessions and their runs.

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
        self._private = private
        self._queue = lab_state.queue
        self._want = want
        self._recall = recall
        self._issues = issues
        self._api = api
        self._saved: dict[str, dict[str, Run]] = {}  # finished runs in the journal of a broken lab, by session and run
        self._cut_off: set[str] = set()  # sessions closed with unfinished runs, kept for resuming

    async def open(self, source: str, policy: Policy, issues: IssueRule, port: int, lease: Lease = PRIVATE) -> str:
        """Open a session, and return its id."""
        opened = self._lab_state.journal.opening(self._now())
        record = SessionRecord(
            id=secrets.token_hex(6),
            source=source,
            opened=opened,
            policy=policy,
            port=port,
            owner=lease.owner,
            issues=issues,
            api=self._api,
        )
        self._queue.table.open(record.id, policy, self._granted(lease))
        self._lab_state.live_sessions[record.id] = LiveSession(record)
        self._lab_state.write([session_row(record)])
        await self._lab_state.on_disk()
        return record.id

    def _granted(self, lease: Lease) -> Lease:
        """Return the lease granted now for the requested one."""
        kind = PRIVATE if self._private else lease
        return replace(lease, kind=kind.kind, lasts=kind.lasts, heard=self._now())

    async def resume(
        self, source: str, policy: Policy, issues: IssueRule, lease: Lease = PRIVATE
    ) -> SessionRecord | None:
        """Resume the owner's newest session of this source that was interrupted; return None if there is none.

        Machines keep what they hold; all other runs wait until they are submitted again.
        """
        async with self._lab_state.taking_back:
            self._lab_state.hand_over()
            await self._lab_state.on_disk()
            record = await self._lab_state.journal.background.last_unfinished(source, lease.owner)
            if record is None:
                return None
            if record.id not in self._lab_state.live_sessions:
                return await self._restore(record, policy, issues, lease)
            if self._queue.table.is_held(record.id) or self._private:
                return None
            return await self._take_over(record.id, lease, policy, issues)

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

    async def _take_over(self, session: str, lease: Lease, policy: Policy, issues: IssueRule) -> SessionRecord:
        live_session = self._lab_state.live_session(session)
        epoch = self._queue.table.take_over(session, self._granted(lease), self._now())
        self._queue.sessions.take_over(session, policy, self._now())
        record = replace(live_session.record, owner=lease.owner, epoch=epoch, policy=policy, issues=issues)
        self._lab_state.commit()
        self._lab_state.live_sessions[session] = live_session.handed_over(record)
        self._have_judged(session)
        self._cut_off.discard(session)
        self._lab_state.write([session_row(record)])
        self._lab_state.commit()
        self._lab_state.wake()
        await self._lab_state.on_disk()
        return record

    async def _restore(self, record: SessionRecord, policy: Policy, issues: IssueRule, lease: Lease) -> SessionRecord:
        """Restore a session of an earlier lab, and return its record with the new holder's epoch.

        Attempts on machines that the earlier lab had started end as faults of the lab, because the machines ended with
        it. If the journal was damaged, so do all others: what machines now run may have been in the lost part.
        """
        journal, kept = self._lab_state.journal, await self._kept(record.id)
        epoch, owner = record.epoch + 1, lease.owner
        record = replace(record, epoch=epoch, owner=owner, policy=policy, issues=issues, api=self._api)
        granted = self._granted(replace(lease, epoch=record.epoch))
        self._queue.sessions.restore(record.id, policy, kept.runs, self._now(), granted, kept.ran)
        self._lab_state.know(kept.runs)
        self._lab_state.live_sessions[record.id] = live_session = LiveSession(record)
        self._lab_state.write([session_row(record)])
        self._recall(record.id, kept)
        why = "the journal was damaged" if journal.damage else "the lab was restarted"
        for name, seen in list(self._queue.machines.items()):
            mine = seen.holds and self._queue.runs[seen.holds].session == record.id
            elsewhere = mine and self._queue.transitions.runs.record(seen.holds).lifecycle.elsewhere
            if mine and not elsewhere and (journal.damage or seen.machine.driven):
                self._queue.scheduler.fault(name, why, self._now(), lab=True)
        self._have_judged(record.id)
        self._queue.sessions.hold_back(record.id, self._now())
        self._lab_state.commit()
        await self._lab_state.on_disk()  # otherwise the next lab might grant the same epoch
        live_session.recall(
            await journal.background.filed(record.id)
        )  # from now on, new issues are recorded there as well
        await self._want([run for run in self.runs(record.id) if run.id in self._queue.transitions.run_index.alive])
        return record

    async def _kept(self, session: str) -> KeptSession:
        """Return what the journal has of a session that is not in memory."""
        self._lab_state.hand_over()
        await self._lab_state.on_disk()
        return await self._lab_state.journal.background.kept(session, RECALLED)

    def _have_judged(self, session: str) -> None:
        """Ask the new holder for verdicts and reviews still due; accept proposals if the session no longer judges."""
        for run in self.runs(session):
            proposed = run.outcome is None and run.attempt.proposed is not None
            if proposed and not self._queue.table.policy(session).judged:
                self._queue.verdicts.amend(run.id, None, "", self._now())
            elif proposed or self._issues.drafts(run):
                self._lab_state.live_session(session).feed.note(
                    Change(run, CoreEvent.COMPLETE, run.attempt.number, self._now())
                )

    async def submit(self, session: str, wanted: Iterable[tuple[str, Workload]]) -> list[Run]:
        """Submit workloads by key; runs submitted before are unchanged, except those that a resumed session left.

        Raises:
            UnknownError: There is no such session.
            ConfigError: One of them is invalid, so none is submitted.
            JournalError: It cannot be written.
        """
        self._lab_state.live_session(session)
        sessions, wanted = self._queue.sessions, list(wanted)
        anew = {key for key, _ in wanted if sessions.is_wanted_anew(session, key)}
        runs = sessions.submit_all(session, wanted, self._now())
        fresh = [run for run in runs if run.key in anew and run.outcome is None]
        self._lab_state.hand_over()  # first journal their state from before they were submitted again
        self._lab_state.keep(fresh)
        self._lab_state.commit()
        await self._lab_state.on_disk()
        await self._want(fresh)
        self._lab_state.wake()
        return runs

    async def close(self, session: str, *, kept: bool = False) -> None:
        """Cancel all unfinished runs of the session; close it for good if there were none, unless `kept`.

        Raises:
            UnknownError: There is no such session.
        """
        unfinished = [run for run in self.runs(session) if run.outcome is None]
        self._queue.sessions.close(session, self._now())
        self._lab_state.commit()
        if kept and unfinished:
            self._cut_off.add(session)
        if not (kept or unfinished or session in self._cut_off):
            self._queue.table.close(session, self._now())
            self._lab_state.write([session_row(self._lab_state.live_session(session).record, self._now())])
            await self._lab_state.on_disk()

    def forget(self, session: str) -> None:
        """Drop what is kept here of a session."""
        self._saved.pop(session, None)
        self._cut_off.discard(session)

    def heard(self, session: str, epoch: int) -> None:
        """Record a request of a session's holder.

        Raises:
            UnknownError: There is no such session.
            StaleLeaseError: Another holder has taken it over, or it has ended.
        """
        self._lab_state.live_session(session)
        self._queue.table.heard(session, epoch, self._now())

    def runs(self, session: str) -> list[Run]:
        """Return the session's runs.

        Raises:
            UnknownError: There is no such session.
        """
        self._lab_state.live_session(session)
        return self._queue.sessions.runs_of(session)

    def run(self, run_id: str) -> Run:
        """Return one run in its current state.

        Raises:
            UnknownError: There is no run with that id.
        """
        if run_id not in self._queue.runs:
            raise UnknownError(f"no run {run_id!r}; submit it first")
        return self._queue.runs[run_id]

    async def saved(self, run_id: str) -> Run:
        """Return a run whose outcome was on disk when the lab broke; a broken lab can return nothing else.

        Raises:
            UnknownError: There is no run with that id.
            DispatchError: The run had no outcome; the text says why the lab is broken.
        """
        session = self.run(run_id).session
        if session not in self._saved:
            runs: list[Run] = []
            with suppress(JournalError):
                runs = await self._lab_state.journal.background.runs(session)
            self._saved[session] = {run.id: run for run in runs if run.outcome}
        if run_id not in self._saved[session]:
            raise self._lab_state.broken or UnknownError(f"no run {run_id!r} in the journal")
        return self._saved[session][run_id]

    def cancel(self, run_id: str) -> None:
        """Cancel a run because nobody waits for it any more.

        Raises:
            UnknownError: There is no run with that id.
        """
        self._queue.verdicts.cancel(self.run(run_id).id, self._now())
        self._lab_state.commit()

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, *, final: bool = False) -> None:
        """Apply the session's own verdict; None accepts the proposed outcome, `final` rules out a retry.

        Raises:
            UnknownError: There is no such run.
        """
        self._queue.verdicts.amend(self.run(run_id).id, outcome, reason, self._now(), final=final)
        self._lab_state.commit()

    async def changes(
        self, session: str, after: int, epoch: int | None = None
    ) -> AsyncGenerator[tuple[int, Change] | None, None]:
        """Yield the session's changes with numbers above `after` as they come, and None whenever there are no more yet.

        A reader that is far behind does not get all of them (see `Feed`). Reading with the holder's epoch counts as an
        open connection of the holder; reading without an epoch does not.

        The stream ends when the lab stops or breaks, or another holder takes the session over.

        Raises:
            UnknownError: There is no such session.
        """
        feed, table = self._lab_state.live_session(session).feed, self._queue.table
        reads, holds = table.epoch(session), -1 if epoch is None else epoch
        table.connected(session, holds, +1, self._now())
        try:
            while not (self._lab_state.stopping or self._lab_state.broken) and table.epoch(session) == reads:
                news = self._lab_state.news  # taken first, so that no change that comes meanwhile is missed
                for number, change in feed.after(after):
                    after = number
                    yield number, change
                yield None
                await self._lab_state.moved(HEARTBEAT, news)
        finally:
            table.connected(session, holds, -1, self._now())

    def _now(self) -> float:
        return self._lab_state.clock.now()
