"""Judges attempts that have ended: sets the outcome, then starts another attempt or ends the run.

The lab proposes an outcome from the lifecycle and the reports alone. If the session judges for itself, its holder may
change the proposal until a deadline; the machine is already free by then. If no holder is attached, the proposal
stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_dispatch.core.attempts import may_retry, next_attempt, verdict_on, with_attempt
from pytest_dispatch.core.deadlines import JUDGING
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Attempt, Outcome, Policy, Run
from pytest_dispatch.core.run_chain import Chain
from pytest_dispatch.core.runs import Cause, RunRecord
from pytest_dispatch.core.transitions import Transitions

_JUDGE = "pytest_dispatch_verdict"  # the hook that judges, by the name that users know


class Verdicts:
    """Sets the outcomes of attempts that have ended; see the module docstring.

    Args:
        transitions: Moves the runs.
        policy_of: Returns the policy of a session.
        is_attended: Returns whether the holder of a session is there to judge.
    """

    def __init__(
        self, transitions: Transitions, policy_of: Callable[[str], Policy], is_attended: Callable[[str], bool]
    ) -> None:
        self._transitions = transitions
        self._policy_of = policy_of
        self._is_attended = is_attended
        transitions.on_end = self._ended

    def _ended(self, record: RunRecord, moved: Run, event: str, now: float, cause: Cause) -> None:
        """Settle an attempt that has ended, or let its session judge it first."""
        if record.chain is None or not record.chain.keeps_machine_of(moved.id):
            self._transitions.release(moved, now)  # no machine waits for a verdict
        policy = self._policy_of(moved.session)
        was = record.run.attempt.state
        withdrawn = event == CoreEvent.CANCEL or record.lifecycle.states[was].withdrawn
        missed = not cause.blame and not withdrawn and record.may_have_been_missed
        cause = replace(cause, blame=Outcome.ERROR) if missed else cause
        outcome, reason = verdict_on(record.lifecycle, moved, was, event, policy, cause)
        reason += cause.remark if not moved.attempt.reports else ""
        reason += "; the lab was restarted while it ran, and may have missed its report" if missed else ""
        excused = missed or cause.excused or withdrawn
        record.run = moved
        if not (policy.judged and moved.attempt.reports) or withdrawn:
            self._settle(record, outcome, reason, CoreEvent.CANCEL if withdrawn else event, now, excused=excused)
            return
        proposed = replace(moved.attempt, proposed=outcome, reason=reason)
        self._transitions.note(record, with_attempt(moved, proposed), event, proposed.number, now)
        self._transitions.deadlines.watch(record)
        self._transitions.run_index.regard(record)
        if not self._is_attended(moved.session):
            self.accept(moved.id, now)

    def amend(self, run_id: str, outcome: Outcome | None, reason: str, now: float, *, final: bool = False) -> bool:
        """Settle the latest attempt with the session's own verdict.

        Args:
            run_id: The run.
            outcome: The session's verdict; None accepts the proposed outcome.
            reason: Why; empty keeps the proposed reason if the outcome is unchanged.
            now: The time.
            final: Allow no further attempt.

        Returns:
            Whether the attempt was still waiting for a verdict.
        """
        record = self._transitions.runs.record(run_id)
        attempt = record.run.attempt
        if attempt.proposed is None or attempt.outcome is not None:
            return False
        if outcome in (None, attempt.proposed):
            reason = reason or attempt.reason
        self._settle(record, outcome or attempt.proposed, reason, CoreEvent.COMPLETE, now, again=not final)
        return True

    def accept(self, run_id: str, now: float) -> None:
        """Accept the proposed outcome because no holder is attached to change it."""
        record = self._transitions.runs.record(run_id)
        if record.run.attempt.proposed is not None and record.run.attempt.outcome is None:
            record.run = replace(record.run, unreviewed=True)
            self.amend(run_id, None, "", now)

    def overdue(self, record: RunRecord, now: float) -> None:
        """Settle an attempt as an error because the attached holder did not judge it in time.

        The holder may have meant to reject it, so the proposal does not stand. There is no retry: another machine would
        not help.
        """
        silent = f"{_JUDGE} did not answer within {format_duration(JUDGING)}"
        reason = "; ".join(filter(None, (silent, record.run.attempt.reason)))
        self._settle(record, Outcome.ERROR, reason, CoreEvent.COMPLETE, now, again=False, excused=True)

    def cancel(self, run_id: str, now: float, by: str = "") -> None:
        """Cancel a run and free its machine; leave runs that are held back for the next session.

        Args:
            run_id: The run.
            now: The time.
            by: Who wants it; empty if no person does.
        """
        record = self._transitions.runs.record(run_id)
        if record.run.outcome is not None or record.is_held_back:
            return
        if record.run.requeue is not None:
            self._transitions.alter(record, replace(record.run, requeue=None))  # who cancels a run wants no more of it
        if self._transitions.move(run_id, CoreEvent.CANCEL, now, cause := Cause(by=by)):
            return
        attempt = record.run.attempt  # the attempt has ended and waits for its session's verdict
        outcome = attempt.proposed or Outcome.ERROR
        again = self._may_retry(record, outcome, CoreEvent.COMPLETE)
        reason = f"{attempt.reason}; then cancelled{cause.named}" if again and by else attempt.reason
        self._settle(record, outcome, reason, CoreEvent.CANCEL if again else CoreEvent.COMPLETE, now)

    def _settle(
        self,
        record: RunRecord,
        outcome: Outcome,
        reason: str,
        event: str,
        now: float,
        *,
        again: bool = True,
        excused: bool = False,
    ) -> None:
        """Set the outcome of the latest attempt, then start a further attempt or end the run with the same outcome.

        With `excused`, its machine has nothing to do with the outcome.
        """
        transitions, run = self._transitions, record.run
        attempt = replace(run.attempt, outcome=outcome, reason=reason, excused=excused and outcome is Outcome.ERROR)
        attempts = (*run.attempts[:-1], attempt)
        suspect = "" if record.checks else transitions.health.settled(run, attempt, now, excused=excused)
        again = again and self._may_retry(record, outcome, event)
        if again and self._is_attended(run.session):
            self._keep_place(record, now)
            transitions.note(record, next_attempt(record.lifecycle, run, attempts, now), event, attempt.number, now)
            if suspect and (rules := transitions.health.rules) is not None:
                self._hold(record, rules.hold_of_run(suspect, now))
            if record.is_held_back:
                self.strike_out(record, now)
            transitions.offer(record, now)
            transitions.deadlines.watch(record)
            return
        cut = (again or event == CoreEvent.CANCEL) and not _has_spoken(attempt)  # nobody waits for a retry
        run = replace(run, attempts=attempts, outcome=outcome, reason=reason, cancelled=cut)
        transitions.note(record, run, event, attempt.number, now)
        record.needs = ""
        transitions.run_index.regard(record)
        if record.checks:
            transitions.health.over(run, now, excused=excused)
        self._go_on(record, now)

    def _hold(self, record: RunRecord, hold: Hold) -> None:
        """Keep the next attempt from machines."""
        self._transitions.held.set(record.run.id, hold)
        record.on_hold = True

    def _keep_place(self, record: RunRecord, now: float) -> None:
        """Reserve the same machines for the next attempt if the chain has begun on them; otherwise release them."""
        chain = record.chain
        if chain is not None and chain.placements:
            self._transitions.keep(record, chain, now)
        else:
            self._transitions.release(record.run, now)

    def _go_on(self, record: RunRecord, now: float) -> None:
        """Start the next run of the chain, or skip the rest."""
        chain, run = record.chain, record.run
        if chain is None or run.id not in chain.left:
            return
        in_turn = chain.first == run.id
        for each in chain.ended(run):
            self.skip(self._transitions.runs.record(each), chain, now)
        if not in_turn:
            return
        if not chain.first:
            self._transitions.release(run, now)
            self._transitions.let_go(chain, now)
            return
        self._transitions.keep(record, chain, now)
        self._transitions.take_turn(self._transitions.runs.record(chain.first), now)

    def strike_out(self, record: RunRecord, now: float) -> None:
        """Remove a waiting run from its chain, so that the runs after it no longer wait for it."""
        chain, record.chain = record.chain, None
        if chain is None:
            return
        in_turn = chain.first == record.run.id
        chain.leave(record.run.id)
        if not chain.left:
            self._transitions.let_go(chain, now)
        elif in_turn:
            self._transitions.take_turn(self._transitions.runs.record(chain.first), now)

    def skip(self, record: RunRecord, chain: Chain, now: float) -> None:
        """Skip a run because of what happened earlier in its chain.

        If the earlier run was cancelled, mark this one as cancelled too, so that it may be submitted again.
        """
        event = CoreEvent.CANCEL if chain.cut else CoreEvent.FAULT
        cause = Cause(detail=f"skipped: {chain.cause}", blame=Outcome.SKIPPED, remark=f"; {chain.cause}" * chain.cut)
        self._transitions.move(record.run.id, event, now, cause)

    def _may_retry(self, record: RunRecord, outcome: Outcome, event: str) -> bool:
        return not record.lost and may_retry(record.run, outcome, event, self._policy_of(record.run.session))


def _has_spoken(attempt: Attempt) -> bool:
    """Return whether the attempt has a report that came in time."""
    return any(not report.late for report in attempt.reports)
