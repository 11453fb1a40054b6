"""The last day of a machine as a drawing and as a table: what ran on it, and in which states it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_past import Stretch, Visit
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.moments import DAY
from pytest_dispatch.server.web.bars import HEIGHT, Bar, Bars

STEP = 300.0  # seconds by which the drawing goes on, so that the page does not change all the time
MINUTE = 60.0  # seconds of a unit of its width
LEAST = 3.0  # units of the shortest bar, so that it can be seen
MARKS = 5  # times that are written below it
MOST_ROWS = 40  # of the table

UNDER_WAY = "under-way"  # what a run is called that has not ended
#: How high bars are, in units: the worse, the higher, so that they differ not by their colour alone.
_RUNS = {Outcome.PASSED: 55.0, Outcome.SKIPPED: 35.0, Outcome.ERROR: 80.0, Outcome.FAILED: 100.0, None: 55.0}
_QUIET, _BUSY, _BAD = 20.0, 60.0, 100.0
_STATES = {
    MachineState.IDLE: _QUIET,
    MachineState.OFF: _QUIET,
    MachineState.UNKNOWN: _QUIET,
    MachineState.RUNNING: _BUSY,
    MachineState.RESERVED: _BUSY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: a run, or a state.

    Attributes:
        run: Id of the run; empty for a state.
        text: Name of the run's workload, or why the state was.
        state: How the run ended, or the state; empty for a run that has not ended.
        began: When it began, in seconds since 1970.
        ended: When it ended; None if it goes on.
    """

    run: str
    text: str
    state: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineDay:
    """The last 24 hours of a machine.

    Attributes:
        marks: Times that are written below the drawing.
        runs: Bars of attempts.
        states: Bars of states.
        outcomes: Number of attempts by how they ended.
        spent: Seconds by state, of what is known of the day.
        rows: The table, the newest first.
        more: How many rows it lacks.
        known: From when on its states are known, in seconds since 1970.
    """

    marks: tuple[float, ...]
    runs: Bars
    states: Bars
    outcomes: dict[str, int]
    spent: dict[str, float]
    rows: tuple[Row, ...]
    more: int
    known: float

    @property
    def begins(self) -> float:
        """Return when it begins, in seconds since 1970."""
        return self.marks[0]


def day_begins(now: float) -> float:
    """Return when the day begins that is drawn at a time."""
    return math.ceil(now / STEP) * STEP - DAY


def machine_day(visits: Sequence[Visit], stretches: Sequence[Stretch], now: float) -> MachineDay:
    """Return the last day of a machine.

    Args:
        visits: The attempts that were placed on it.
        stretches: Its states, in order.
        now: The time.
    """
    begins = day_begins(now)
    ends = begins + DAY
    states = [each for each in stretches if (each.ended or ends) > begins]
    rows = sorted(_rows(visits, states), key=lambda each: (each.began, each.run), reverse=True)
    return MachineDay(
        marks=tuple(begins + DAY * place / (MARKS - 1) for place in range(MARKS)),
        runs=_drawn(_bar(_ending(each), _RUNS[each.outcome], each, begins, ends) for each in visits),
        states=_drawn(_bar(str(each.state), _STATES.get(each.state, _BAD), each, begins, ends) for each in states),
        outcomes=dict(Counter(map(_ending, visits))),
        spent=_spent(states, begins, ends),
        rows=tuple(rows[:MOST_ROWS]),
        more=max(0, len(rows) - MOST_ROWS),
        known=max(begins, states[0].began if states else ends),
    )


def _ending(visit: Visit) -> str:
    return UNDER_WAY if visit.outcome is None else str(visit.outcome)


def _drawn(bars: Iterable[Bar]) -> Bars:
    return Bars(width=int(DAY / MINUTE), highest=HEIGHT, bars=tuple(bars))


def _bar(kind: str, height: float, what: Visit | Stretch, begins: float, ends: float) -> Bar:
    first = (max(what.began, begins) - begins) / MINUTE
    last = (min(ends if what.ended is None else what.ended, ends) - begins) / MINUTE
    width = max(LEAST, last - first)
    x = max(0.0, min(first, DAY / MINUTE - width))
    return Bar(kind=kind, x=round(x, 1), y=HEIGHT - height, height=height, width=round(width, 1))


def _spent(states: Iterable[Stretch], begins: float, ends: float) -> dict[str, float]:
    """Return how long it was in each state; what goes on counts until the end of the drawing."""
    found: dict[str, float] = {}
    for each in states:
        seconds = (ends if each.ended is None else each.ended) - max(each.began, begins)
        found[str(each.state)] = found.get(str(each.state), 0.0) + seconds
    return found


def _rows(visits: Iterable[Visit], states: Iterable[Stretch]) -> list[Row]:
    ran = [
        Row(
            run=each.run,
            text=each.name if each.attempt == 1 else f"{each.name}, attempt {each.attempt}",
            state="" if each.outcome is None else str(each.outcome),
            began=each.began,
            ended=each.ended,
        )
        for each in visits
    ]
    stood = [
        Row(run="", text=each.reason, state=str(each.state), began=each.began, ended=each.ended)
        for each in states
        if each.state is not MachineState.RUNNING
    ]
    return [*ran, *stood]
