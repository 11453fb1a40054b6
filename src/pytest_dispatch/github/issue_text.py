"""The text of GitHub issues: the workload's report, and a short footer with the lab's facts."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import Attempt, Case, Issue, Outcome, Report, Run
from pytest_dispatch.core.verdict import told_refusal
from pytest_dispatch.github.markdown_fences import cut
from pytest_dispatch.github.sanitize import LAB_SAYS, harmless, harmless_line, parsable
from pytest_dispatch.results.run_cases import spent
from pytest_dispatch.results.timeline import how_late

LIMIT = 65_000  # maximum characters of a body or comment; GitHub's limit is 65,536, and markers need room
PAGES = 6  # a body and its comments; longer reports are cut, as nobody reads so much and GitHub limits writes
ISSUES = 100  # maximum number of issues of a run; the last one lists further reports
TITLE_LIMIT = 256  # GitHub's limit for a title in characters

LATE = "> This report came {} the attempt had ended. The outcome stays as it was.\n\n"
NO_MORE = "> Further late reports of this run are not filed. The journal of the lab has them.\n\n"
TOO_LONG = "> The rest of this report is too long for an issue. The journal of the lab has it."

#: Beginning of the lab's part. A workload cannot imitate it: its folds are closed at first, and have other titles.
_FOOTER = ("---", f"<details open><summary>{LAB_SAYS}</summary>", "")

_HEADLINE = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.ERROR: "could not be run",
    Outcome.SKIPPED: "was skipped",
}


def issues_for(run: Run, source: str, digest: str, *, raw: bool = False) -> list[Issue]:
    """Return the issues for a run: one for each report that came in time, or one that says that there is none.

    There are at most `ISSUES` of them; the last one lists the titles of further reports.

    Args:
        run: The run, with its outcome.
        source: Source of the workload, as in node ids.
        digest: Digest of the served file.
        raw: Whether to leave the workload's Markdown unchanged, with mentions of people and links to other issues.
    """
    said = [(a, report) for a in run.attempts for report in a.reports if not report.late]
    if not said:
        outcome = run.outcome or Outcome.ERROR
        why = _sentence(run.reason)  # may quote HTML of the workload, which must not take effect
        title = f"{run.workload.name} {_HEADLINE[outcome]}"
        silent = Report(title=title, body=why if raw else why.replace("<", "&lt;"))
        said = [(run.attempt, silent)]
    if len(said) > ISSUES:
        said[ISSUES - 1 :] = [(run.attempt, _listed(run, [report for _, report in said[ISSUES - 1 :]]))]
    return [
        _issue(run, number, report, _footer(run, attempt, source, digest), raw=raw)
        for number, (attempt, report) in enumerate(said)
    ]


def _listed(run: Run, reports: list[Report]) -> Report:
    """Return a report that lists the titles of other reports."""
    titles = [f"- {clip(' '.join(report.title.split()))}" for report in reports]
    why = f"A run becomes at most {ISSUES} issues. The journal of the lab has these {len(reports)} reports:"
    return Report(title=f"{run.workload.name}: {len(reports)} further reports", body="\n".join([why, "", *titles]))


def as_one(issues: Sequence[Issue]) -> Issue:
    """Return one text in place of those of several reports of a run, the last of which says how it ended."""
    *before, last = issues
    further = tuple(text for issue in before for text in (issue.body, *issue.comments))
    return replace(last, comments=(*last.comments, *further))


def passed_again(run: Run, times: int, marker: str) -> Issue:
    """Return what is said when the issue of a failure is closed because the workload has passed often enough."""
    where = f", last on {_code(run.attempt.where)}" if run.attempt.where else ""
    row = "once" if times == 1 else f"{times} times in a row"
    return Issue(title=f"{run.workload.name} passed", body=f"Passed {row}{where}. Closed by the lab.", marker=marker)


def late_issues(run: Run, source: str, digest: str, *, raw: bool = False, known: int = 0) -> list[Issue]:
    """Return the issues for late reports, which came after their attempts had ended; each issue says so.

    There are at most `ISSUES` of them; the last one says that no more are filed.

    Args:
        run: The run, with its outcome, which late reports do not change.
        source: Source of the workload, as in node ids.
        digest: Digest of the served file.
        raw: Whether to leave the workload's Markdown unchanged, as in `issues_for`.
        known: Number of late reports that already have issues.
    """
    late = [(a, r) for a in run.attempts for r in a.reports if r.late]
    numbered = list(enumerate(sorted(late, key=lambda said: said[1].at)))[known:ISSUES]
    return [
        _issue(run, f"late-{number}", report, _footer(run, a, source, digest), raw=raw, note=_note(a, report, number))
        for number, (a, report) in numbered
    ]


def _note(attempt: Attempt, report: Report, number: int) -> str:
    last = NO_MORE if number == ISSUES - 1 else ""
    return f"{LATE.format(how_late(attempt, report))}{last}"


def _issue(run: Run, number: int | str, report: Report, footer: str, *, raw: bool, note: str = "") -> Issue:
    first, *rest = _pages(f"{note}{_text(report, raw=raw)}".rstrip(), footer)
    title = " ".join(report.title.split()) or run.workload.name
    return Issue(
        title=clip(title if raw else harmless_line(title)),
        body=first,
        # Random, so that nobody can file a forged issue with this marker before.
        marker=f"dispatch-{run.id}-{number}-{secrets.token_hex(8)}",
        comments=tuple(rest),
        labels=report.labels,
        assignees=report.assignees,
        milestone=report.milestone,
    )


def clip(title: str) -> str:
    """Return as much of a title as GitHub takes."""
    return title if len(title) <= TITLE_LIMIT else title[: TITLE_LIMIT - 1] + "…"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}." if reason else ""


def _text(report: Report, *, raw: bool) -> str:
    """Return the report's text; of a text that is too long, only enough to see that it is."""
    most = PAGES * LIMIT
    body = report.body.rstrip()[:most]
    fit = parsable if raw else harmless
    return "\n\n".join(fit(part) for part in (body, _cases(report.cases)[:most]) if part)


