"""What an event makes of a run: pure functions on runs and their latest attempts."""

from __future__ import annotations

import math
from dataclasses import replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import (
    Attempt,
    Expect,
    Idle,
    Limits,
    Moment,
    Outcome,
    Policy,
    Refusal,
    Report,
    Run,
    State,
    Workload,
)
from pytest_dispatch.core.plain import plain_line
from pytest_dispatch.core.states import ENDLESS, Event, ending_of, next_state
from pytest_dispatch.core.verdict import judge, refused_report, summary_of

#: States in which a silent machine may lose the workload to another one that asks.
TAKING = (State.ASSIGNED, State.DOWNLOADING)

GRACE = 60.0  # seconds after a report in which more of them may follow
REPORTING = 3600.0  # seconds after the first one in which they may in any case
REPORTS = 1000  # that an attempt may have
VOLUME = 64 * 2**20  # bytes that all of them may take
DETAIL = 500  # characters of what broke, such as the last words of an emulator
REFUSALS = 20  # reports that the lab did not take, of which an attempt is to tell


#: All that is wrong then is that no report was taken.
_NOTHING_CAME = {(Event.TIMEOUT, Expect.REPORT), (Event.RETURN, Expect.REPORT)}


def first_attempt(now: float) -> Attempt:
    """A run begins."""
    return _attempt(1, now)


def next_attempt(run: Run, ended: tuple[Attempt, ...], now: float) -> Run:
    """The run is to be tried again after these."""
    return replace(run, attempts=(*ended, _attempt(len(ended) + 1, now)))


def _attempt(number: int, now: float) -> Attempt:
    return Attempt(number=number, history=(Moment(state=State.UNASSIGNED, at=now),), heard=now)


def limits_of(workload: Workload, default: Limits) -> Limits:
    """The workload's own limits, where it has any."""

    def pick(own: float | None, other: float) -> float:
        return other if own is None else own

    return Limits(
        assign=pick(workload.assign_timeout, default.assign),
        boot=pick(workload.boot_timeout, default.boot),
        report=pick(workload.report_timeout, default.report),
    )


def with_attempt(run: Run, attempt: Attempt) -> Run:
    """The run with one of its attempts replaced, by number."""
    before, after = run.attempts[: attempt.number - 1], run.attempts[attempt.number :]
    return replace(run, attempts=(*before, attempt, *after))


def advanced(run: Run, event: Event, now: float, *, machine: str = "", report: Report | None = None) -> Run | None:
    """The run after an event of its latest attempt; None where the table does not know it.

    A complete download that does not change the state is a moment of its own: the wait for the boot begins anew.
    """
    old = run.attempt
    state = next_state(old.state, event)
    if state is None:
        return None
    entered = state is not old.state or event is Event.SENT
    attempt = replace(
        old,
        machine=machine or old.machine,
        history=(*old.history, Moment(state=state, at=now)) if entered else old.history,
        heard=now,
        downloads=old.downloads + (event is Event.SENT),
        breaks=old.breaks + (event is Event.BREAK),
        reports=(*old.reports, report) if report else old.reports,
    )
    return with_attempt(run, attempt)


def with_late_report(run: Run, number: int, report: Report) -> Run:
    """A report of an attempt that has ended is kept, without effect."""
    attempt = run.attempts[number - 1]
    return with_attempt(run, replace(attempt, reports=(*attempt.reports, replace(report, late=True))))


def with_refusal(run: Run, number: int, refusal: Refusal) -> Run | None:
    """The run with a report that was not taken; None if it has that already, or enough of them."""
    attempt = run.attempts[number - 1]
    known = any(replace(refusal, at=old.at) == old for old in attempt.refused)
    if known or len(attempt.refused) >= REFUSALS:
        return None
    return with_attempt(run, replace(attempt, refused=(*attempt.refused, refusal)))


def knows(attempt: Attempt, report: Report) -> bool:
    """Whether the attempt has this very report already."""
    alike = (old for old in attempt.reports if old.title == report.title)
    return any(replace(report, at=old.at, late=old.late) == old for old in alike)


