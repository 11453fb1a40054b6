"""How a lab has done over a time: outcomes, waits, machines, states and flaky workloads, as charts show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_dispatch.core.model import Outcome, Phase

#: Times that charts show, with the seconds of a slot and the number of slots.
OVER = {"1h": (60, 60), "24h": (1800, 48), "7d": (7200, 84), "30d": (43_200, 60)}
USUAL = "24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time that charts show, in slots of the same length that begin at whole multiples of it.

    Attributes:
        width: Length of a slot, in seconds.
        slots: Number of slots.
        first: Beginning of the first one, in seconds since 1970.
    """

    width: int
    slots: int
    first: int

    @classmethod
    def until(cls, now: float, width: int, slots: int) -> Span:
        """Return the span whose last slot has this time in it."""
        return cls(width=width, slots=slots, first=(math.floor(now / width) - slots + 1) * width)

    @property
    def begins(self) -> list[int]:
        """Return when each slot begins."""
        return [self.first + self.width * slot for slot in range(self.slots)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsOf:
    """Runs of one workload in one group, whatever their source."""

    kind: str
    name: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A moment of a run's attempt: the state in which it was from then on."""

    run: str
    attempt: int
    state: str
    phase: Phase
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long runs waited that ended in a slot.

    Attributes:
        half: Seconds within which half of them left the queue; None if none did.
        most: Seconds within which nine of ten did.
    """

    half: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineUse:
    """How much of a time a machine was busy with last attempts of runs.

    Attributes:
        share: From 0 to 1.
        runs: Number of runs.
    """

    machine: str
    share: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTime:
    """How long runs are in a state.

    Attributes:
        seconds: The mean of all runs that were in it.
        runs: Number of these.
    """

    state: str
    phase: Phase
    seconds: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaky:
    """How often a workload passed, but not at the first attempt."""

    name: str
    flaky: int
    passed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    """What charts show of a time.

    Attributes:
        outcomes: Number of runs of each slot by outcome.
        waits: Of each slot.
        looked_at: Number of runs of which waits and states are known: the latest ones of each slot.
        machines: The busiest first.
        used_since: From when on the use of machines is counted, in seconds since 1970.
        states: By phase.
        flaky: The most frequent first.
    """

    span: Span
    outcomes: Sequence[Mapping[Outcome, int]]
    waits: Sequence[Wait]
    looked_at: int
    machines: Sequence[MachineUse]
    used_since: float
    states: Sequence[StateTime]
    flaky: Sequence[Flaky]


def waits_of(stays: Mapping[str, Sequence[Stay]], slots: Sequence[Sequence[str]]) -> list[Wait]:
    """Return how long the runs of each slot waited for their first start.

    Args:
        stays: The moments of each run, in order.
        slots: The runs of each slot.
    """
    return [_wait([wait for run in slot if (wait := _waited(stays.get(run, ()))) is not None]) for slot in slots]


def _waited(stays: Sequence[Stay]) -> float | None:
    """Return the seconds until a run first left the queue for a machine; None if it never did."""
    left = next((each for each in stays if each.phase is not Phase.QUEUED), None)
    return None if left is None or left.phase is Phase.OVER else max(0.0, left.at - stays[0].at)


def _wait(seconds: list[float]) -> Wait:
    if not seconds:
        return Wait()
    ordered = sorted(seconds)
    half, most = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.9))
    return Wait(half=half, most=most)


def state_times(stays: Mapping[str, Sequence[Stay]]) -> list[StateTime]:
    """Return how long runs were in each state, over all of their attempts."""
    total: dict[tuple[Phase, str], float] = {}
    runs: dict[tuple[Phase, str], set[str]] = {}
    for run, own in stays.items():
        for now, after in pairwise(own):
            if now.attempt == after.attempt and now.phase is not Phase.OVER:
                key = (now.phase, now.state)
                total[key] = total.get(key, 0.0) + max(0.0, after.at - now.at)
                runs.setdefault(key, set()).add(run)
    order = list(Phase)
    return [
        StateTime(
            state=state,
            phase=phase,
            seconds=total[phase, state] / len(runs[phase, state]),
            runs=len(runs[phase, state]),
        )
        for phase, state in sorted(total, key=lambda each: (order.index(each[0]), each[1]))
    ]
