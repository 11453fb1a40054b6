"""The one writer: what the queue changes is journalled, then told, in this order and nowhere else.

Theory of operation: on the lab's event loop only. Rows gather in a batch, in order. It goes to the journal as soon as
somebody waits for the disk, with one flush for all who begin to wait in the same turn of the loop; where nobody does,
after `BEHIND`. So a machine that asks does not cost a flush, and a thousand reports at once do not cost a thousand.
When the journal breaks, or something else that the lab cannot do without, `broken` says why, and those who serve others
answer nothing more but that.
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
    Letter,
    Row,
    event_row,
    hold_row,
    letter_row,
    machine_rows,
    run_rows,
    series_rows,
)

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.session_feed import Ledger


BEHIND = 0.02  # seconds that what nobody waits for may lie before it goes to the journal


class UnknownError(LabError):
    """There is no session or run of that id."""


class ChangeSubscriber(Protocol):
    """Who follows the changes of runs."""

    def changed(self, change: Change) -> None:
        """Do what follows from a change; it is handed to the journal already."""
        ...


class IssueSubscriber(Protocol):
    """Who follows the issues that become due."""

    def issue_due(self, letter: Letter) -> None:
        """Do what follows from an issue that became due; it is handed to the journal already."""
        ...


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows that go to the journal together.

    Attributes:
        runs: Those that changed, as they are since; the rows of one that changed several times are made once.
        ended: It is on disk, or cannot be written.
        error: Why it cannot.
        urgent: Somebody waits for it.
    """

    rows: list[Row] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None
    urgent: bool = False

    @property
    def holds_something(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.rows or self.runs)


class Writer:
    """Queue, journal, and those who wait for news.

    Args:
        clock: Tells the time.
        journal: Open.
        kinds: The kinds of workloads that there are.

    Attributes:
        digests: Of what is really run, by run, where its service knows.
        ledgers: Of the sessions, by id.
        broken: Why the lab answers nothing more, once that is so.
        taking_back: Held by whoever reads what the journal has of runs, and goes on from there.
        stopping: Whoever waits is to give up.
        news: Set when something moves; then there is another one.
    """

    def __init__(self, clock: Clock, journal: Journal, kinds: Kinds) -> None:
        self.queue = Queue(kinds)
        self.clock = clock
        self.journal = journal
        self.digests: dict[str, str] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.broken: DispatchError | None = None
        self.taking_back = asyncio.Lock()
        self.stopping = False
        self._of_changes: Sequence[ChangeSubscriber] = ()
        self._of_issues: Sequence[IssueSubscriber] = ()
        self.news = asyncio.Event()
        self._held: set[str] = set()  # machines that were ever kept out of scheduling
        self._written: dict[str, Run] = {}  # as the journal has them, or is about to
        self._batch = _Batch()
        self._last = _Batch()  # what went to the journal last
        self._last.ended.set()

    def subscribe(self, *, to_changes: Sequence[ChangeSubscriber], to_issues: Sequence[IssueSubscriber]) -> None:
        """Tell these, in their order, from now on; called once, when all parts of the lab are there."""
        self._of_changes = to_changes
        self._of_issues = to_issues

    def ledger(self, session: str) -> Ledger:
        """What is kept of a session.

        Raises:
            UnknownError: There is none of that id.
        """
        if session not in self.ledgers:
            raise UnknownError(f"no session {session!r}; open it first")
        return self.ledgers[session]

    def digest_of(self, run: Run) -> str:
        """Of the bytes served, else the one that the source promised."""
        return self.digests.get(run.id, run.workload.digest)

    def commit(self) -> None:
        """Journal what the queue has changed, then tell."""
        changes = self.queue.engine.take_changes()
        self.write(self._machine_rows())
        if not changes:
            return
        letters = [
            letter
            for change in changes
            for letter in self.ledger(change.run.session).due(change, self.digest_of(change.run))
        ]
        self.write([*map(event_row, changes), *map(letter_row, letters), *self._series_rows(changes)])
        self.keep(change.run for change in changes)
        for change in changes:
            for subscriber in self._of_changes:
                subscriber.changed(change)
        self._tell_of(letters)
        self.wake()

    def amend(self, change: Change, was: Run, letters: Sequence[Letter]) -> None:
        """Journal what happened to a run that only the journal has, as it `was`; no session is told of it.

        Whoever does this holds `taking_back`, and has it on disk before it lets go of that.
        """
        self.write([event_row(change), *run_rows(change.run, was), *map(letter_row, letters)])
        self._tell_of(letters)
        self.wake()

    def _tell_of(self, letters: Sequence[Letter]) -> None:
        """Tell those who file issues; the journal has these."""
        if letters:
            self.hand_over()  # what the outbox writes of a letter comes after it
        for letter in letters:
            for follower in self._of_issues:
                follower.issue_due(letter)

    def _series_rows(self, changes: Iterable[Change]) -> Iterator[Row]:
        for change in changes:
            ending = self.ledger(change.run.session).ending(change)
            if ending is not None:
                yield from series_rows(ending)

    def write(self, rows: Sequence[Row]) -> None:
        """Write behind, in order; `on_disk` waits for it."""
        if rows:
            self._begin()
            self._batch.rows += rows

    def keep(self, runs: Iterable[Run]) -> None:
        """Write behind what is new of these runs."""
        for run in runs:
            self._begin()
            self._batch.runs[run.id] = run

    def know(self, runs: Iterable[Run]) -> None:
        """Take these runs for what the journal has."""
        self._written.update((run.id, run) for run in runs)

    def forget(self, runs: Iterable[str]) -> None:
        """Drop what is kept of these runs."""
        for run in runs:
            self._written.pop(run, None)
            self.digests.pop(run, None)

    def _begin(self) -> None:
        """Have what is written from now on go to the journal soon, if nothing else is to already."""
        if not self._batch.holds_something:
            asyncio.get_running_loop().call_later(BEHIND, self._hand_over, self._batch)

    def _machine_rows(self) -> list[Row]:
        """Return the rows of machines of which something else is known since the last time."""
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
        """Let the journal have everything now."""
        self._hand_over(self._batch)

    async def on_disk(self) -> None:
        """Return when everything that was written so far is on disk.

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
            return  # it has gone already
        self._batch, self._last = _Batch(), batch
        loop = asyncio.get_running_loop()

        def ended(written: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop has ended: there is nobody left to be told
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
        """The lab cannot keep its word any more; the first reason stays."""
        self.broken = self.broken or error
        self.wake()

    def stop(self) -> None:
        """Whoever waits is to give up."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Something moved."""
        moved, self.news = self.news, asyncio.Event()
        moved.set()

    async def moved(self, seconds: float, news: asyncio.Event | None = None) -> None:
        """Return when something moves, or has moved since `news` was looked at, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (news or self.news).wait()
