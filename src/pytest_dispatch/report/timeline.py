"""A run told in plain text: what happened when, what the workload said, what the machine showed last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pytest_dispatch.core.model import Attempt, Case, Outcome, Report, Run, State
from pytest_dispatch.core.plain import plain, plain_line

BODY_LINES = 20
CONSOLE_LINES = 12
CASES = 20
REASON = 500  # characters

EMOJI = {
    State.UNASSIGNED: "⏳",
    State.ASSIGNED: "📌",
    State.DOWNLOADING: "📥",
    State.DOWNLOADED: "📥",
    State.BOOTING: "⚡",
    State.REPORTED: "📝",
    State.FINISHED: "🏁",
    State.FAILED: "❌",
}


def clock(at: float) -> str:
    """A time of day, local."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def timeline(attempt: Attempt) -> list[str]:
    """A line per state: when it was entered, and how long it lasted."""
    history = attempt.history
    ends = [moment.at for moment in history[1:]]
    lines = []
    for index, moment in enumerate(history):
        lasted = f"{ends[index] - moment.at:8.1f} s" if index < len(ends) else ""
        lines.append(f"{EMOJI[moment.state]} {moment.state:<12} {clock(moment.at)} {lasted}".rstrip())
    return lines


def explain(run: Run, digest: str, console: Sequence[tuple[float, str]], issues: Sequence[str]) -> str:
    """Why a run ended as it did, for a person: the reason first, then the evidence.

    Args:
        run: Ended.
        digest: Of the bytes that were served.
        console: Lines of the latest attempt with their times.
        issues: URLs.
    """
    last = run.attempt
    parts = [plain(run.reason or last.reason) or f"it ended with {run.outcome}"]
    for attempt in run.attempts:
        parts.append("\n".join([_title(run, attempt, digest), *_indent(timeline(attempt))]))
        if attempt.reason and attempt is not last:
            parts[-1] += f"\n  {attempt.outcome}: {plain_line(attempt.reason, REASON)}"
    reports = [report for attempt in run.attempts for report in attempt.reports]
    parts += [_report(report) for report in reports]
    if console:
        tail = [f"{clock(at)} {plain_line(text)}" for at, text in console[-CONSOLE_LINES:]]
        parts.append("\n".join(["last console lines", *_indent(tail)]))
    parts += [f"issue: {url}" for url in issues]
    return "\n\n".join(parts)


def _title(run: Run, attempt: Attempt, digest: str) -> str:
    where = f"on {attempt.machine}" if attempt.machine else "on no machine"
    short = f" ({digest[:19]}…)" if digest else ""
    return f"{plain_line(run.workload.name)}{short} {where}, attempt {attempt.number} of {len(run.attempts)}"


def _report(report: Report) -> str:
    said = f", result {report.result}" if report.result else ""
    late = ", too late" if report.late else ""
    lines = plain(report.body).strip().splitlines()
    more = [f"… {len(lines) - BODY_LINES} more lines"] if len(lines) > BODY_LINES else []
    text = [f"report: {plain_line(report.title)}{said}{late}"]
    text += _indent([line[:200] for line in lines[:BODY_LINES]] + more)
    bad = [case for case in report.cases if case.outcome in (Outcome.FAILED, Outcome.ERROR)]
    text += _indent([_case(case) for case in bad[:CASES]])
    text += _indent([f"… {len(bad) - CASES} more cases"] if len(bad) > CASES else [])
    return "\n".join(text)


def _case(case: Case) -> str:
    message = f": {plain_line(case.message)}" if case.message else ""
    return f"{case.outcome} case {plain_line(case.name)}{message}"


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
