"""When each waiting attempt's patience ends."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping

from pytest_dispatch.core.attempts import GRACE, reporting
from pytest_dispatch.core.model import Expect, Run, State

SLOWEST = 2**16  # bytes a second: a download that is slower than this to the end holds its workload back for nothing
JUDGING = 300.0  # seconds in which a session that judges for itself has to: its hooks are asked one after the other


class Deadlines:
    """A heap of deadlines.

    An entry whose attempt has moved on is dropped when it comes to the top; one whose deadline was put off meanwhile
    goes back with the new one. So nothing has to be looked for when an attempt moves.

    Attributes:
        begin: Nothing counts from before; moved when a lab takes up what another one left.
        active: When a machine was last busy, or bytes last arrived; runs that wait count from there.
    """

    def __init__(self, taken_at: Callable[[str], float]) -> None:
        """Args: taken_at: When a machine last began a download or took bytes."""
        self.begin = 0.0
        self.active = 0.0
        self._taken_at = taken_at
        self._heap: list[tuple[float, str, int, State]] = []

    def watch(self, run: Run) -> None:
        """Its attempt has come into another state, or has to wait there anew."""
        heapq.heappush(self._heap, (self._due(run), run.id, run.attempt.number, run.attempt.state))

    def passed(self, now: float, runs: Mapping[str, Run]) -> Iterator[Run]:
        """The runs whose latest attempt's deadline has come; the caller moves each before it asks for the next."""
        while self._heap and self._heap[0][0] <= now:
            _, run_id, number, state = heapq.heappop(self._heap)
            run = runs[run_id]
            if run.outcome is not None or (run.attempt.number, run.attempt.state) != (number, state):
                continue
            if self._due(run) > now:
                self.watch(run)
            else:
                yield run

    def too_slow(self, run: Run, now: float) -> bool:
        """Whether a deadline that has passed is that of a download which went on all the time."""
        return run.attempt.state is State.DOWNLOADING and now < self._taken_at(run.attempt.machine) + run.limits.assign

    def _due(self, run: Run) -> float:
        attempt, limits = run.attempt, run.limits
        since = max(attempt.since, self.begin)
        match attempt.state:
            case State.UNASSIGNED:
                since, patience = max(since, self.active), limits.assign
            case State.ASSIGNED:
                patience = limits.assign
            case State.DOWNLOADING:
                silent = max(since, self._taken_at(attempt.machine)) - since
                patience = limits.assign + min(silent, run.workload.size / SLOWEST)
            case State.DOWNLOADED:
                # what only comes back does not tell booting from running
                patience = limits.boot + (limits.report if run.expect is Expect.RETURN else 0.0)
            case State.BOOTING:
                patience = limits.report
            case State.REPORTED:
                latest = max([since, *(report.at for report in attempt.reports)])
                patience = min(latest - since + GRACE, reporting(limits))
            case _:
                patience = JUDGING
        return since + patience
