"""The one writer: journals what the queue changes, then publishes it, in this order and nowhere else.

It runs on the lab's event loop only. Rows gather in a batch, in order. A batch goes to the journal as soon as somebody
waits for the disk, with one flush for all who begin to wait in the same turn of the loop; if nobody waits, after
`BEHIND`. So a machine's request for work does not cost a flush, and a thousand simultaneous reports do not cost a
thousand. When the journal or another essential part breaks, `broken` says why, and the servers answer requests with
that only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.errors import DispatchError, JournalError, LabError
from pytest_dispatch.core.kinds import Kinds
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Change
from pytest_dispatch.store.journal import (
    Journal,
    PendingIssue,
    Row,
    event_row,
    hold_row,
    issue_row,
    machine_rows,
    run_rows,
    series_rows,
)

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.session_feed import LiveSession


BEHIND = 0.02  # seconds that rows wait for a batch if nobody waits for the disk


class UnknownError(LabError):
    """There is no session or run with that id."""


class ChangeSubscriber(Protocol):
    """A subscriber to the changes of runs."""

    def changed(self, change: Change) -> None:
        """React to a change, which has already been handed to the journal."""
        ...


class IssueSubscriber(Protocol):
    """A subscriber to issues that become due."""

    def issue_due(self, pending: PendingIssue) -> None:
        """React to an issue that became due, which has already been handed to the journal."""
        ...


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows that go to the journal together.

    Attributes:
        runs: The changed runs in their latest state; a run that changed several times is written once.
        ended: Set when the batch is on disk or cannot be written.
        error: Why it cannot be written.
        urgent: Whether somebody waits for it.
    """

    rows: list[Row] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None
    urgent: bool = False

    @property
    def holds_something(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.rows or self.runs)