def not_after(run: Run, now: float) -> Run:
    """The run with nothing in it that is still to come, as there is where the date was set back since it was noted."""

    def past(attempt: Attempt) -> Attempt:
        return replace(
            attempt,
            history=tuple(replace(moment, at=min(moment.at, now)) for moment in attempt.history),
            reports=tuple(replace(report, at=min(report.at, now)) for report in attempt.reports),
            refused=tuple(replace(refusal, at=min(refusal.at, now)) for refusal in attempt.refused),
            heard=min(attempt.heard, now),
        )

    return replace(run, attempts=tuple(map(past, run.attempts)))


def has_room(attempt: Attempt, report: Report) -> bool:
    """Whether the attempt may have this report too."""
    if len(attempt.reports) >= REPORTS:
        return False
    return report.size + sum(kept.size for kept in attempt.reports) <= VOLUME


def entered(attempt: Attempt, state: State) -> float:
    """When it first entered the state; infinity if it never did."""
    return next((moment.at for moment in attempt.history if moment.state is state), math.inf)


def booted_by(machine: str, run: Run, by: float = math.inf) -> Attempt | None:
    """The latest attempt in which this machine had booted the run's workload at that time."""
    mine = (a for a in reversed(run.attempts) if a.machine == machine and a.booted)
    return next((a for a in mine if entered(a, State.BOOTING) <= by), None)


def verdict_on(
    run: Run, was: State, event: Event, policy: Policy, detail: str, blame: Outcome | None
) -> tuple[Outcome, str]:
    """Outcome and reason of an attempt that `event` has ended in the state `was`.

    A report that was refused is never a pass: nobody knows what it was to say.

    Args:
        run: Its latest attempt has ended.
        was: The state it ended in.
        event: What ended it.
        policy: Of its session.
        detail: What broke, for a fault.
        blame: Whose fault it is if the table is not to say; where there are reports, they decide all the same.
    """
    refused = refused_report(run.attempt)
    endless = was is State.REPORTED and event is Event.TIMEOUT and _still_reports(run.attempt)
    ending = ENDLESS if endless else ending_of(was, event, run.expect)
    if ending is None:
        reports = run.attempt.reports
        outcome = Outcome.FAILED if refused else judge(reports, policy)
        return outcome, "; ".join(filter(None, (refused, summary_of(reports, policy))))
    limits = run.limits
    reason = ending.text.format(
        machine=run.attempt.machine,
        assign=format_duration(limits.assign),
        boot=format_duration(limits.boot),
        report=format_duration(limits.report),
        reporting=format_duration(reporting(limits)),
        downloads=run.attempt.downloads,
        state=was.value,
        detail=plain_line(detail, DETAIL),
    )
    if refused:
        reason = refused if (event, run.expect) in _NOTHING_CAME else f"{reason}; {refused}"
    return blame or ending.outcome, reason


def reporting(limits: Limits) -> float:
    """Seconds that reports may go on after the first one."""
    return max(limits.report, REPORTING)


def _still_reports(attempt: Attempt) -> bool:
    """Whether its latest report had come shortly before it ended."""
    return attempt.since < max(report.at for report in attempt.reports) + GRACE


def may_retry(run: Run, outcome: Outcome, event: Event, policy: Policy) -> bool:
    """Whether there is to be a further attempt after the latest one ended like this.

    What was taken from a silent machine is tried once more even if faults are not: nothing was tried yet.
    """
    allowed = {
        Outcome.ERROR: max(policy.retries, int(event is Event.SILENCE)),
        Outcome.FAILED: policy.retry_failures,
    }
    spent = 1 + sum(attempt.outcome is outcome for attempt in run.attempts[:-1])
    return event is not Event.CANCEL and bool(run.attempt.machine) and spent <= allowed.get(outcome, 0)


def another_machine_helps(run: Run, policy: Policy) -> bool:
    """Whether idle machines are to stay on for this run: it is to be tried again, or may come to be."""
    if policy.idle is Idle.POWEROFF or run.outcome is not None:
        return False
    state = run.attempt.state
    if state is State.UNASSIGNED:
        return len(run.attempts) > 1
    if not run.attempt.machine:
        return False  # nobody took it, so nobody will be asked again
    outcomes = [attempt.outcome for attempt in run.attempts[:-1]]
    faults = max(policy.retries, int(state in TAKING))
    return outcomes.count(Outcome.ERROR) < faults or outcomes.count(Outcome.FAILED) < policy.retry_failures
