"""The types of requests and answers about cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.cycle_plan import Parameter
from pytest_dispatch.core.cycle_state import CyclePhase, Round
from pytest_dispatch.core.machine import Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleView:
    """A cycle.

    Attributes:
        schedule: When its rounds begin, in words.
        group: The group of its runs; empty if each run chooses by its labels.
        limit: Most seconds that a round takes.
        phase: How it stands.
        started: Who started it; empty if it is stopped.
        values: The values of its parameters, for rounds of the schedule.
        hold: Why no round begins; null if it is not paused.
        due: When the next round begins, in seconds since 1970; null if none is planned.
        running: The round that runs; null if none does.
        last: The last round that is over; null if there was none.
    """

    name: str
    description: str = ""
    schedule: str
    group: str = ""
    limit: float
    parameters: tuple[Parameter, ...] = ()
    phase: CyclePhase
    started: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    hold: Hold | None = None
    due: float | None = None
    running: Round | None = None
    last: Round | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundWanted:
    """A request to start a cycle, or for a round of it now, with values of its parameters."""

    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFile:
    """What a round's pytest wrote: its output, or its JUnit file."""

    content: str
