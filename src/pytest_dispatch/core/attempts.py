"""Pure functions that compute what an event makes of a run and its latest attempt."""

from __future__ import annotations

import math
from dataclasses import replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.lifecycle import CoreEvent, Ending, Lifecycle
from pytest_dispatch.core.model import (
    Attempt,
    Idle,
    Moment,
    Outcome,
    Phase,
    Placement,
    Policy,
    Refusal,
    Report,
    Run,
)
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.verdict import judge, refused_report, summary_of

REPORTS = 1000  # most reports of one attempt
VOLUME = 64 * 2**20  # most bytes that all reports of one attempt may take
DETAIL = 500  # most characters of a fault's detail, such as the last output of an emulator
REFUSALS = 20  # most refused reports that are recorded for one attempt

_TAKEN = {Phase.STARTING, Phase.RUNNING, Phase.SETTLING}


def first_attempt(lifecycle: Lifecycle, now: float) -> Attempt:
    """Return the first attempt of a run."""
    return _attempt(lifecycle, 1, now)


def next_attempt(lifecycle: Lifecycle, run: Run, ended: tuple[Attempt, ...], now: float) -> Run:
    """Return the run with one more attempt after those that have ended."""
    return replace(run, attempts=(*ended, _attempt(lifecycle, len(ended) + 1, now)))


def _attempt(lifecycle: Lifecycle, number: int, now: float) -> Attempt:
    return Attempt(number=number, history=(_moment(lifecycle, lifecycle.initial, now),), heard=now)


def _moment(lifecycle: Lifecycle, state: str, at: float) -> Moment:
    return Moment(state=state, phase=lifecycle.phase(state), at=at)


def with_attempt(run: Run, attempt: Attempt) -> Run:
    """Return the run with the attempt of the same number replaced."""
    before, after = run.attempts[: attempt.number - 1], run.attempts[attempt.number :]
    return replace(run, attempts=(*before, attempt, *after))


def advanced(
    lifecycle: Lifecycle,
    run: Run,
    event: str,
    now: float,
    *,
    placement: Placement | None = None,
    report: Report | None = None,
) -> Run | None:
    """Return the run after an event of its latest attempt, or None if its state does not handle the event.

    An event that restarts the wait of its state adds a moment to the history, like a change of state.
    """
    old = run.attempt
    rule = lifecycle.states[old.state]
    state = rule.on.get(event)
    if state is None:
        return None
    entered = state != old.state or event in rule.anew
    attempt = replace(
        old,
        placements=(*old.placements, placement) if placement else old.placements,
        history=(*old.history, _moment(lifecycle, state, now)) if entered else old.history,
        heard=now,
        counts={**old.counts, event: old.counts.get(event, 0) + 1} if event in lifecycle.counted else old.counts,
        reports=(*old.reports, report) if report else old.reports,
    )
    return with_attempt(run, attempt)


def placed(run: Run, placement: Placement) -> Run:
    """Return the run with one more machine recorded for its latest attempt."""
    return with_attempt(run, replace(run.attempt, placements=(*run.attempt.placements, placement)))


def named(run: Run, number: int, outside: str) -> Run:
    """Return the run with the name that an external system gave to one of its attempts."""
    return with_attempt(run, replace(run.attempts[number - 1], outside=outside))


def with_late_report(run: Run, number: int, report: Report) -> Run:
    """Return the run with a late report added to an attempt that has ended; it is kept, but changes nothing."""
    attempt = run.attempts[number - 1]
    return with_attempt(run, replace(attempt, reports=(*attempt.reports, replace(report, late=True))))


def with_report(lifecycle: Lifecycle, run: Run, number: int, report: Report, now: float) -> Run | None:
    """Return the run with a report of one of its attempts, or None if the attempt's state does not handle reports.

    A report of an attempt that has ended is kept as late.
    """
    if run.attempts[number - 1].ended:
        return with_late_report(run, number, report)
    return advanced(lifecycle, run, CoreEvent.REPORT, now, report=report)


def with_refusal(run: Run, number: int, refusal: Refusal) -> Run | None:
    """Return the run with a refused report recorded, or None if it is known already or enough are recorded."""
    attempt = run.attempts[number - 1]
    known = any(replace(refusal, at=old.at) == old for old in attempt.refused)
    if known or len(attempt.refused) >= REFUSALS:
        return None
    return with_attempt(run, replace(attempt, refused=(*attempt.refused, refusal)))


def knows(attempt: Attempt, report: Report) -> bool:
    """Return whether the attempt already has this report; times and lateness are not compared."""
    alike = (old for old in attempt.reports if old.title == report.title)
    return any(replace(report, at=old.at, late=old.late) == old for old in alike)


