"""The text of GitHub issues: what the workload said, and a short footer of what the lab knows."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import Attempt, Issue, Outcome, Report, Run

LIMIT = 65_000  # characters of a body or comment; GitHub refuses more than 65,536, and markers need room
TITLE_LIMIT = 256  # characters that GitHub takes in a title

_HEADLINE = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.ERROR: "could not be run",
    Outcome.SKIPPED: "was skipped",
}


def issues_for(run: Run, source: str, digest: str) -> list[Issue]:
    """The issues that a run becomes: one for each report, or one that says that there is none.

    Args:
        run: Has its outcome.
        source: Where the workload came from, as in node ids.
        digest: Of the bytes that were served.
    """
    said = [(a, report) for a in run.attempts for report in a.reports if not report.late]
    if not said:
        outcome = run.outcome or Outcome.ERROR
        silent = Report(title=f"{run.workload.name} {_HEADLINE[outcome]}", body=_sentence(run.reason))
        said = [(run.attempt, silent)]
    return [
        _issue(run, number, report, _footer(run, attempt, source, digest))
        for number, (attempt, report) in enumerate(said)
    ]


def _issue(run: Run, number: int, report: Report, footer: str) -> Issue:
    parts = [report.body.rstrip(), _cases(report), footer]
    first, *rest = _split("\n\n".join(part for part in parts if part))
    return Issue(
        title=_clip(" ".join(report.title.split()) or run.workload.name),
        body=first,
        marker=f"dispatch-{run.id}-{number}",
        comments=tuple(rest),
        labels=report.labels,
        assignees=report.assignees,
        milestone=report.milestone,
    )


def _clip(title: str) -> str:
    return title if len(title) <= TITLE_LIMIT else title[: TITLE_LIMIT - 1] + "…"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}." if reason else ""


def _split(text: str) -> list[str]:
    """Pieces of at most `LIMIT` characters, cut at line ends where there are any."""
    pieces = []
    while len(text) > LIMIT:
        cut = text.rfind("\n", 1, LIMIT) + 1 or LIMIT
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def _cases(report: Report) -> str:
    """The cases that did not pass, in a table, and how many did."""
    if not report.cases:
        return ""
    other = [case for case in report.cases if case.outcome is not Outcome.PASSED]
    summary = f"{len(report.cases) - len(other)} of {len(report.cases)} cases passed"
    if not other:
        return f"{summary}."
    rows = [f"| {_cell(case.name)} | {case.outcome} | {_cell(case.message)} |" for case in other]
    return "\n".join([f"{summary}:", "", "| case | outcome | message |", "| --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _footer(run: Run, attempt: Attempt, source: str, digest: str) -> str:
    stamp = datetime.fromtimestamp(attempt.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    outcome = attempt.outcome or run.outcome
    facts = {
        "workload": f"`{run.workload.name}` of {source}",
        "digest": f"`{digest}`" if digest else "",
        "machine": f"`{attempt.machine}`" if attempt.machine else "none",
        "outcome": f"{outcome}, attempt {attempt.number} of {len(run.attempts)}",
        "states": ", ".join(f"{state} {format_duration(seconds)}" for state, seconds in _spent(attempt)),
        "ended": stamp,
    }
    return "---\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def durations(run: Run) -> list[tuple[str, float]]:
    """How long the latest attempt spent in each state that it has left, in order."""
    return _spent(run.attempt)


def _spent(attempt: Attempt) -> list[tuple[str, float]]:
    spent: dict[str, float] = {}
    for moment, following in pairwise(attempt.history):
        spent[moment.state] = spent.get(moment.state, 0.0) + following.at - moment.at
    return list(spent.items())
