"""When the patience with each attempt that waits ends."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_dispatch.core.lifecycle import Since

if TYPE_CHECKING:
    from pytest_dispatch.core.runs import RunRecord

JUDGING = 300.0  # seconds in which a session that judges for itself has to: its hooks are asked one after the other


class Deadlines:
    """A heap of deadlines.

    An entry whose attempt has moved on is dropped when it comes to the top; one whose deadline was put off meanwhile
    goes back with the new one. So nothing has to be looked for when an attempt moves.

    Attributes:
        active: When a machine was last busy, or bytes last arrived; runs that wait may count from there.
    """

    def __init__(self) -> None:
        self.active = 0.0
        self._heap: list[tuple[float, int, int, str, RunRecord]] = []
        self._count = 0  # tells apart what is otherwise equal

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, record: RunRecord) -> None:
        """Note that the attempt has come into another state, or has to wait there anew."""
        attempt = record.run.attempt
        self._count += 1
        heapq.heappush(self._heap, (self.due(record), self._count, attempt.number, attempt.state, record))

    def forget(self) -> None:
        """Drop what does not count any more, which otherwise lies until its time has come."""
        self._heap = [each for each in self._heap if self._counts(each[4], each[2], each[3])]
        heapq.heapify(self._heap)

    def _counts(self, record: RunRecord, number: int, state: str) -> bool:
        run = record.run
        return run.outcome is None and (run.attempt.number, run.attempt.state) == (number, state)

    def passed(self, now: float) -> Iterator[RunRecord]:
        """Yield the runs whose deadline has come; the caller moves each before it asks for the next."""
        while self._heap and self._heap[0][0] <= now:
            _, _, number, state, record = heapq.heappop(self._heap)
            if not self._counts(record, number, state):
                continue
            if self.due(record) > now:
                self.watch(record)
            else:
                yield record

    def due(self, record: RunRecord) -> float:
        """Return when the patience with the latest attempt ends."""
        run, attempt = record.run, record.run.attempt
        if record.waits_its_turn:
            return math.inf  # those before it have deadlines
        since = max(attempt.since, record.begin)
        wait = record.lifecycle.states[attempt.state].wait
        if wait is None:  # it is over, and its session is to judge
            return since + JUDGING
        patience = self.patience(record)
        match wait.since:
            case Since.ACTIVE:
                since = max(since, self.active)
            case Since.PROGRESS:
                patience += min(max(0.0, record.progressed - since), run.limits[wait.stretch])
            case Since.REPORT:
                patience += max([since, *(report.at for report in attempt.reports)]) - since
        if wait.at_most:
            patience = min(patience, max(run.limits[wait.at_most], wait.seconds))
        return since + patience

    def is_too_slow(self, record: RunRecord, now: float) -> str:
        """Return what is wrong with an attempt whose deadline passed while it made progress; empty if it made none."""
        wait = record.lifecycle.states[record.run.attempt.state].wait
        if wait is None or wait.since is not Since.PROGRESS:
            return ""
        return wait.too_slow if now < record.progressed + self.patience(record) else ""

    def patience(self, record: RunRecord) -> float:
        """Return how long the latest attempt may be in its state, in seconds, from whenever that counts."""
        wait = record.lifecycle.states[record.run.attempt.state].wait
        return wait.seconds + sum(record.run.limits[name] for name in wait.limits) if wait else JUDGING
