"""Writes what changes in a lab to its journal, in batches, and copes with a database server that is away.

It runs on the lab's event loop only. Rows gather in a batch, in order. A batch goes to the journal as soon as somebody
waits for the disk, with one flush for all who begin to wait in the same turn of the loop; if nobody waits, after
`BEHIND`. So a machine's request for work does not cost a flush, and a thousand simultaneous reports do not cost a
thousand.

While the journal's database server is away, `away` says why. The servers take nothing then, the lab's clock stands
still, so that nobody's time runs out unheard, and what the lab itself does (machines' output, notifications, issues)
waits in order until it can be written. That is limited: `OUTPUT` characters of output, `WAITING` rows, and the
journal's own deadline.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import AwayError, DispatchError, JournalError
from pytest_dispatch.store.journal import console_row, run_rows

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.console_lines import Line
    from pytest_dispatch.lab.pausable_clock import PausableClock
    from pytest_dispatch.store.journal import Deletion, Journal, Row

BEHIND = 0.02  # seconds that rows wait for a batch if nobody waits for the disk
OUTPUT = 4_000_000  # characters of machines' output that are kept while the server is away
WAITING = 200_000  # rows that may wait for it

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows that go to the journal together.

    Attributes:
        runs: The changed runs in their latest state; a run that changed several times is written once.
        shown: Console lines by run and attempt, with the time of the first; they become one row.
        ended: Set when the batch is on disk or cannot be written, and for a moment when its server is away.
        over: Whether it is on disk or cannot be written.
        error: Why it cannot be written.
        began: When it got its first rows, and so was to be handed over; infinity while it is empty.
        urgent: Whether somebody waits for it.
    """

    rows: list[Row | Deletion] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    shown: dict[tuple[str, int], tuple[float, list[str]]] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    error: BaseException | None = None
    began: float = math.inf
    urgent: bool = False

    async def told(self, patience: float | None) -> bool:
        """Return when it is on disk, cannot be written, or its server is away; False if nothing is told in time."""
        try:
            async with asyncio.timeout(patience):
                await self.ended.wait()
        except TimeoutError:
            return False
        return True


