"""What is counted of the runs that ended on a machine."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.machine_past import Ended, by_workload, share_used
from pytest_dispatch.core.model import Outcome

NOW = 1_000_000.0


def ended(name: str, before: float, seconds: float | None, outcome: Outcome = Outcome.PASSED) -> Ended:
    """A run that ended so long before now."""
    return Ended(name=name, outcome=outcome, ended=NOW - before, seconds=seconds)


@pytest.mark.parametrize(
    ("runs", "share"),
    [
        ([], 0.0),
        ([ended("a", 0, 50)], 0.5),
        ([ended("a", 0, 10), ended("b", 20, 10), ended("c", 40, None)], 0.2),
        ([ended("a", 90, 1000)], 0.1),
        ([ended("a", 0, 1000)], 1.0),
        ([ended("a", 200, 50)], 0.0),
        ([ended("a", 0, 100), ended("b", 0, 100)], 1.0),
    ],
    ids=["nothing", "half", "several", "began before", "all the time", "over before", "two at once"],
)
def test_a_share_is_of_the_time_that_was_asked_for(runs: list[Ended], share: float) -> None:
    assert share_used(runs, NOW - 100, NOW) == pytest.approx(share)


def test_workloads_are_told_apart_those_first_that_took_most() -> None:
    runs = [ended("short", 10, 1.0), *(ended("long", each, float(each)) for each in range(1, 11))]
    runs += [ended("long", 50, None, Outcome.FAILED), ended("never", 60, None, Outcome.ERROR)]
    long, short, never = by_workload(runs)
    assert (long.name, long.runs, long.passed, long.half, long.most, long.busy) == ("long", 11, 10, 5.0, 9.0, 55.0)
    assert (short.name, short.half, short.most) == ("short", 1.0, 1.0)
    assert (never.name, never.runs, never.passed, never.half, never.busy) == ("never", 1, 0, None, 0)
