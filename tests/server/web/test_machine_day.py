"""The last day of a machine, as it is drawn and told."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_past import Stretch, Visit
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.moments import DAY
from pytest_dispatch.server.web.bars import HEIGHT
from pytest_dispatch.server.web.machine_day import LEAST, MOST_ROWS, STEP, UNDER_WAY, day_begins, machine_day

ENDS = 1000 * STEP  # of the day that is drawn
NOW = ENDS - 17.0
BEGINS = ENDS - DAY


def visit(began: float, ended: float | None, outcome: Outcome | None = Outcome.PASSED, attempt: int = 1) -> Visit:
    return Visit(run="r", name="a.efi", attempt=attempt, began=began, ended=ended, outcome=outcome)


def test_a_day_ends_with_a_step_and_stays_until_the_next() -> None:
    assert day_begins(NOW) == BEGINS
    assert {day_begins(ENDS - each) for each in (0.0, 1.0, STEP - 1)} == {BEGINS}
    assert day_begins(ENDS + 1) == BEGINS + STEP
    marks = machine_day([], [], NOW).marks
    assert (marks[0], marks[-1]) == (BEGINS, ENDS)


@pytest.mark.parametrize(
    ("began", "ended", "x", "width"),
    [
        (BEGINS + 3600, BEGINS + 7200, 60, 60),
        (BEGINS - 3600, BEGINS + 600, 0, 10),
        (ENDS - 600, None, 1430, 10),
        (ENDS - 30, None, 1440 - LEAST, LEAST),
        (BEGINS - DAY, None, 0, 1440),
    ],
    ids=["within", "began before", "goes on", "just began", "all day"],
)
def test_a_run_is_drawn_where_it_was(began: float, ended: float | None, x: float, width: float) -> None:
    day = machine_day([visit(began, ended)], [], NOW)
    assert [(bar.x, bar.width) for bar in day.runs.bars] == [(x, width)]


def test_what_is_worse_is_higher_so_that_no_colour_is_needed() -> None:
    outcomes = (Outcome.SKIPPED, Outcome.PASSED, Outcome.ERROR, Outcome.FAILED)
    day = machine_day([visit(BEGINS, BEGINS + 60, each) for each in outcomes], [], NOW)
    heights = [bar.height for bar in day.runs.bars]
    assert heights == sorted(set(heights))
    assert all(bar.y + bar.height == HEIGHT for bar in day.runs.bars)
    states = (MachineState.IDLE, MachineState.RUNNING, MachineState.HELD)
    day = machine_day([], [Stretch(state=each, reason="", began=BEGINS, ended=ENDS) for each in states], NOW)
    heights = [bar.height for bar in day.states.bars]
    assert heights == sorted(set(heights))


def test_rows_tell_runs_and_states_the_newest_first() -> None:
    runs = [visit(BEGINS + 100, BEGINS + 200, Outcome.ERROR), visit(BEGINS + 300, None, None, attempt=2)]
    states = [
        Stretch(state=MachineState.OFF, reason="", began=BEGINS - 50, ended=BEGINS),
        Stretch(state=MachineState.HELD, reason="loud (ada)", began=BEGINS + 10, ended=BEGINS + 90),
        Stretch(state=MachineState.RUNNING, reason="", began=BEGINS + 90),
    ]
    day = machine_day(runs, states, NOW)
    assert [(row.run, row.text, row.state) for row in day.rows] == [
        ("r", "a.efi, attempt 2", ""),
        ("r", "a.efi", "error"),
        ("", "loud (ada)", "held"),
    ]
    assert day.outcomes == {"error": 1, UNDER_WAY: 1}
    assert day.spent == {"held": 80.0, "running": DAY - 90.0}, "with what it ran, so that the parts add up"
    assert day.known == BEGINS + 10


def test_a_long_table_says_what_it_lacks() -> None:
    day = machine_day([visit(BEGINS + each, BEGINS + each + 1) for each in range(MOST_ROWS + 7)], [], NOW)
    assert (len(day.rows), day.more) == (MOST_ROWS, 7)
    assert day.rows[0].began == BEGINS + MOST_ROWS + 6
    assert day.known == ENDS