class LabState:
    """The queue, its journal, and the wake-up of those who wait for news.

    Args:
        clock: Returns the time.
        journal: An open journal.
        kinds: The rules of the kinds of workloads, by name.

    Attributes:
        digests: The digest of the bytes really run, by run, where the service knows it.
        live_sessions: The ledgers of the sessions, by id.
        broken: Why the lab no longer works; None if it works.
        taking_back: Lock for reading runs from the journal and continuing from that state.
        stopping: Whether the lab is stopping, so that waiting callers must give up.
        news: Set when something changes, and then replaced by a new event.
    """

    def __init__(self, clock: Clock, journal: Journal, kinds: Kinds) -> None:
        self.queue = Queue(kinds)
        self.clock = clock
        self.journal = journal
        self.digests: dict[str, str] = {}
        self.live_sessions: dict[str, LiveSession] = {}
        self.broken: DispatchError | None = None
        self.taking_back = asyncio.Lock()
        self.stopping = False
        self._of_changes: Sequence[ChangeSubscriber] = ()
        self._of_issues: Sequence[IssueSubscriber] = ()
        self.news = asyncio.Event()
        self._held: set[str] = set()  # machines that were ever held
        self._written: dict[str, Run] = {}  # runs as in the journal, or about to be
        self._batch = _Batch()
        self._last = _Batch()  # the batch that went to the journal last
        self._last.ended.set()

    def subscribe(self, *, to_changes: Sequence[ChangeSubscriber], to_issues: Sequence[IssueSubscriber]) -> None:
        """Set the subscribers, in order; called once, when all parts of the lab exist."""
        self._of_changes = to_changes
        self._of_issues = to_issues

    def live_session(self, session: str) -> LiveSession:
        """Return the ledger of a session.

        Raises:
            UnknownError: There is no session with that id.
        """
        if session not in self.live_sessions:
            raise UnknownError(f"no session {session!r}; open it first")
        return self.live_sessions[session]

    def digest_of(self, run: Run) -> str:
        """Return the digest of the bytes served to a run, else the one that the source announced."""
        return self.digests.get(run.id, run.workload.digest)

    def commit(self) -> None:
        """Journal the queue's changes, then tell the subscribers."""
        changes = self.queue.transitions.take_changes()
        self.write(self._machine_rows())
        if not changes:
            return
        pending_issues = [
            pending
            for change in changes
            for pending in self.live_session(change.run.session).due(change, self.digest_of(change.run))
        ]
        self.write([*map(event_row, changes), *map(issue_row, pending_issues), *self._series_rows(changes)])
        self.keep(change.run for change in changes)
        for change in changes:
            for subscriber in self._of_changes:
                subscriber.changed(change)
        self._tell_of(pending_issues)
        self.wake()

    def amend(self, change: Change, was: Run, pending_issues: Sequence[PendingIssue]) -> None:
        """Journal an event of a run that is only in the journal, where it stood as `was`; no session is told.

        The caller holds `taking_back`, and waits for the disk before it releases it.
        """
        self.write([event_row(change), *run_rows(change.run, was), *map(issue_row, pending_issues)])
        self._tell_of(pending_issues)
        self.wake()

    def _tell_of(self, pending_issues: Sequence[PendingIssue]) -> None:
        """Tell the issue subscribers about letters that are in the journal."""
        if pending_issues:
            self.hand_over()  # so that the outbox's own rows come after these
        for pending in pending_issues:
            for follower in self._of_issues:
                follower.issue_due(pending)

    def _series_rows(self, changes: Iterable[Change]) -> Iterator[Row]:
        for change in changes:
            ending = self.live_session(change.run.session).ending(change)
            if ending is not None:
                yield from series_rows(ending)

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows to the batch; `on_disk` waits until they are written."""
        if rows:
            self._begin()
            self._batch.rows += rows

    def keep(self, runs: Iterable[Run]) -> None:
        """Add the changes of these runs to the batch."""
        for run in runs:
            self._begin()
            self._batch.runs[run.id] = run

    def know(self, runs: Iterable[Run]) -> None:
        """Record these runs as already in the journal."""
        self._written.update((run.id, run) for run in runs)

    def forget(self, runs: Iterable[str]) -> None:
        """Drop what is kept of these runs."""
        for run in runs:
            self._written.pop(run, None)
            self.digests.pop(run, None)

    def _begin(self) -> None:
        """Schedule the hand-over of the batch, if it is still empty."""
        if not self._batch.holds_something:
            asyncio.get_running_loop().call_later(BEHIND, self._hand_over, self._batch)

    def _machine_rows(self) -> list[Row]:
        """Return rows for the machines that changed since the last call."""
        machines, rows = self.queue.machines, list[Row]()
        while machines.changed:
            name, _ = machines.changed.popitem()
            seen = machines[name]
            rows += machine_rows(seen.machine)
            if seen.hold is not None or name in self._held:
                rows.append(hold_row(name, seen.hold))
                self._held.add(name)
        return rows

    def hand_over(self) -> None:
        """Hand the current batch over to the journal now."""
        self._hand_over(self._batch)

    async def on_disk(self) -> None:
        """Return when everything written so far is on disk.

        Raises:
            JournalError: It cannot be written.
        """
        batch = self._batch if self._batch.holds_something else self._last
        if batch is self._batch and not batch.urgent:
            batch.urgent = True
            asyncio.get_running_loop().call_soon(self._hand_over, batch)
        await batch.ended.wait()
        if batch.error is not None:
            raise batch.error

    def _hand_over(self, batch: _Batch) -> None:
        if batch is not self._batch or not batch.holds_something:
            return  # it was handed over already
        self._batch, self._last = _Batch(), batch
        loop = asyncio.get_running_loop()

        def ended(written: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop has ended, so nobody is waiting
                loop.call_soon_threadsafe(self._ended, batch, written.exception())

        rows = [*batch.rows, *(row for run in batch.runs.values() for row in run_rows(run, self._written.get(run.id)))]
        self._written |= batch.runs
        self.journal.write(rows).add_done_callback(ended)

    def _ended(self, batch: _Batch, error: BaseException | None) -> None:
        batch.error = error
        batch.ended.set()
        if isinstance(error, JournalError):
            self.fail(error)

    def fail(self, error: DispatchError) -> None:
        """Mark the lab as broken; the first reason stays."""
        self.broken = self.broken or error
        self.wake()

    def stop(self) -> None:
        """Tell everyone who waits to give up, because the lab stops."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Wake everyone who waits for news."""
        moved, self.news = self.news, asyncio.Event()
        moved.set()

    async def moved(self, seconds: float, news: asyncio.Event | None = None) -> None:
        """Return when something changes, has changed since `news` was read, or after this many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (news or self.news).wait()
