"""Deadlines: when the lab stops waiting for each attempt."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pytest_dispatch.core.lifecycle import Since

if TYPE_CHECKING:
    from pytest_dispatch.core.runs import RunRecord

JUDGING = 300.0  # seconds in which a session must judge an attempt; its hooks are called one after the other


class Deadlines:
    """A heap of deadlines.

    Entries are checked only when they reach the top: an entry whose attempt has moved on is dropped, and one whose
    deadline was postponed is put back with the new deadline. So moving an attempt needs no search of the heap.

    Attributes:
        open_since: Returns since when a waiting run may begin; infinity while it or its group is held or its group has
            as many runs under way as it may.
        active: When a machine was last busy, or bytes last arrived; the deadlines of waiting runs may count from then.
    """

    def __init__(self) -> None:
        self.active = 0.0
        self.open_since: Callable[[RunRecord], float] = lambda _record: 0.0
        self._heap: list[tuple[float, int, int, str, RunRecord]] = []
        self._count = 0  # orders entries that have the same deadline

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, record: RunRecord, after: float = 0.0) -> None:
        """Add the deadline of an attempt that entered a state, or whose wait was restarted.

        A run that may not begin has no deadline yet; it is looked at again when one that begins to wait now, or at
        `after`, would have waited for too long.
        """
        attempt, due = record.run.attempt, self.due(record)
        if due == math.inf and not record.waits_its_turn:
            due = max(attempt.since, record.begin, after) + self.patience(record)
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, attempt.number, attempt.state, record))

    def forget(self) -> None:
        """Drop entries that no longer count, which would otherwise stay until their deadline."""
        self._heap = [each for each in self._heap if self._counts(each[4], each[2], each[3])]
        heapq.heapify(self._heap)

    def _counts(self, record: RunRecord, number: int, state: str) -> bool:
        run = record.run
        return run.outcome is None and (run.attempt.number, run.attempt.state) == (number, state)

    def passed(self, now: float) -> Iterator[RunRecord]:
        """Yield the runs whose deadline has passed; the caller must move each one before it asks for the next."""
        while self._heap and self._heap[0][0] <= now:
            _, _, number, state, record = heapq.heappop(self._heap)
            if not self._counts(record, number, state):
                continue
            if self.due(record) > now:
                self.watch(record, now)
            else:
                yield record

    def due(self, record: RunRecord) -> float:
        """Return the deadline of the latest attempt, in epoch seconds."""
        run, attempt = record.run, record.run.attempt
        if record.waits_its_turn:
            return math.inf  # the runs before it in the chain have deadlines
        since = max(attempt.since, record.begin)
        if record.is_waiting:
            since = max(since, self.open_since(record))
        wait = record.lifecycle.states[attempt.state].wait
        if wait is None:  # the attempt has ended, and its session is to judge it
            return since + JUDGING
        patience = self.patience(record)
        match wait.since:
            case Since.ACTIVE if not record.checks:  # what other machines do is no sign of the only one
                since = max(since, self.active)
            case Since.PROGRESS:
                patience += min(max(0.0, record.progressed - since), run.limits[wait.stretch])
            case Since.REPORT:
                patience += max([since, *(report.at for report in attempt.reports)]) - since
        if wait.at_most:
            patience = min(patience, max(run.limits[wait.at_most], wait.seconds))
        return since + patience

    def is_too_slow(self, record: RunRecord, now: float) -> str:
        """Return the fault text for an attempt that missed its deadline in spite of progress; empty if it made none."""
        wait = record.lifecycle.states[record.run.attempt.state].wait
        if wait is None or wait.since is not Since.PROGRESS:
            return ""
        return wait.too_slow if now < record.progressed + self.patience(record) else ""

    def patience(self, record: RunRecord) -> float:
        """Return how many seconds the latest attempt may stay in its state, from the time at which its wait begins."""
        wait = record.lifecycle.states[record.run.attempt.state].wait
        return wait.seconds + sum(record.run.limits[name] for name in wait.limits) if wait else JUDGING