def _pages(text: str, footer: str) -> list[str]:
    """Return the text in at most `PAGES` pages, with the footer at the end of the last one."""
    pages = cut(text, LIMIT)
    if len(pages) >= PAGES:
        pages[PAGES - 1 :] = [TOO_LONG]
    if not pages[-1]:
        return [*pages[:-1], footer]
    whole = f"{pages[-1]}\n\n{footer}"
    return [*pages[:-1], whole] if len(whole) <= LIMIT else [*pages, footer]


def _cases(cases: tuple[Case, ...]) -> str:
    """Return a table of the cases that did not pass, and the number of those that did."""
    if not cases:
        return ""
    other = [case for case in cases if case.outcome is not Outcome.PASSED]
    summary = f"{len(cases) - len(other)} of {len(cases)} cases passed"
    if not other:
        return f"{summary}."
    shown = other[: PAGES * LIMIT // len("|  | error |  |")]
    rows = [f"| {_cell(case.name)} | {case.outcome} | {_cell(case.message)} |" for case in shown]
    return "\n".join([f"{summary}:", "", "| case | outcome | message |", "| --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return " ".join(text[:LIMIT].replace("\\", "\\\\").replace("|", "\\|").split())


def _footer(run: Run, attempt: Attempt, source: str, digest: str) -> str:
    stamp = datetime.fromtimestamp(attempt.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    outcome = attempt.outcome or run.outcome
    facts = {
        "workload": f"{_code(run.workload.name)} of {harmless_line(source)}",
        "digest": _code(digest) if digest else "",
        "machine": _code(attempt.where) if attempt.where else "none",
        "outcome": f"{outcome}, attempt {attempt.number} of {len(run.attempts)}",
        "states": ", ".join(f"{state} {format_duration(seconds)}" for state, seconds in spent(attempt)),
        "ended": stamp,
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value]
    lines += [f"- report refused: {_code(told_refusal(refusal))}" for refusal in attempt.refused]
    return "\n".join([*_FOOTER, *lines, "", "</details>"])


def _code(text: str) -> str:
    """Return any text as Markdown inline code."""
    line = " ".join(parsable(text).split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks}{line}{ticks}" if len(ticks) == 1 else f"{ticks} {line} {ticks}"