def not_after(run: Run, now: float) -> Run:
    """Return the run with no time in it later than `now`; later times occur if the system date was set back."""

    def past(attempt: Attempt) -> Attempt:
        return replace(
            attempt,
            history=tuple(replace(moment, at=min(moment.at, now)) for moment in attempt.history),
            placements=tuple(replace(placement, at=min(placement.at, now)) for placement in attempt.placements),
            reports=tuple(replace(report, at=min(report.at, now)) for report in attempt.reports),
            refused=tuple(replace(refusal, at=min(refusal.at, now)) for refusal in attempt.refused),
            heard=min(attempt.heard, now),
        )

    return replace(run, attempts=tuple(map(past, run.attempts)))


def has_room(attempt: Attempt, report: Report) -> bool:
    """Return whether the attempt may take this report without exceeding `REPORTS` or `VOLUME`."""
    if len(attempt.reports) >= REPORTS:
        return False
    return report.size + sum(kept.size for kept in attempt.reports) <= VOLUME


def ran_on(machine: str, run: Run, by: float = math.inf) -> Attempt | None:
    """Return the latest attempt in which this machine ran the workload, begun at or before the time `by`."""
    mine = (a for a in reversed(run.attempts) if any(each.machine == machine for each in a.placements))
    return next((a for a in mine if a.ran and a.began <= by), None)


def waits(run: Run) -> bool:
    """Return whether a run waits, here or in an external system."""
    return run.outcome is None and run.attempt.phase is Phase.QUEUED


def was_taken(attempt: Attempt) -> bool:
    """Return whether the attempt was ever given to a machine, or to a system that assigns machines."""
    return any(moment.phase in _TAKEN for moment in attempt.history)


def verdict_on(
    lifecycle: Lifecycle, run: Run, was: str, event: str, policy: Policy, cause: Cause
) -> tuple[Outcome, str]:
    """Return outcome and reason of an attempt that has ended.

    Where the ending says that the reports decide, a refused report makes the attempt failed: what it meant to say is
    unknown, so it is never a pass.

    Args:
        lifecycle: The lifecycle of the run.
        run: A run whose latest attempt has ended.
        was: The state in which the attempt ended.
        event: The event that ended it.
        policy: The policy of its session.
        cause: Details of the event.
    """
    ending, refused = _ending(lifecycle, run.attempt, was, event), refused_report(run.attempt)
    if ending.outcome is None:
        reports = run.attempt.reports
        outcome = Outcome.FAILED if refused else judge(reports, policy)
        return outcome, "; ".join(filter(None, (refused, summary_of(reports, policy))))
    reason = ending.text.format_map(
        {
            **dict.fromkeys(lifecycle.counted, 0),
            **run.attempt.counts,
            **{name: format_duration(seconds) for name, seconds in run.limits.items()},
            "machine": run.attempt.where,
            "state": was,
            "by": cause.named,
            "detail": plain_line(cause.detail, DETAIL),
        }
    )
    if refused:
        reason = refused if ending.unreported else f"{reason}; {refused}"
    return cause.blame or ending.outcome, reason


def _ending(lifecycle: Lifecycle, attempt: Attempt, was: str, event: str) -> Ending:
    """Return how an attempt ends, or the state's `endless` ending if it timed out while reports still came in."""
    rule = lifecycle.states[was]
    if rule.endless is not None and rule.wait is not None and event == CoreEvent.TIMEOUT:
        latest = max(report.at for report in attempt.reports)
        if attempt.since < latest + rule.wait.seconds:
            return rule.endless
    return rule.endings[event]


def may_retry(run: Run, outcome: Outcome, event: str, policy: Policy) -> bool:
    """Return whether a further attempt follows after the latest one ended in this way.

    An attempt taken away from a silent machine is tried once more even if the policy allows no retries: nothing has
    been tried yet.
    """
    allowed = {
        Outcome.ERROR: max(policy.retries, int(event == CoreEvent.SILENCE)),
        Outcome.FAILED: policy.retry_failures,
    }
    spent = 1 + sum(attempt.outcome is outcome for attempt in run.attempts[:-1])
    return event != CoreEvent.CANCEL and was_taken(run.attempt) and spent <= allowed.get(outcome, 0)


def keeps_idle_machines(lifecycle: Lifecycle, run: Run, policy: Policy) -> bool:
    """Return whether idle machines must stay on because the run is to be retried, or may be."""
    if policy.idle is Idle.POWEROFF or run.outcome is not None:
        return False
    attempt = run.attempt
    if attempt.phase is Phase.QUEUED:
        return len(run.attempts) > 1
    if not was_taken(attempt):
        return False  # no machine took it, so there will be no retry
    outcomes = [each.outcome for each in run.attempts[:-1]]
    faults = max(policy.retries, int(lifecycle.states[attempt.state].revocable))
    return outcomes.count(Outcome.ERROR) < faults or outcomes.count(Outcome.FAILED) < policy.retry_failures
