"""Why workloads wait, as pytest says it: of each, of the one that it waits for, and with pytest-xdist."""

from __future__ import annotations

import re

import pytest
from plugin_bench import Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

#: `a` keeps the only machine for longer than it takes until somebody asks why `b` waits.
WORKLOADS = {"a": "hang", "b": "pass"}
HANGS = ("--dispatch-report-timeout=8s", "--dispatch-retries=0")
ONE = "--dispatch-machine=sim:1?pace=0.001"
BUSY = r"sim-1 (has run a\.efi since [0-9:]+ UTC|is about to run a\.efi)"  # by when it is asked


def explained(bench: Bench, *args: str) -> list[str]:
    bench.workloads(WORKLOADS)
    result = bench.spawn(*HANGS, *args, machines=ONE)
    result.assert_outcomes(passed=1, failed=1)
    return [line for line in result.outlines if line.startswith("⏳ ")]


@pytest.mark.parametrize("workers", [(), ("-n2",)])
@pytest.mark.draw(1)
def test_each_workload_that_waits(bench: Bench, workers: tuple[str, ...]) -> None:
    (line,) = explained(bench, "--dispatch-explain", *workers)
    assert re.fullmatch(rf"⏳ b\.efi: It waits: {BUSY}\. \(place 1\)", line)


def test_nothing_is_said_if_nobody_asks(bench: Bench) -> None:
    assert explained(bench) == []


URGENT = """
import pytest

def pytest_collection_modifyitems(items):
    items.reverse()
    items[-1].add_marker(pytest.mark.dispatch(priority="urgent"))
"""


def test_verbose_says_it_of_the_one_that_pytest_waits_for(bench: Bench) -> None:
    bench.pytester.makeconftest(URGENT)  # the lab runs a first, and pytest waits for b
    (line,) = explained(bench, "-v")
    assert re.match(rf"⏳ b\.efi: It waits: {BUSY}", line)


def test_an_option_says_the_priority_of_those_whose_mark_says_none(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makeconftest(
        URGENT + "def pytest_dispatch_event(run, event): print(run.workload.name, run.priority.name, event)\n"
    )
    result = bench.spawn("-s", "--dispatch-priority=low", machines=ONE)
    result.stdout.fnmatch_lines(["*a.efi URGENT assign", "*b.efi LOW assign"])


def test_a_mark_with_a_priority_that_there_is_not(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(URGENT.replace("urgent", "asap"))
    assert "mark dispatch: expected priority= one of urgent, high, normal, low, idle, got 'asap'" in (
        bench.run().stdout.str()
    )
