"""Describes a run in plain text: its states and times, the workload's reports, and the last console lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.known_issues import BY_LAB, IssueLink
from pytest_dispatch.core.media import NOBODY_CAME
from pytest_dispatch.core.model import BAD, Attempt, Case, Outcome, Phase, Report, Run
from pytest_dispatch.core.moments import dated
from pytest_dispatch.core.plain_text import plain, plain_line
from pytest_dispatch.core.verdict import told_refusal

BODY_LINES = 20
CONSOLE_LINES = 12
CASES = 20
REPORTS = 10
ISSUES = 10
REASON = 500  # characters

_WHERE_FROM = """\
machines boot from the boot URL in the line `dispatch: …` at the top (not shown with -q)
  from another computer, `curl -i` with that URL and /look behind it must answer 200: if it does not, a firewall is in
  the way, or the address is wrong; if it does, no machine was told to boot from there"""

_PERCENT = re.compile(r"(?<! ) *+[0-9]{1,3}(?:\.[0-9]++)? ?%")

_SIGNS = {
    Phase.QUEUED: "⏳",
    Phase.STARTING: "📥",
    Phase.RUNNING: "⚡",
    Phase.SETTLING: "📝",
    Phase.OVER: "🏁",
}


def clock(at: float) -> str:
    """Return the local time of day for epoch seconds."""
    return dated(at).astimezone().strftime("%H:%M:%S")


def sign_of(phase: Phase, outcome: Outcome | None = None) -> str:
    """Return an emoji for an attempt's phase and outcome."""
    return "❌" if outcome in BAD else _SIGNS[phase]


def timeline(attempt: Attempt) -> list[str]:
    """Return a line for each state: when it was entered, and how long it lasted."""
    history = attempt.history
    ends = [moment.at for moment in history[1:]]
    lines = []
    for index, moment in enumerate(history):
        lasted = f"{ends[index] - moment.at:8.1f} s" if index < len(ends) else ""
        sign = sign_of(moment.phase, attempt.outcome if moment.phase is Phase.OVER else None)
        lines.append(f"{sign} {moment.state:<12} {clock(moment.at)} {lasted}".rstrip())
    return lines


def outcome_beside(attempt: Attempt) -> str:
    """Return the outcome in brackets, to append to the state; empty if it is the same word as the state."""
    return f" ({attempt.outcome})" if attempt.outcome and attempt.outcome.value != attempt.state else ""


def late_reports(run: Run) -> list[str]:
    """Return a line for each report that came after its attempt had ended: its content, and how late it was."""
    late = [(attempt, report) for attempt in run.attempts for report in attempt.reports if report.late]
    return [
        f"{_said(report)}, {how_late(attempt, report)} the end of attempt {attempt.number}" for attempt, report in late
    ]


def how_late(attempt: Attempt, report: Report) -> str:
    """Return how long after the end of its attempt a report came, as in "5m after"."""
    return f"{format_duration(max(0.0, report.at - attempt.since))} after"


