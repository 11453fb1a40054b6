"""Moves attempts by their lifecycles: the only place where an attempt's state changes.

What ends an attempt gives it an outcome; a further attempt or the run's outcome follows from that. Every change is
noted, to be journalled and told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_dispatch.core.attempts import (
    advanced,
    has_room,
    keeps_idle_machines,
    may_retry,
    next_attempt,
    placed,
    verdict_on,
    with_attempt,
    with_late_report,
)
from pytest_dispatch.core.deadlines import JUDGING, Deadlines
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.model import Attempt, KnownBy, Outcome, Placement, Policy, Report, Run
from pytest_dispatch.core.ready_queue import ReadyQueue, Waiting
from pytest_dispatch.core.runs import Cause, Change, RunRecord, RunTable

#: What a session judges by, in the words that its users know.
_JUDGES = "pytest_dispatch_verdict or pytest_dispatch_issue"


_NO_CAUSE = Cause()


class Engine:
    """Runs, machines, and what happens between them.

    Args:
        policy_of: Tells how a session wants its workloads run.
    """

    def __init__(self, policy_of: Callable[[str], Policy]) -> None:
        self.runs = RunTable()
        self.machines = MachineTable()
        self.ready = ReadyQueue()
        self.deadlines = Deadlines()
        self.keeping = 0  # runs for which idle machines stay on
        self.needing = 0  # runs that wait, and need something that the lab is yet to have
        self._policy_of = policy_of
        self._arrived = False
        self._under_way: set[str] = set()
        self._keeps: set[str] = set()
        self._needs: set[str] = set()
        self._changes: list[Change] = []

    def take_changes(self) -> list[Change]:
        """Return everything that changed since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    # Beginning

    def add(self, record: RunRecord) -> None:
        """Take up a run."""
        self.runs.add(record)
        self.deadlines.watch(record)
        self.regard(record)

    def offer(self, record: RunRecord) -> None:
        """Let a run wait for a machine if it has to, and if the lab has what it needs."""
        self.ready.discard(record.run.id)
        if record.is_held_back:
            record.needs = ""  # what it will be asked for with is not known yet
        elif record.is_waiting and not record.needs:
            run = record.run
            self.ready.put(
                Waiting(
                    run=run.id,
                    session=run.session,
                    place=run.position,
                    priority=run.workload.priority,
                    requirements=run.workload.requires,
                    avoid=run.attempts[-2].machine if len(run.attempts) > 1 else "",
                )
            )
        self.regard(record)

    def regard(self, record: RunRecord) -> None:
        """Note whether idle machines are to stay on for a run, and whether something is yet to come for it."""
        run_id = record.run.id
        hopeless = record.lost or record.is_held_back
        keeps = not hopeless and keeps_idle_machines(record.lifecycle, record.run, self._policy_of(record.run.session))
        for noted, holds in ((self._keeps, keeps), (self._needs, bool(record.needs) and record.run.outcome is None)):
            (noted.add if holds else noted.discard)(run_id)
        self.keeping, self.needing = len(self._keeps), len(self._needs)

    # Moving

    def move(self, run_id: str, event: str, now: float, cause: Cause = _NO_CAUSE) -> bool:
        """Apply one event to a run's latest attempt; False if it means nothing there."""
        record = self.runs.record(run_id)
        run = record.run
        placement = Placement(machine=cause.machine, known_by=cause.known_by, at=now) if cause.machine else None
        moved = None
        if not record.is_held_back:
            moved = advanced(record.lifecycle, run, event, now, placement=placement, report=cause.report)
        if moved is None:
            return False
        entered = len(moved.attempt.history) > len(run.attempt.history)
        if entered and moved.attempt.ended:
            self._end(record, moved, event, now, cause)
        elif entered or event in record.lifecycle.told:
            self._note(record, moved, event, moved.attempt.number, now)
        else:
            record.run = moved
        if entered and not moved.attempt.ended:
            self._entered(record, run.attempt.state, now)
        return True

    def bind(self, run_id: str, machine: str, known_by: KnownBy, now: float) -> None:
        """Note one more machine that a run's latest attempt is seen to run on."""
        record = self.runs.record(run_id)
        placement = Placement(machine=machine, known_by=known_by, at=now)
        self._note(record, placed(record.run, placement), CoreEvent.BIND, record.run.attempt.number, now)
        self.hold(record)

    def _entered(self, record: RunRecord, before: str, now: float) -> None:
        """Do what follows from an attempt's new state."""
        state = record.run.attempt.state
        if record.is_waiting:
            self._release(record.run, now)
            self.offer(record)
        else:
            self.hold(record)
        self.deadlines.watch(record)
        then = record.lifecycle.states[state].then
        if then and state != before:
            self.move(record.run.id, then, now)

    def report(self, run_id: str, number: int, report: Report, now: float) -> bool | None:
        """Give an attempt a report.

        Returns:
            Whether it came in time; None if there is no room for it.
        """
        record = self.runs.record(run_id)
        attempt = record.run.attempts[number - 1]
        if not has_room(attempt, report):
            return None
        if attempt.ended:
            self._note(record, with_late_report(record.run, number, report), CoreEvent.REPORT, number, now)
            return False
        return self.move(run_id, CoreEvent.REPORT, now, Cause(report=report))

    # Ending

    def _end(self, record: RunRecord, moved: Run, event: str, now: float, cause: Cause) -> None:
        """End the latest attempt: settle it, or let its session judge first."""
        self.ready.discard(moved.id)
        self._release(moved, now)
        was, policy = record.run.attempt.state, self._policy_of(moved.session)
        missed = not cause.blame and event != CoreEvent.CANCEL and record.may_have_been_missed
        cause = replace(cause, blame=Outcome.ERROR) if missed else cause
        outcome, reason = verdict_on(record.lifecycle, moved, was, event, policy, cause)
        reason += cause.remark if not moved.attempt.reports else ""
        reason += "; the lab was restarted while it ran, and may have missed its report" if missed else ""
        record.run = moved
        asked = policy.judged and event != CoreEvent.CANCEL
        if not asked or (not moved.attempt.reports and self._may_retry(record, outcome, event)):
            self._settle(record, outcome, reason, event, now)
            return
        proposed = replace(moved.attempt, proposed=outcome, reason=reason)
        self._note(record, with_attempt(moved, proposed), event, proposed.number, now)
        self.deadlines.watch(record)
        self.regard(record)

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, now: float) -> bool:
        """Take the session's own verdict on the latest attempt; None takes the proposed one."""
        record = self.runs.record(run_id)
        attempt = record.run.attempt
        if attempt.proposed is None or attempt.outcome is not None:
            return False
        if outcome in (None, attempt.proposed):
            reason = reason or attempt.reason
        self._settle(record, outcome or attempt.proposed, reason, CoreEvent.COMPLETE, now)
        return True

    def cancel(self, run_id: str, now: float) -> None:
        """Give a run up; its machine is free. What is held back stays for the next session."""
        record = self.runs.record(run_id)
        if record.run.outcome is not None or record.is_held_back or self.move(run_id, CoreEvent.CANCEL, now):
            return
        attempt = record.run.attempt  # it has ended, and waits for its session's verdict
        outcome = attempt.proposed or Outcome.ERROR
        again = self._may_retry(record, outcome, CoreEvent.COMPLETE)
        self._settle(record, outcome, attempt.reason, CoreEvent.CANCEL if again else CoreEvent.COMPLETE, now)

    def _settle_unjudged(self, record: RunRecord, now: float) -> None:
        """Settle what a session never judged, and may have meant to say no to. Another machine would not help."""
        silent = f"{_JUDGES} did not answer within {format_duration(JUDGING)}"
        reason = "; ".join(filter(None, (silent, record.run.attempt.reason)))
        self._settle(record, Outcome.ERROR, reason, CoreEvent.COMPLETE, now, again=False)

    def _settle(
        self, record: RunRecord, outcome: Outcome, reason: str, event: str, now: float, *, again: bool = True
    ) -> None:
        """Give the latest attempt its outcome, and the run a further attempt or the same outcome."""
        run, attempt = record.run, record.run.attempt
        attempts = (*run.attempts[:-1], replace(attempt, outcome=outcome, reason=reason))
        if again and self._may_retry(record, outcome, event):
            self._note(record, next_attempt(record.lifecycle, run, attempts, now), event, attempt.number, now)
            self.offer(record)
            self.deadlines.watch(record)
            return
        cut = event == CoreEvent.CANCEL and not _has_spoken(attempt)
        run = replace(run, attempts=attempts, outcome=outcome, reason=reason, cancelled=cut)
        self._note(record, run, event, attempt.number, now)
        record.needs = ""
        self.regard(record)

    def _may_retry(self, record: RunRecord, outcome: Outcome, event: str) -> bool:
        return not record.lost and may_retry(record.run, outcome, event, self._policy_of(record.run.session))

    # Time

    def expire(self, now: float) -> None:
        """Pass every deadline that has come.

        The patience of runs that wait for a machine stands still while something runs, and begins anew when what one
        of them needs arrives.
        """
        if self._under_way or self._arrived:
            self.deadlines.active, self._arrived = now, False
        nothing_to_take = not self.ready
        for record in self.deadlines.passed(now):
            event, cause = CoreEvent.FAULT, _NO_CAUSE
            if record.run.attempt.ended:
                self._settle_unjudged(record, now)
                continue
            if nothing_to_take and record.needs and record.is_waiting:
                cause = Cause(detail=f"{record.needs} after {format_duration(self.deadlines.patience(record))}")
            elif slow := self.deadlines.is_too_slow(record, now):
                cause = Cause(detail=slow)
            else:
                event, cause = CoreEvent.TIMEOUT, Cause(remark=self._strangers(record.run.attempt))
            self.move(record.run.id, event, now, cause)

    def has_what_it_needs(self, run_id: str) -> None:
        """Let machines have a run: what the lab had to have for it is there."""
        record = self.runs.record(run_id)
        if record.needs:
            record.needs = ""
            self._arrived = True
            self.offer(record)

    def lacks(self, run_id: str, detail: str, now: float) -> None:
        """Give a run up whose needs cannot be met.

        What runs already does not need them, and what awaits to be asked for again may be asked for with others.
        """
        record = self.runs.record(run_id)
        if record.awaits_resubmit:
            return
        record.lost, record.needs = True, ""
        if not record.run.attempt.ran:
            self.move(run_id, CoreEvent.FAULT, now, Cause(detail=detail))
        self.regard(record)

    def _strangers(self, attempt: Attempt) -> str:
        """Say what may have been meant for an attempt: a machine whose address has changed is not known again."""
        addresses = [each.machine for each in attempt.placements if each.known_by is KnownBy.ADDRESS]
        said = self.machines.unknown.since(attempt.since) if addresses else ""
        return said and f"; meanwhile {said}: has the address of {attempt.machine} changed?"

    # Machines

    def hold(self, record: RunRecord) -> None:
        """Let the machines of the latest attempt be busy with it."""
        run = record.run
        if run.id not in self._under_way:
            self._under_way.add(run.id)
            self.ready.discard(run.id)
            self.ready.began(run.session)
        for placement in run.attempt.placements:
            self.machines.hold(placement.machine, run.id, revocable=record.revocable)
        self.regard(record)

    def _release(self, run: Run, now: float) -> None:
        """Let them be free again."""
        if run.id in self._under_way:
            self._under_way.discard(run.id)
            self.ready.ended(run.session)
            self.deadlines.active = now
        for placement in run.attempt.placements:
            if self.machines[placement.machine].holds == run.id:
                self.machines.release(placement.machine, now)

    def _note(self, record: RunRecord, run: Run, event: str, attempt: int, now: float) -> None:
        record.run = run
        self._changes.append(Change(run, event, attempt, now))


def _has_spoken(attempt: Attempt) -> bool:
    """Tell whether a report of the attempt came in time."""
    return any(not report.late for report in attempt.reports)
