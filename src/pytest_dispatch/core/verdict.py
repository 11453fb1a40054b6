"""Turns reports into an outcome: the first part of a report with a verdict decides, and the worst report wins.

A report that contradicts itself is not a pass: if one of its cases failed, its result cannot be passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from pytest_dispatch.core.model import BAD, WORST_FIRST, Attempt, Case, Outcome, Policy, Refusal, Report
from pytest_dispatch.core.plain_text import plain, plain_line

NAMED = 3  # most cases that a summary names
WHY = 400  # most characters of the reason why a report was refused


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that decides among several; passed if there are none."""
    seen = set(outcomes)
    return next((outcome for outcome in WORST_FIRST if outcome in seen), Outcome.PASSED)


def _by_result(report: Report, _policy: Policy) -> Outcome | None:
    return Outcome.FAILED if _contradicts_itself(report) else report.result


def _by_cases(report: Report, _policy: Policy) -> Outcome | None:
    """Return the worst outcome of the cases; an error counts as failed: the case ran, so the lab is not at fault."""
    said = [Outcome.FAILED if case.outcome in BAD else case.outcome for case in report.cases]
    return worst(said) if said else None


def _by_labels(report: Report, policy: Policy) -> Outcome | None:
    if _labels_among(report, policy.fail_labels):
        return Outcome.FAILED
    return Outcome.SKIPPED if _labels_among(report, policy.skip_labels) else None


def _contradicts_itself(report: Report) -> bool:
    good = (Outcome.PASSED, Outcome.SKIPPED)
    return report.result in good and any(case.outcome in BAD for case in report.cases)


_DECIDERS: tuple[Callable[[Report, Policy], Outcome | None], ...] = (
    _by_result,
    _by_cases,
    _by_labels,
)


def judge_report(report: Report, policy: Policy) -> Outcome:
    """Return the outcome of one report: its result, else by its cases, else by its labels, else passed."""
    for decide in _DECIDERS:
        outcome = decide(report, policy)
        if outcome is not None:
            return outcome
    return Outcome.PASSED


def judge(reports: Iterable[Report], policy: Policy) -> Outcome:
    """Return the outcome of an attempt's reports together; late ones are ignored."""
    return worst(judge_report(report, policy) for report in reports if not report.late)


def summary_of(reports: Iterable[Report], policy: Policy) -> str:
    """Return one sentence on why an attempt that did not pass was judged so; empty if it passed."""
    judged = [(judge_report(report, policy), report) for report in reports if not report.late]
    outcome = worst(said for said, _ in judged)
    if outcome is Outcome.PASSED:
        return ""
    report = next(report for said, report in judged if said is outcome)
    if report.result is None and report.cases:
        return _about_cases(report.cases)
    title = plain_line(report.title)
    if _contradicts_itself(report):
        return f"it reported {report.result}, but {_about_cases(report.cases)}"
    if report.result is not None:
        return f"it reported {report.result.value}: {title}"
    label = (_labels_among(report, policy.fail_labels) or _labels_among(report, policy.skip_labels))[0]
    return f"it reported with the label {plain_line(label)}: {title}"


def refused_report(attempt: Attempt) -> str:
    """Return one sentence on the refused reports that keep an attempt from passing; empty if there are none."""
    latest = max((report.at for report in attempt.reports), default=-math.inf)
    standing = [refusal for refusal in attempt.refused if refusal.whole or latest < refusal.at]
    if not standing:
        return ""
    more = f" (and {len(standing) - 1} more)" if len(standing) > 1 else ""
    return f"its report was refused: {told_refusal(standing[0])}{more}"


def told_refusal(refusal: Refusal) -> str:
    """Return why a report was refused, and how it began."""
    begins = f"; it began with {plain_line(refusal.begins)!r}" if refusal.begins else ""
    return f"{plain_line(refusal.why, WHY)}{begins}"


def _about_cases(cases: tuple[Case, ...]) -> str:
    bad = [case for case in cases if case.outcome in BAD]
    if not bad:
        return f"all of its {len(cases)} cases were skipped"
    names = ", ".join(plain_line(case.name, 80) for case in bad[:NAMED])
    if len(bad) == 1 and bad[0].message:
        names += f": {plain_line(bad[0].message)}"
    return f"{len(bad)} of {len(cases)} cases did not pass: {names}{', …' if len(bad) > NAMED else ''}"


def _labels_among(report: Report, wanted: tuple[str, ...]) -> list[str]:
    """Return the report's labels that are among these, ignoring case and surrounding white space."""
    if not report.labels:
        return []
    known = {_label(label) for label in wanted}
    return [label for label in report.labels if _label(label) in known]


def _label(text: str) -> str:
    return " ".join(plain(text).split()).casefold()
