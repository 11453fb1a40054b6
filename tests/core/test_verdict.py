"""Reports to an outcome: the first part that speaks, the worst report, and a sentence on why."""

from __future__ import annotations

import itertools

import pytest

from pytest_dispatch.core.model import Case, Outcome, Policy, Report
from pytest_dispatch.core.verdict import judge, judge_report, summary_of, worst

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
POLICY = Policy()


def report(
    title: str = "done",
    result: Outcome | None = None,
    cases: tuple[Outcome, ...] = (),
    labels: tuple[str, ...] = (),
    *,
    late: bool = False,
) -> Report:
    named = tuple(Case(name=f"case {n}", outcome=outcome) for n, outcome in enumerate(cases, start=1))
    return Report(title=title, result=result, cases=named, labels=labels, late=late)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (report(), PASSED),
        (report(labels=("os-debian", "certificate")), PASSED),
        *((report(labels=(label,)), FAILED) for label in ("fail", "failed", "failure", "error", "FAILED")),
        *((report(labels=(label,)), SKIPPED) for label in ("skip", "skipped", "Skip")),
        (report(labels=("skip", "fail")), FAILED),
        (report(cases=(PASSED, FAILED, PASSED)), FAILED),
        (report(cases=(PASSED, ERROR)), FAILED),
        (report(cases=(PASSED, SKIPPED)), PASSED),
        (report(cases=(SKIPPED, SKIPPED)), SKIPPED),
        *((report(result=outcome), outcome) for outcome in Outcome),
    ],
)
def test_what_one_report_says(said: Report, outcome: Outcome) -> None:
    assert judge_report(said, POLICY) is outcome


@pytest.mark.parametrize("result", Outcome)
def test_the_result_speaks_before_cases_and_these_before_labels(result: Outcome) -> None:
    assert judge_report(report(result=result, cases=(PASSED,), labels=("fail",)), POLICY) is result
    assert judge_report(report(cases=(FAILED,), labels=("skip",)), POLICY) is FAILED
    assert judge_report(report(cases=(PASSED,), labels=("fail",)), POLICY) is PASSED


@pytest.mark.parametrize("bad", [FAILED, ERROR])
@pytest.mark.parametrize("result", Outcome)
def test_a_good_result_beside_a_failed_case_contradicts_itself(result: Outcome, bad: Outcome) -> None:
    right = FAILED if result in (PASSED, SKIPPED) else result
    assert judge_report(report(result=result, cases=(PASSED, bad)), POLICY) is right


def test_labels_are_the_sessions_own() -> None:
    own = Policy(fail_labels=("Broken",), skip_labels=("n/a",))
    said = [judge_report(report(labels=(label,)), own) for label in ("broken", "N/A", "fail")]
    assert said == [FAILED, SKIPPED, PASSED]


def test_the_worst_decides_in_whatever_order() -> None:
    order = (FAILED, ERROR, PASSED, SKIPPED)
    for size in range(1, 5):
        for outcomes in itertools.permutations(order, size):
            assert worst(outcomes) is min(outcomes, key=order.index)
            assert judge([report(result=outcome) for outcome in outcomes], POLICY) is worst(outcomes)


def test_silence_where_it_may_be_silent_is_a_pass() -> None:
    assert judge([], POLICY) is PASSED


def test_late_reports_have_no_voice() -> None:
    assert judge([report(), report(result=FAILED, late=True)], POLICY) is PASSED
    assert summary_of([report(), report(result=FAILED, late=True)], POLICY) == ""


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([report()], ""),
        ([report("no SNP", FAILED)], "it reported failed: no SNP"),
        ([report("no network", ERROR)], "it reported error: no network"),
        ([report("wrong CPU", SKIPPED)], "it reported skipped: wrong CPU"),
        ([report("fine", PASSED), report("no SNP", FAILED)], "it reported failed: no SNP"),
        ([report("fine"), report("sad", labels=("x", "Fail"))], "it reported with the label Fail: sad"),
        ([report("both", labels=("skip", "fail"))], "it reported with the label fail: both"),
        ([report("not here", labels=("skip",))], "it reported with the label skip: not here"),
        ([report(cases=(PASSED, FAILED, ERROR))], "2 of 3 cases did not pass: case 2, case 3"),
        ([report(cases=(FAILED,) * 4)], "4 of 4 cases did not pass: case 1, case 2, case 3, …"),
        ([report(cases=(SKIPPED,) * 2)], "all of its 2 cases were skipped"),
        ([report("all in all", FAILED, cases=(FAILED,))], "it reported failed: all in all"),
        ([report("fine", PASSED, cases=(FAILED,))], "it reported passed, but 1 of 1 cases did not pass: case 1"),
        ([report("\x1b[31mred\x07\nalert", FAILED)], "it reported failed: red alert"),
    ],
)
def test_the_reason_sums_up_what_was_said(said: list[Report], text: str) -> None:
    assert summary_of(said, POLICY) == text


def test_the_only_case_that_did_not_pass_says_why() -> None:
    broken = Case(name="TAP", outcome=FAILED, message="2 of 5 planned\ntests \x1b[1mran")
    named = Report(title="t", cases=(Case(name="a", outcome=PASSED), broken))
    assert summary_of([named], POLICY) == "1 of 2 cases did not pass: TAP: 2 of 5 planned tests ran"


def test_names_of_cases_are_cleaned_and_cut() -> None:
    named = Report(title="t", cases=(Case(name="\x1b[1m" + "x" * 200, outcome=FAILED),))
    assert summary_of([named], POLICY) == f"1 of 1 cases did not pass: {'x' * 79}…"