class JournalBatches:
    """Gathers rows, and hands them to the journal in batches.

    Args:
        journal: An open journal.
        clock: Returns the time.
        lab_clock: The lab's clock, which stands still while the server is away.
        fail: Told why the lab can no longer work.
        wake: Wakes everyone who waits for news, as `away` has changed.

    Attributes:
        away: Why nothing can be written now; None if it can.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        lab_clock: PausableClock,
        fail: Callable[[DispatchError], None],
        wake: Callable[[], None],
    ) -> None:
        self.away: AwayError | None = None
        self._journal = journal
        self._clock = clock
        self._lab_clock = lab_clock
        self._fail = fail
        self._wake = wake
        self._written: dict[str, Run] = {}  # runs as in the journal, or about to be
        self._batch = _Batch()
        self._last = _Batch()  # the batch that went to the journal last
        self._last.over = True
        self._unwritten: deque[_Batch] = deque()  # in order; the journal writes the first one first
        self._output = 0  # characters of output since the server went away
        self._dropped = 0  # lines of output that were not kept since
        self._waiting = 0  # rows that were handed over since

    def write(self, rows: Sequence[Row | Deletion]) -> None:
        """Add rows to the batch; `on_disk` waits until they are written. What they delete goes last."""
        if rows:
            self._begin()
            self._batch.rows += rows

    def keep(self, runs: Sequence[Run]) -> None:
        """Add the changes of these runs to the batch."""
        if runs:
            self._begin()
            self._batch.runs.update((run.id, run) for run in runs)

    def show(self, lines: Iterable[Line]) -> None:
        """Add console lines to the batch."""
        for run, attempt, at, text in lines:
            if self.away is not None:
                self._output += len(text) + 1
                if self._output > OUTPUT:
                    self._dropped += 1
                    continue
            self._begin()
            self._batch.shown.setdefault((run, attempt), (at, []))[1].append(text)

    def as_written(self, run: str) -> Run | None:
        """Return a run as it is in the journal, or is about to be; None if that is not known."""
        return self._written.get(run)

    def know(self, runs: Iterable[Run]) -> None:
        """Record these runs as already in the journal."""
        self._written.update((run.id, run) for run in runs)

    def forget(self, runs: Collection[str]) -> None:
        """Drop what is kept of these runs."""
        self.hand_over()  # else they would be kept anew when the batch in which one of them is goes to the journal
        for run in runs:
            self._written.pop(run, None)

    def behind(self) -> float:
        """Return the age of the oldest change that is not on disk, in seconds; 0 if all are."""
        return max(0.0, self._clock.now() - self._unwritten[0].began) if self._unwritten else 0.0

    def hand_over(self) -> None:
        """Hand the current batch over to the journal now."""
        self._hand_over(self._batch)

    async def on_disk(self) -> None:
        """Return when everything written so far is on disk.

        Raises:
            AwayError: Its server does not answer; it is written later, if the server comes back in time.
            JournalError: It cannot be written.
        """
        batch = self._batch if self._batch.began < math.inf else self._last
        if batch is self._batch and not batch.urgent:
            batch.urgent = True
            asyncio.get_running_loop().call_soon(self._hand_over, batch)
        patience = self._journal.patience
        if not batch.over and self.away is None and not await batch.told(patience):
            self._is_away(self._journal.late(f"it took longer than {patience:g} s for a few rows"))
        if batch.error is not None:
            raise batch.error
        if not batch.over:
            raise self.away or self._journal.late("it has begun to work again")

    def _begin(self) -> None:
        """Schedule the hand-over of the batch, if it is still empty."""
        if self._batch.began == math.inf:
            self._batch.began = self._clock.now()
            self._unwritten.append(self._batch)
            asyncio.get_running_loop().call_later(BEHIND, self._hand_over, self._batch)

    def _hand_over(self, batch: _Batch) -> None:
        if batch is not self._batch or batch.began == math.inf:
            return  # it was handed over already
        self._batch, self._last = _Batch(), batch
        loop = asyncio.get_running_loop()

        def ended(written: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop has ended, so nobody is waiting
                loop.call_soon_threadsafe(self._ended, batch, written.exception())

        def missing(error: AwayError) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._is_away, error)

        rows = [*batch.rows, *(row for run in batch.runs.values() for row in run_rows(run, self._written.get(run.id)))]
        rows += [console_row(*of, at, "\n".join(lines)) for of, (at, lines) in batch.shown.items()]
        self._written |= batch.runs
        if self.away is not None:
            self._waiting += len(rows)
            if self._waiting > WAITING:
                self._fail(JournalError(f"{self.away}; too much has gathered meanwhile"))
        self._journal.missing = missing
        self._journal.write(rows).add_done_callback(ended)

    def _ended(self, batch: _Batch, error: BaseException | None) -> None:
        self._unwritten.remove(batch)
        batch.over, batch.error = True, error
        batch.ended.set()
        if isinstance(error, JournalError):
            self._fail(error)
        elif error is None and self.away is not None:
            lost = f"; {self._dropped} lines of output were not kept" if self._dropped else ""
            self.away = None
            _log.warning(
                "the journal's server is back after %s%s", format_duration(round(self._lab_clock.go_on())), lost
            )
            self._wake()

    def _is_away(self, error: AwayError) -> None:
        """Take nothing until the server is back, and tell those who wait for it."""
        if self.away is not None or not self._unwritten:
            return
        _log.warning("%s", error)
        self.away, self._output, self._dropped, self._waiting = error, 0, 0, 0
        self._lab_clock.stand()
        for batch in self._unwritten:
            batch.ended.set()
            batch.ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        longest = self._journal.away + (self._journal.patience or 0.0)
        loop.call_later(longest, lambda: self._fail(error) if self.away is error else None)
        self._wake()
