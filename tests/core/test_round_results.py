"""What a round found: never passed if anything is broken, and what is different from the round before."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.round_results import MOST_NAMES, RoundChange, broken_end, change_between, judge

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


@pytest.mark.parametrize(
    ("code", "results", "outcome", "reason"),
    [
        (0, {"a": PASSED, "b": SKIPPED}, PASSED, ""),
        (1, {"a": PASSED, "b": FAILED, "c": ERROR}, FAILED, "1 failed, 1 error"),
        (1, {"a": PASSED, "b": ERROR}, ERROR, "1 error"),
        (0, {"a": FAILED}, FAILED, "1 failed"),
        (1, {"a": PASSED}, ERROR, "pytest says that something failed, and its JUnit file has no failure"),
        (0, {"a": SKIPPED}, SKIPPED, "all 1 skipped"),
        (0, {}, ERROR, "its JUnit file has no case"),
        (0, None, ERROR, "its JUnit file cannot be read: it is torn"),
        (2, {"a": PASSED}, ERROR, "pytest was interrupted"),
        (3, {"a": PASSED}, ERROR, "pytest had an internal error"),
        (4, None, ERROR, "pytest was called wrongly: look at its output"),
        (5, {}, ERROR, "the selection has no items"),
        (77, {"a": PASSED}, ERROR, "pytest ended with exit code 77"),
        (-9, {"a": PASSED}, ERROR, "pytest was killed by signal 9"),
    ],
)
def test_a_round_passes_only_if_all_of_it_is_there(
    code: int, results: Mapping[str, Outcome] | None, outcome: Outcome, reason: str
) -> None:
    assert judge(code, results, "it is torn") == (outcome, reason)


@pytest.mark.parametrize(
    ("code", "again"), [(0, False), (1, False), (2, True), (3, True), (4, False), (5, False), (-9, True)]
)
def test_another_try_helps_where_pytest_broke_but_not_where_it_was_called_wrongly(code: int, again: bool) -> None:
    assert broken_end(code)[1] is again


def test_a_change_names_what_is_new_and_what_is_fixed() -> None:
    before = {"a": PASSED, "b": FAILED, "c": FAILED, "d": ERROR, "gone": FAILED}
    after = {"a": FAILED, "b": FAILED, "c": PASSED, "d": FAILED, "new": ERROR}
    change = change_between(before, after)
    assert change == RoundChange(failures=("a", "d"), errors=("new",), fixed=("c",), added=1, gone=1)
    assert str(change) == "2 new failures, 1 new error, 1 fixed, 1 added, 1 gone"


def test_nothing_different_says_so() -> None:
    same = change_between({"a": FAILED}, {"a": FAILED})
    assert (bool(same), str(same)) == (False, "as before")


def test_one_that_was_skipped_and_passes_is_not_fixed() -> None:
    assert not change_between({"a": SKIPPED}, {"a": PASSED})


def test_many_names_are_cut() -> None:
    after = {f"case-{number}": FAILED for number in range(3 * MOST_NAMES)}
    assert len(change_between({}, after).failures) == MOST_NAMES
