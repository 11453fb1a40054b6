"""The one writer: what the queue changes is journalled, then told, in this order and nowhere else.

On the lab's event loop only. When the journal breaks, or something else that the lab cannot do without, `broken`
says why, and those who serve others answer nothing more but that.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import DispatchError, JournalError, LabError
from pytest_dispatch.core.queue import Change, Queue
from pytest_dispatch.core.states import Event
from pytest_dispatch.store.journal import Journal, Letter, Row, change_rows, letter_row

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.model import Report, Run
    from pytest_dispatch.lab.ledger import Ledger
    from pytest_dispatch.sources.cache import Asset


class UnknownError(LabError):
    """There is no session or run of that id."""


class Writer:
    """Queue, journal, and those who wait for news.

    Args:
        clock: Tells the time.
        journal: Open.
        on_change: Called with each change, once it is handed to the journal.
        on_letter: Called with each issue that became due; it is handed to the journal too.

    Attributes:
        assets: The bytes of workloads that are there, by run.
        ledgers: Of the sessions, by id.
        broken: Why the lab answers nothing more, once that is so.
        stopping: Whoever waits is to give up.
        news: Set when something moves; then there is another one.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        on_change: Callable[[Change], None],
        on_letter: Callable[[Letter], None],
    ) -> None:
        self.queue = Queue()
        self.clock = clock
        self.journal = journal
        self.assets: dict[str, Asset] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.broken: DispatchError | None = None
        self.stopping = False
        self._on_change = on_change
        self._on_letter = on_letter
        self.news = asyncio.Event()

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
        return self.assets[run.id].digest if run.id in self.assets else run.workload.digest

    def commit(self) -> Future[None] | None:
        """Journal what the queue has changed, then tell; the future resolves when it is on disk."""
        changes = self.queue.take_changes()
        if not changes:
            return None
        rows = [row for change in changes for row in change_rows(change, _report_in(change))]
        letters = [
            letter
            for change in changes
            for letter in self.ledger(change.run.session).due(change, self.digest_of(change.run))
        ]
        done = self.write([*rows, *map(letter_row, letters)])
        for change in changes:
            self.ledger(change.run.session).note(change)
            self._on_change(change)
        for letter in letters:
            self._on_letter(letter)
        self.wake()
        return done

    def write(self, rows: Sequence[Row]) -> Future[None]:
        """Write behind; the future resolves when these rows, and all before them, are on disk."""
        done = self.journal.write(rows)
        loop = asyncio.get_running_loop()

        def look(written: Future[None]) -> None:
            error = written.exception()
            if isinstance(error, JournalError):
                with suppress(RuntimeError):  # the loop has ended: there is nobody left to be told
                    loop.call_soon_threadsafe(self.fail, error)

        done.add_done_callback(look)
        return done

    async def on_disk(self, written: Future[None] | None = None) -> None:
        """Return when it is on disk; without a future, everything that was handed over so far.

        Raises:
            JournalError: It cannot be written.
        """
        # Shielded: a caller that is cancelled must not cancel what the journal's thread is about to resolve.
        await asyncio.shield(asyncio.wrap_future(written or self.write([])))

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


def known_by_address(machine: str) -> bool:
    """Whether a machine's name is its address: then it is none that the lab brings up."""
    try:
        ipaddress.ip_address(machine)
    except ValueError:
        return False
    return True


def _report_in(change: Change) -> Report | None:
    """The report that came with a change: the last one of its attempt."""
    return change.run.attempts[change.attempt - 1].reports[-1] if change.event is Event.REPORT else None
