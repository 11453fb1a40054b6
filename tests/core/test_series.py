"""What is kept of the runs of a series."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_runs import NEVER_BOOTED, NOON, attempt, moments, run

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.run_series import GROWTH, SHORTEST, Series, Sketch, added_up, bucket_of, ending_of, seconds_of
from pytest_dispatch.workloads.boot.lifecycle import State

DURATIONS = st.floats(SHORTEST, 30 * 86400.0)


@given(DURATIONS)
def test_a_duration_is_told_within_five_percent(seconds: float) -> None:
    assert seconds_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.05)


@given(DURATIONS, DURATIONS)
def test_longer_ones_are_in_later_buckets(one: float, other: float) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other


@given(st.lists(DURATIONS, min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_that_of_the_durations(durations: list[float], share: float) -> None:
    sketches = [Sketch(buckets={bucket_of(seconds): 1}) for seconds in durations]
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]
    told = added_up(sketches).quantile(share)
    assert told == pytest.approx(exact, rel=0.05)


def test_a_month_of_seconds_takes_few_buckets() -> None:
    assert bucket_of(30 * 86400.0) < 300
    assert bucket_of(0.0) == bucket_of(SHORTEST) == 0
    assert seconds_of(1) < SHORTEST * GROWTH


def test_what_nobody_knows_has_no_quantile() -> None:
    assert Sketch().quantile(0.5) is None
    assert Sketch().runs == 0


def test_counts_add_up() -> None:
    one = Sketch(outcomes={Outcome.PASSED: 2}, flaky=1, buckets={3: 2})
    other = Sketch(outcomes={Outcome.PASSED: 1, Outcome.FAILED: 4}, buckets={3: 1, 9: 4})
    both = added_up([one, other])
    assert both == Sketch(outcomes={Outcome.PASSED: 3, Outcome.FAILED: 4}, flaky=1, buckets={3: 3, 9: 4})
    assert both.runs == 7


def test_a_run_adds_how_long_its_last_attempt_was_on_a_machine() -> None:
    first = attempt(1, history=NEVER_BOOTED, outcome=Outcome.ERROR)
    ending = ending_of(replace(run(first, attempt(2)), outcome=Outcome.PASSED), "AMDEPYC/dispatch@example")
    assert ending is not None
    assert ending.series == Series("boot", "AMDEPYC/dispatch@example", "snp.efi")
    assert (ending.machines, ending.outcome, ending.flaky) == (("10.0.0.7",), Outcome.PASSED, True)
    assert (ending.seconds, ending.at) == (158.0, NOON + 160)


def test_one_that_never_came_to_a_machine_adds_no_duration() -> None:
    history = moments((State.UNASSIGNED, 0), (State.FAILED, 1800))
    alone = replace(attempt(history=history, outcome=Outcome.ERROR), placements=())
    ending = ending_of(replace(run(alone), outcome=Outcome.ERROR), "w")
    assert ending is not None
    assert (ending.seconds, ending.machines) == (None, ())


def test_what_is_not_over_or_was_cancelled_adds_nothing() -> None:
    over = replace(run(attempt()), outcome=Outcome.PASSED)
    assert ending_of(replace(over, outcome=None), "w") is None
    assert ending_of(replace(over, cancelled=True), "w") is None
