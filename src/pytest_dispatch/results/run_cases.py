"""A run as test cases: how each of its cases is shown, its facts, and both together as a JUnit file has them.

The plugin shows cases as sub-tests, and facts as properties of its items, and so writes the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pytest_dispatch.core.known_issues import IssueLink
from pytest_dispatch.core.model import BAD, Attempt, Case, Outcome, Run
from pytest_dispatch.core.plain_text import plain_line, shown, shown_wrapped
from pytest_dispatch.results.junit_writer import JunitCase
from pytest_dispatch.results.timeline import explain, known_issues, late_reports

LATE = "dispatch_late_report"  # name of the property for a late report

#: A case's name, its outcome in pytest's words, its duration in seconds, and its message; of types that pytest-xdist
#: can send.
Told = tuple[str, str, float, str]

OUTCOMES = {"passed": Outcome.PASSED, "failed": Outcome.FAILED, "skipped": Outcome.SKIPPED}


def told_case(case: Case, decided: Outcome) -> Told:
    """Return a case as it is shown, for a run with the outcome `decided`."""
    name, message = plain_line(case.name), shown(case.message).strip()
    if case.outcome in BAD and decided is not Outcome.FAILED:
        why = f": {shown_wrapped(message)}" if message else ""
        return name, "skipped", case.duration, f"{case.outcome}, but the run is {decided}{why}"
    if case.outcome is Outcome.SKIPPED:
        return name, "skipped", case.duration, shown_wrapped(message) or "the workload skipped it"
    if case.outcome in BAD:
        return name, "failed", case.duration, message or f"the case {case.outcome}"
    return name, "passed", case.duration, ""


def skipped_text(run: Run) -> str:
    """Return why a run that was skipped was."""
    return shown_wrapped(plain_line(run.reason)) or "the workload skipped itself"


def facts_of(run: Run, digest: str, issues: Iterable[str], links: Sequence[IssueLink] = ()) -> list[tuple[str, object]]:
    """Return the facts of a run, by the names of their properties.

    Args:
        run: The run.
        digest: Digest of the served file.
        issues: URLs of its issues.
        links: Its links to known issues.
    """
    facts: list[tuple[str, object]] = [
        ("dispatch_workload", run.workload.name),
        *(("dispatch_machine", placement.machine) for placement in run.attempt.placements),
        ("dispatch_link", plain_line(run.attempt.outside)),
        ("dispatch_digest", digest),
        ("dispatch_attempts", len(run.attempts)),
        ("dispatch_outcome", "cancelled" if run.cancelled else str(run.outcome)),
        ("dispatch_reason", plain_line(run.reason)),
    ]
    facts += [(f"dispatch_seconds_{state}", round(seconds, 3)) for state, seconds in durations(run)]
    facts += [("dispatch_issue", url) for url in issues]
    facts += [("dispatch_known_issue", told) for told in known_issues(links)]
    facts += [(LATE, late) for late in late_reports(run)]
    facts += [("dispatch_unreviewed", "true")] * run.unreviewed
    return [fact for fact in facts if fact[1] != ""]


def durations(run: Run) -> list[tuple[str, float]]:
    """Return the seconds that the latest attempt spent in each state that it has left, in order."""
    return spent(run.attempt)


def spent(attempt: Attempt) -> list[tuple[str, float]]:
    """Return the seconds that an attempt spent in each state that it has left, in order."""
    found: dict[str, float] = {}
    for moment, following in pairwise(attempt.history):
        found[moment.state] = found.get(moment.state, 0.0) + following.at - moment.at
    return list(found.items())


def junit_cases(
    run: Run,
    digest: str,
    console: Sequence[tuple[float, str]],
    issues: Sequence[str],
    links: Sequence[IssueLink] = (),
) -> Iterator[JunitCase]:
    """Yield the test cases of a run that has ended: the run itself, and each case that it reported in time.

    Args:
        run: The run.
        digest: Digest of the served file.
        console: Console lines of the latest attempt, with their times.
        issues: URLs of its issues.
        links: Its links to known issues.
    """
    outcome = run.outcome or Outcome.ERROR
    if outcome is Outcome.PASSED:
        text = ""
    elif outcome is Outcome.SKIPPED:
        text = skipped_text(run)
    else:
        text = shown(explain(run, digest, console, issues, links))
    yield JunitCase(
        group=run.key,
        name=run.key.rpartition("::")[2],
        outcome=outcome,
        seconds=max(0.0, run.attempt.since - run.attempts[0].history[0].at),
        text=text,
        properties=tuple((name, str(value)) for name, value in facts_of(run, digest, issues, links)),
    )
    for attempt in run.attempts:
        for report in attempt.reports:
            yield from (junit_case(run.key, told_case(case, outcome)) for case in report.cases if not report.late)


def junit_case(group: str, told: Told) -> JunitCase:
    """Return a case as a test case of a JUnit file.

    Args:
        group: Node id of the workload's item.
        told: The case as it is shown.
    """
    name, outcome, seconds, text = told
    return JunitCase(group=group, name=name or "case", outcome=OUTCOMES[outcome], seconds=seconds, text=text)