def explain(
    run: Run,
    digest: str,
    console: Sequence[tuple[float, str]],
    issues: Sequence[str],
    links: Sequence[IssueLink] = (),
) -> str:
    """Explain to the user why a run ended as it did: the reason first, then the evidence.

    Args:
        run: A run that has ended.
        digest: Digest of the served file.
        console: Console lines of the latest attempt, with their times.
        issues: URLs of issues.
        links: Known issues.
    """
    last = run.attempt
    parts = [plain(run.reason or last.reason) or f"it ended with {run.outcome}"]
    for attempt in run.attempts:
        named = [f"as {plain_line(attempt.outside)}"] if attempt.outside else []
        parts.append("\n".join([_title(run, attempt, digest), *_indent([*named, *timeline(attempt)])]))
        if attempt.reason and attempt is not last:
            parts[-1] += f"\n  {attempt.outcome}: {plain_line(attempt.reason, REASON)}"
    reports = [report for attempt in run.attempts for report in attempt.reports]
    parts += [_report(report) for report in _telling(reports)]
    parts += [f"… {len(reports) - REPORTS:,} more reports"] if len(reports) > REPORTS else []
    parts += [
        f"report refused at {clock(refusal.at)}: {told_refusal(refusal)}" for a in run.attempts for refusal in a.refused
    ]
    if console:
        tail = [f"{clock(at)} {plain_line(text)}" for at, text in last_lines(console)]
        parts.append("\n".join(["last console lines", *_indent(tail)]))
    if last.reason.startswith(NOBODY_CAME) and not any(attempt.machine for attempt in run.attempts):
        parts.append(_WHERE_FROM)
    parts += [f"known issue: {told}" for told in known_issues(links)]
    known = {link.url for link in links if is_known(link)}
    issues = [url for url in issues if url not in known]
    parts += [f"issue: {url}" for url in issues[:ISSUES]]
    parts += [f"… {len(issues) - ISSUES:,} more issues"] if len(issues) > ISSUES else []
    return "\n\n".join(parts)


def is_known(link: IssueLink) -> bool:
    """Return whether an issue was known before its run failed, or a person has linked it."""
    return bool(link.carried) or link.by != BY_LAB


def known_issues(links: Sequence[IssueLink]) -> list[str]:
    """Return a line for each known issue: its address, since when it is known, and who linked it if a person did."""
    return [
        f"{link.url}, since {dated(link.since):%Y-%m-%d %H:%M UTC}"
        f"{f', linked by {plain_line(link.by)}' if link.by != BY_LAB else ''}"
        for link in links
        if is_known(link)
    ]


def _telling(reports: Sequence[Report]) -> list[Report]:
    """Return at most `REPORTS` reports, in order; reports with failures are preferred."""
    locations = sorted(range(len(reports)), key=lambda place: not _is_bad(reports[place]))
    return [reports[place] for place in sorted(locations[:REPORTS])]


def _is_bad(report: Report) -> bool:
    return report.result in BAD or any(case.outcome in BAD for case in report.cases)


def last_lines(console: Sequence[tuple[float, str]], most: int = CONSOLE_LINES) -> list[tuple[float, str]]:
    """Return the last lines of a console; of a progress display with many lines, keep only the last one.

    Args:
        console: Lines with their times.
        most: Maximum number of lines.
    """
    found: list[tuple[float, str]] = []
    later = ""
    for at, text in reversed(console):
        shape = _PERCENT.sub("%", text)
        # the last line of a progress display often lacks a line end, so that other text follows in the same line
        progress = shape != text and (shape == later or (shape.endswith("%") and later.startswith(shape)))
        later = shape
        if not progress:
            found.append((at, text))
        if len(found) == most:
            break
    return found[::-1]


def _title(run: Run, attempt: Attempt, digest: str) -> str:
    where = f"on {attempt.where}" if attempt.where else "on no machine"
    short = f" ({digest[:19]}…)" if digest else ""
    return f"{plain_line(run.workload.name)}{short} {where}, attempt {attempt.number} of {len(run.attempts)}"


def _said(report: Report) -> str:
    return plain_line(report.title) + (f", result {report.result}" if report.result else "")


def _report(report: Report) -> str:
    late = ", too late" if report.late else ""
    lines = plain(report.body).strip().splitlines()
    more = [f"… {len(lines) - BODY_LINES} more lines"] if len(lines) > BODY_LINES else []
    text = [f"report: {_said(report)}{late}"]
    text += _indent([line[:200] for line in lines[:BODY_LINES]] + more)
    bad = [case for case in report.cases if case.outcome in BAD]
    text += _indent([_case(case) for case in bad[:CASES]])
    text += _indent([f"… {len(bad) - CASES} more cases"] if len(bad) > CASES else [])
    return "\n".join(text)


def _case(case: Case) -> str:
    message = f": {plain_line(case.message)}" if case.message else ""
    return f"{case.outcome} case {plain_line(case.name)}{message}"


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
