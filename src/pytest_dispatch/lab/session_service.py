"""What sessions ask of a lab: to open, submit runs, follow them, judge, cancel, and close; see `session_resumption`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import IssueRule, LiveSession
from pytest_dispatch.lab.state import LabState, UnknownError, refuse_new_work
from pytest_dispatch.store.journal import SessionRecord, session_row
from pytest_dispatch.store.records import LAB_USER

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Outcome, Policy, Run, Workload
    from pytest_dispatch.core.run_options import RunOptions

RECALLED = 100_000  # most console lines restored for an interrupted session
MOMENT, MOMENTS = 0.1, 15  # seconds, and how often, until a holder that was killed is known to be gone
HEARTBEAT = 1.0  # seconds without a change after which `changes` yields None as a sign of life


class SessionService:
    """The operations of sessions and their runs.

    Args:
        lab_state: The lab's.
        want: Prepares what runs need, such as their bytes.
        api: Address of the GitHub API for issues.
        private: Whether the lab belongs to one pytest and ends with it; then no session ends by silence.

    Attributes:
        readers: How many read changes of sessions now.
    """

    def __init__(
        self,
        lab_state: LabState,
        want: Callable[[list[Run]], Awaitable[None]],
        api: str,
        *,
        private: bool,
    ) -> None:
        self._lab_state = lab_state
        self.readers = 0
        self._now = lab_state.clock.now
        self._private = private
        self._queue = lab_state.queue
        self._want = want
        self._api = api
        self._saved: dict[str, dict[str, Run]] = {}  # finished runs in the journal of a broken lab, by session and run

    async def open(
        self,
        source: str,
        policy: Policy,
        issues: IssueRule,
        port: int,
        lease: Lease = PRIVATE,
        user: str = LAB_USER,
    ) -> str:
        """Open a session of a user, and return its id.

        Raises:
            LabError: The lab is stopping.
        """
        refuse_new_work(self._lab_state)
        lease = granted(lease, self._now(), private=self._private)
        opened = self._lab_state.journal.opening(self._now())
        record = SessionRecord(
            id=secrets.token_hex(6),
            source=source,
            opened=opened,
            policy=policy,
            port=port,
            owner=lease.owner,
            user=user,
            issues=issues,
            api=issues.api or self._api,
            lease=lease.kind,
        )
        self._queue.table.open(record.id, policy, lease, source)
        self._lab_state.live_sessions[record.id] = LiveSession(record)
        self._lab_state.write([session_row(record)])
        await self._lab_state.on_disk()
        return record.id

    async def submit(
        self,
        session: str,
        wanted: Iterable[tuple[str, Workload]],
        options: Mapping[str, RunOptions] = MappingProxyType({}),
    ) -> list[Run]:
        """Submit workloads by key; runs submitted before are unchanged, except those that a resumed session left.

        Args:
            session: Id of the session.
            wanted: The workloads, each with its key.
            options: What people choose for their runs, by key.

        Raises:
            UnknownError: There is no such session.
            ConfigError: One of them is invalid, so none is submitted.
            LabError: The lab is stopping.
            JournalError: It cannot be written.
        """
        refuse_new_work(self._lab_state)
        self._lab_state.live_session(session)
        sessions, wanted = self._queue.sessions, list(wanted)
        anew = {key for key, _ in wanted if sessions.is_wanted_anew(session, key)}
        runs = sessions.submit_all(session, wanted, self._now(), options)
        fresh = [run for run in runs if run.key in anew and run.outcome is None]
        self._lab_state.hand_over()  # first journal their state from before they were submitted again
        self._lab_state.batches.keep(fresh)
        self._lab_state.commit()
        await self._lab_state.on_disk()
        await self._want(fresh)
        self._lab_state.wake()
        return runs

    async def close(self, session: str, *, kept: bool = False, by: str = "") -> None:
        """Cancel all unfinished runs of the session; close it for good if there were none, unless `kept`.

        Args:
            session: Its id.
            kept: Whether it can still be resumed.
            by: Who ends it, if that is not its holder.

        Raises:
            UnknownError: There is no such session.
        """
        live, unfinished = self._lab_state.live_session(session), any(run.outcome is None for run in self.runs(session))
        self._queue.sessions.close(session, self._now(), f"{by}, who ended its session," if by else "")
        self._lab_state.commit()
        live.cut_off |= kept and unfinished
        if not (kept or unfinished or live.cut_off):
            self.finish(session)
            await self._lab_state.on_disk()
        elif not kept:
            self._queue.table.ended[session] = "it was cut off, and can be resumed"
            self._lab_state.commit()

    def finish(self, session: str) -> None:
        """Close a session for good whose runs are all over."""
        self._queue.table.close(session, self._now())
        self._lab_state.write([session_row(self._lab_state.live_session(session).record, self._now())])
        self._lab_state.commit()

    def leave(self, session: str) -> None:
        """End the session's lease: cancel what has not started; running attempts go on, and it can be resumed.

        Raises:
            UnknownError: There is no such session.
        """
        self._lab_state.live_session(session)
        self._queue.table.leave(session, self._now())
        self._queue.sessions.lapse(session, self._now())
        self._lab_state.commit()

    def forget(self, session: str) -> None:
        """Drop what is kept here of a session."""
        self._saved.pop(session, None)

    def heard(self, session: str, epoch: int) -> None:
        """Record a request of a session's holder.

        Raises:
            UnknownError: There is no such session.
            StaleLeaseError: Another holder has taken it over, or it has ended.
        """
        self._lab_state.live_session(session)
        self._queue.table.heard(session, epoch, self._now())

    async def user_of(self, session: str) -> str:
        """Return the user who opened a session, which may be in the journal only.

        Raises:
            UnknownError: There is no such session, or it was closed and forgotten.
        """
        live = self._lab_state.live_sessions.get(session)
        record = live.record if live else await self._lab_state.journal.background.unfinished(session)
        if record is None:
            raise UnknownError(f"no session {session!r}; open it first")
        return record.user

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

    def cancel(self, run_id: str, by: str = "") -> None:
        """Cancel a run because nobody waits for it any more; one that was cancelled already stays so.

        Args:
            run_id: The run.
            by: Who wants it; empty if no person does.

        Raises:
            UnknownError: There is no run with that id.
            NotQueuedError: It is over, and was not cancelled.
        """
        run = self.run(run_id)
        if run.outcome is not None and not run.cancelled:
            raise NotQueuedError(f"expected a run that is not over, got {run_id}, which has {run.outcome}")
        self._queue.verdicts.cancel(run_id, self._now(), by)
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

        The stream ends when the lab stops or breaks, when another holder takes the session over, or when the lab
        forgets the session, some time after it is over.

        Raises:
            UnknownError: There is no such session.
        """
        feed, table = self._lab_state.live_session(session).feed, self._queue.table
        reads, holds = table.epoch(session), -1 if epoch is None else epoch
        table.connected(session, holds, +1, self._now())
        self.readers += 1
        try:
            while not (self._lab_state.stopping or self._lab_state.broken) and table.has_epoch(session, reads):
                news = feed.news  # taken first, so that no change that comes meanwhile is missed
                for number, change in feed.after(after):
                    after = number
                    yield number, change
                yield None
                await self._lab_state.moved(HEARTBEAT, news)
        finally:
            self.readers -= 1
            table.connected(session, holds, -1, self._now())


def granted(lease: Lease, now: float, *, private: bool) -> Lease:
    """Return the lease granted now for the requested one; that of one pytest's lab does not end by silence."""
    kind = PRIVATE if private else lease
    return replace(lease, kind=kind.kind, lasts=kind.lasts, heard=now)
