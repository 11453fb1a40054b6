"""Statistics of the runs of a series: outcomes and durations, in bounded space.

A series is what people call the same workload: one kind, one source, one name, in any version. Durations are counted in
buckets whose bounds grow by 10 %, so that a quantile is accurate to five percent (Masson, Rim, Lee: DDSketch, VLDB
2019). Sketches can be merged by adding their counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome, Phase, Run

GROWTH = 1.1  # ratio of the bounds of neighbouring buckets
NO_BUCKET = -1  # in place of a bucket if there is no duration
SHORTEST = 0.001  # seconds; shorter durations count as this

_NEVER = {Phase.QUEUED, Phase.OVER}  # an attempt that goes from the queue straight to these never reached a machine


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """The key by which history is kept.

    Attributes:
        kind: The kind of the workload.
        origin: The name of its source.
        name: The name of the workload.
    """

    kind: str
    origin: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What one run adds to its series.

    Attributes:
        machines: Machines of its last attempt; empty if it reached none.
        seconds: From when the last attempt left the queue to its end; None if it never left the queue.
        flaky: Whether it passed, but not at the first attempt.
        at: When it ended.
    """

    series: Series
    machines: tuple[str, ...]
    outcome: Outcome
    seconds: float | None
    flaky: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """Statistics of a series, on one machine or on all.

    Attributes:
        outcomes: Number of runs by outcome.
        flaky: Number of passes that needed more than one attempt.
        buckets: Number of runs by the bucket of their duration; see `bucket_of`.
    """

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    flaky: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Return the number of runs."""
        return sum(self.outcomes.values())

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which this share of the runs ended; None if no duration is known.

        Args:
            share: From 0 to 1.
        """
        left = math.ceil(share * sum(self.buckets.values()))
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return seconds_of(bucket)
        return None


def bucket_of(seconds: float) -> int:
    """Return the bucket in which a duration is counted."""
    return math.ceil(math.log(max(seconds, SHORTEST) / SHORTEST, GROWTH))


def seconds_of(bucket: int) -> float:
    """Return the middle of a bucket; the error is at most five percent."""
    return SHORTEST * 2 * GROWTH**bucket / (GROWTH + 1)


def sketch_of_one(ending: Ending) -> Sketch:
    """Return the statistics of one run."""
    buckets = {} if ending.seconds is None else {bucket_of(ending.seconds): 1}
    return Sketch(outcomes={ending.outcome: 1}, flaky=int(ending.flaky), buckets=buckets)


def added_up(sketches: Iterable[Sketch]) -> Sketch:
    """Return the sum of several sketches."""
    outcomes: dict[Outcome, int] = {}
    buckets: dict[int, int] = {}
    flaky = 0
    for sketch in sketches:
        flaky += sketch.flaky
        for outcome, count in sketch.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
        for bucket, count in sketch.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
    return Sketch(outcomes=outcomes, flaky=flaky, buckets=buckets)


def ending_of(run: Run, origin: str) -> Ending | None:
    """Return what a run adds to its series; None if it has no outcome or was cancelled."""
    if run.outcome is None or run.cancelled:
        return None
    attempt = run.attempt
    left = next((moment for moment in attempt.history if moment.phase is not Phase.QUEUED), attempt.history[-1])
    return Ending(
        series=Series(run.workload.kind, origin, run.workload.name),
        machines=tuple(placement.machine for placement in attempt.placements),
        outcome=run.outcome,
        seconds=None if left.phase in _NEVER else max(0.0, attempt.since - left.at),
        flaky=run.flaky,
        at=attempt.since,
    )
