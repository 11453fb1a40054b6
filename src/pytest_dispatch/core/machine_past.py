"""What a machine did: the attempts that were on it, how they ended, and the states in which it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An attempt of a run that was placed on a machine.

    Attributes:
        run: Id of the run.
        name: Name of its workload.
        attempt: Number of the attempt.
        began: When it was placed there, in seconds since 1970.
        ended: When the attempt was over; None if it is not.
        outcome: The attempt's; None if it has none.
    """

    run: str
    name: str
    attempt: int
    began: float
    ended: float | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time in which a machine was in one state.

    Attributes:
        reason: Why, in words; may be empty.
        began: When it began, in seconds since 1970.
        ended: When it ended; None if it goes on.
    """

    state: MachineState
    reason: str
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run whose last attempt was on a machine.

    Attributes:
        name: Name of its workload.
        ended: When it ended, in seconds since 1970.
        seconds: From when its last attempt left the queue to its end; None if it never did.
    """

    name: str
    outcome: Outcome
    ended: float
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePast:
    """What the journal tells of a machine.

    Attributes:
        visits: The newest first.
        ended: The newest first.
        whole: Whether `ended` has all runs of the time that was asked for, not only the latest ones.
    """

    visits: Sequence[Visit]
    ended: Sequence[Ended]
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadThere:
    """How a workload did on a machine.

    Attributes:
        half: Seconds within which half of its runs ended; None if no duration is known.
        most: Seconds within which nine of ten did.
        busy: Seconds of all of them together.
    """

    name: str
    runs: int
    passed: int
    half: float | None
    most: float | None
    busy: float


def share_used(ended: Iterable[Ended], since: float, now: float) -> float:
    """Return the share of a time in which a machine was busy with last attempts of runs, from 0 to 1."""
    seconds = sum(
        max(0.0, each.ended - max(since, each.ended - each.seconds)) for each in ended if each.seconds is not None
    )
    return min(1.0, seconds / max(now - since, 1.0))


def by_workload(ended: Iterable[Ended]) -> list[WorkloadThere]:
    """Return how each workload did on a machine, those first that took most of its time."""
    runs: dict[str, list[Ended]] = {}
    for each in ended:
        runs.setdefault(each.name, []).append(each)
    return sorted((_there(name, own) for name, own in runs.items()), key=lambda each: (-each.busy, each.name))


def _there(name: str, runs: Sequence[Ended]) -> WorkloadThere:
    seconds = sorted(each.seconds for each in runs if each.seconds is not None)
    half, most = (seconds[math.ceil(share * len(seconds)) - 1] if seconds else None for share in (0.5, 0.9))
    passed = sum(each.outcome is Outcome.PASSED for each in runs)
    return WorkloadThere(name=name, runs=len(runs), passed=passed, half=half, most=most, busy=sum(seconds))
