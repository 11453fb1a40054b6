"""The types of requests and answers about history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.regression import Regression
from pytest_dispatch.core.trends import Flaky, MachineUse, StateTime, Wait
from pytest_dispatch.server.api.schemas import ConsoleLine


@dataclass(frozen=True, slots=True, kw_only=True)
class OverriddenView:
    """How many runs people gave another outcome, by the outcome that they ended with and the one that counts."""

    original: Outcome
    outcome: Outcome
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSeriesView:
    """Statistics of a workload on one machine, or on all.

    Attributes:
        machine: The machine; empty for all together.
        runs: Number of its runs.
        outcomes: Number of runs by the outcome that they ended with.
        overridden: How many of them people gave another outcome.
        flaky: Number of runs that passed, but not at the first attempt.
        flaky_rate: Their share of the runs that passed; null if none did.
        p50: Seconds within which half of the runs ended; null if none is known.
        p90: Seconds within which nine of ten runs ended; null if none is known.
        turning_point: Where it turned from good to bad, in any release of the source.
    """

    machine: str
    runs: int
    outcomes: Mapping[Outcome, int]
    overridden: tuple[OverriddenView, ...] = ()
    flaky: int = 0
    flaky_rate: float | None = None
    p50: float | None = None
    p90: float | None = None
    turning_point: Regression = field(default_factory=Regression)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesView:
    """What is known of a workload of one source, in any version.

    Attributes:
        machines: Statistics of all machines together, and then of each.
    """

    kind: str
    source: str
    name: str
    machines: tuple[MachineSeriesView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """What ended in a part of a time.

    Attributes:
        begins: When it begins, in seconds since 1970.
        outcomes: Number of runs by the outcome that counts.
        wait: How long the latest of them waited for a machine.
    """

    begins: int
    outcomes: Mapping[Outcome, int]
    wait: Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendsView:
    """How a lab has done over a time: the numbers of the charts.

    Attributes:
        over: The time, which ends now.
        width: Length of a slot, in seconds.
        slots: The parts of the time, in order.
        looked_at: Number of runs of which waits and states are known: the latest ones of each slot.
        machines: How busy they were with last attempts of runs, the busiest first.
        used_since: From when on that is counted, in seconds since 1970.
        states: How long runs are in each state, by phase.
        flaky: Workloads that passed, but not at the first attempt; the most frequent first.
    """

    over: str
    width: int
    slots: tuple[SlotView, ...]
    looked_at: int
    machines: tuple[MachineUse, ...]
    used_since: float
    states: tuple[StateTime, ...]
    flaky: tuple[Flaky, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideWanted:
    """A request to give a run that has ended another outcome.

    Attributes:
        outcome: The outcome that is to count.
        reason: Why, for other people.
    """

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteWanted:
    """A request to add a note to a run that has ended."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleView:
    """A part of a console.

    Attributes:
        attempt: Number of the attempt.
        after: What `after` must be for what comes next.
        complete: Whether nothing comes next: the attempt is over, and this is the end of its console.
        gone: Whether the attempt is so old that its console was dropped, as `retention.consoles` says.
    """

    run: str
    attempt: int
    lines: tuple[ConsoleLine, ...]
    after: int
    complete: bool
    gone: bool = False
