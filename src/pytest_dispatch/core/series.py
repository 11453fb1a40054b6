"""What is kept of the runs of a series: outcomes, and how long they took, in a space that does not grow with them.

A series is what people call the same workload: of one kind, from one source, by one name; whichever version of it.
Durations are counted in buckets whose bounds grow by a tenth, so that a quantile is told within five percent
(Masson, Rim, Lee: DDSketch, VLDB 2019). Counts of several sketches add up to one of them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome, Phase, Run

GROWTH = 1.1  # of the bounds of buckets
NO_BUCKET = -1  # where there is no duration to be counted
SHORTEST = 0.001  # seconds; what is shorter is counted with it

_NEVER = {Phase.QUEUED, Phase.OVER}  # an attempt that comes from the queue to these has never left it for a machine


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What history is kept by.

    Attributes:
        kind: Of the workload.
        origin: Where it comes from: the name of its source.
        name: Its own.
    """

    kind: str
    origin: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What one run adds to its series.

    Attributes:
        machines: On which its last attempt ran; empty if it came to none.
        seconds: From when that left the queue to its end; None if it never left it.
        flaky: It passed, but not at the first try.
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
    """What is known of a series, on one machine or on all.

    Attributes:
        outcomes: How often each came.
        flaky: How many passes came late.
        buckets: How many runs took how long, by `bucket_of`.
    """

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    flaky: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Return how many runs it is made of."""
        return sum(self.outcomes.values())

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which such a share of the runs was through; None if none is known.

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
    """Return the middle of a bucket, off by five percent of what is counted there at most."""
    return SHORTEST * 2 * GROWTH**bucket / (GROWTH + 1)


def added_up(sketches: Iterable[Sketch]) -> Sketch:
    """Return one sketch of all."""
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
    """Return what a run adds to its series; None if it has no outcome, or nobody waited for it."""
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
