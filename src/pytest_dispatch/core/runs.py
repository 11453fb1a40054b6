"""The runs of a lab: asked for by sessions, moved by events, tried again, settled.

All changes go through `Runs._move`, which asks the table in `core.states`, replaces the run, and notes a `Change`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pytest_dispatch.core.attempts import (
    TAKING,
    advanced,
    another_machine_helps,
    first_attempt,
    limits_of,
    may_retry,
    next_attempt,
    not_after,
    verdict_on,
    with_attempt,
)
from pytest_dispatch.core.deadlines import JUDGING, SLOWEST, Deadlines
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.line import Line
from pytest_dispatch.core.model import Outcome, Policy, Report, Run, State, Workload
from pytest_dispatch.core.roster import Roster, Seen, known_by_address
from pytest_dispatch.core.states import Event
from pytest_dispatch.core.strays import Strays

LINING_UP = 1.0  # seconds that the first workload is given to be found, before others go first

#: Noted although they may leave an attempt in its state.
_NOTED = (Event.REPORT, Event.BREAK)

#: What a session judges by, in the words that its users know.
_JUDGES = "pytest_dispatch_verdict or pytest_dispatch_issue"


@dataclass(frozen=True, slots=True)
class Change:
    """`run` is what it is since `event` happened to its attempt `attempt` at `at`; journal it, then tell."""

    run: Run
    event: Event
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class _Session:
    policy: Policy
    keys: dict[str, str]


class Runs:
    """Sessions and their runs; `Queue` adds what machines do."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self._sessions: dict[str, _Session] = {}
        self._changes: list[Change] = []
        self._roster = Roster()
        self._line = Line()
        self._deadlines = Deadlines(lambda machine: self._roster.machines[machine].took)
        self._fetching: set[str] = set()
        self._arrived = False  # bytes did, since deadlines were last looked at
        self._lost: set[str] = set()  # runs whose bytes cannot be had
        self._hopes: set[str] = set()  # runs for which idle machines stay on
        self._position = 0
        self._asked = -math.inf  # when a run was asked for last
        self._strays = Strays()
        self.expecting = False  # a session is about to ask for runs: no machine is to be turned away
        self._unasked: set[str] = set()  # runs that were taken back from the journal and not asked for since
        self._unheard: set[tuple[str, int]] = set()  # attempts that ran while no lab was there to hear their reports

    @property
    def machines(self) -> Mapping[str, Seen]:
        """Every machine that asked to boot."""
        return self._roster.machines

    # What sessions do

    def open(self, session: str, policy: Policy) -> None:
        """Let `session` submit runs."""
        self._sessions[session] = _Session(policy, {})

    def policy(self, session: str) -> Policy:
        """How the session wants its workloads run."""
        return self._sessions[session].policy

    def submit(self, session: str, key: str, workload: Workload, now: float) -> Run:
        """Ask for a workload; asking again with the same key changes nothing.

        The run is given to no machine before `ready` says that its bytes are there.
        """
        owner, self.expecting = self._sessions[session], False
        if key in owner.keys:
            return self.runs[owner.keys[key]]
        run = Run(
            id=f"{session}.{self._position}",
            session=session,
            key=key,
            position=self._position,
            workload=workload,
            limits=limits_of(workload, owner.policy.limits),
            expect=workload.expect or owner.policy.expect,
            attempts=(first_attempt(now),),
        )
        self._position += 1
        self._asked = now
        owner.keys[key] = run.id
        self.runs[run.id] = run
        self._fetching.add(run.id)
        self._deadlines.watch(run)
        return run

    def of_session(self, session: str) -> list[Run]:
        """The session's runs in the order they were asked for."""
        return [self.runs[run_id] for run_id in self._sessions[session].keys.values()]

    def close(self, session: str, now: float) -> None:
        """Cancel what the session still waits for."""
        self.expecting = False
        for run in self.of_session(session):
            self.cancel(run.id, now)

    def cancel(self, run_id: str, now: float) -> None:
        """Nobody waits for this run any more; its machine is free. What is held back stays for the next session."""
        run = self.runs[run_id]
        if run.outcome is not None or self.held_back(run) or self._move(run, Event.CANCEL, now):
            return
        attempt = run.attempt  # it has ended, and waits for its session's verdict
        outcome = attempt.proposed or Outcome.ERROR
        event = Event.CANCEL if self._may_retry(run, outcome, Event.COMPLETE) else Event.COMPLETE
        self._settle(run, outcome, attempt.reason, event, now)

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, now: float, *, final: bool = False) -> bool:
        """The session's own verdict on the latest attempt; None takes the proposed one, `final` rules out a retry."""
        run = self.runs[run_id]
        attempt = run.attempt
        if attempt.proposed is None or attempt.outcome is not None:
            return False
        if outcome in (None, attempt.proposed):
            reason = reason or attempt.reason
        self._settle(run, outcome or attempt.proposed, reason, Event.COMPLETE, now, again=not final)
        return True

    def restore(self, session: str, policy: Policy, runs: Iterable[Run], now: float) -> None:
        """Take a session back from the journal; deadlines start anew, machines keep what they held.

        Cancelled runs are not taken back, as they may be asked for again; but their ids are not given a second time.
        """
        self.open(session, policy)
        self._deadlines.begin = now
        held: list[tuple[float, str, str]] = []
        for run in sorted(runs, key=lambda run: run.position):
            self._position = max(self._position, run.position + 1)
            if not run.cancelled:
                self.runs[run.id] = not_after(run, now)
                self._sessions[session].keys[run.key] = run.id
                held += [(a.history[1].at, a.machine, run.id) for a in run.attempts if a.machine]
        for _, machine, run_id in sorted(held):
            self._roster.remember(machine, run_id, now)
        for run in self.of_session(session):
            if run.outcome is None:
                self._restore_attempt(run, now)

    def _restore_attempt(self, run: Run, now: float) -> None:
        self._fetching.add(run.id)
        self._deadlines.watch(run)
        self._regard(run)
        machine = run.attempt.machine
        if machine and not run.attempt.ended:
            self._roster.asks(machine, now)
            self._hold(run)
            if run.attempt.state is State.BOOTING:
                self._unheard.add((run.id, run.attempt.number))

    def is_lining_up(self, now: float) -> bool:
        """Whether what was asked for a moment ago may yet come before what is ready: its bytes are being looked up."""
        return bool(self._fetching) and now < self._asked + LINING_UP

    def held_back(self, run: Run) -> bool:
        """Whether no machine may have it, no time passes for it, and nothing ends it, until it is asked for again."""
        return run.id in self._unasked and run.attempt.state is State.UNASSIGNED and run.outcome is None

    # What happens to their bytes

    def ready(self, run_id: str) -> None:
        """The run's bytes are there: machines may have it."""
        if run_id in self._fetching:
            self._fetching.discard(run_id)
            self._arrived = True
            self._offer(self.runs[run_id])

    def unfetchable(self, run_id: str, detail: str, now: float) -> None:
        """The run's bytes cannot be had; what has booted does not need them, what is not asked for may have others."""
        run = self.runs[run_id]
        if run_id in self._unasked:
            return
        self._lost.add(run_id)
        self._fetching.discard(run_id)
        if not run.attempt.booted:
            self._move(run, Event.FAULT, now, detail=detail)
        self._regard(self.runs[run_id])

    def _offer(self, run: Run) -> None:
        """Let it wait for a machine, if it has to and its bytes are there; no machine waits for what is held back."""
        if self.held_back(run):
            self._fetching.discard(run.id)
        elif run.attempt.state is State.UNASSIGNED and run.id not in self._fetching:
            self._line.put(run.position, run.id, run.attempts[-2].machine if len(run.attempts) > 1 else "")

    # What time does

    def expire(self, now: float) -> None:
        """Pass every deadline that has come.

        The patience of runs that wait for a machine stands still while one is busy, and begins anew when bytes arrive.
        """
        if self._roster.busy or self._arrived:
            self._deadlines.active, self._arrived = now, False
        nothing_to_take = not self._line
        for run in self._deadlines.passed(now, self.runs):
            if run.attempt.ended:
                self._settle_unjudged(run, now)
            elif nothing_to_take and run.id in self._fetching and not run.attempt.machine:
                detail = f"its bytes were still being fetched after {format_duration(run.limits.assign)}"
                self._move(run, Event.FAULT, now, detail=detail)
            elif self._deadlines.too_slow(run, now):
                detail = f"it took less than {SLOWEST // 2**10} KiB a second"
                self._move(run, Event.FAULT, now, detail=detail)
            else:
                self._move(run, Event.TIMEOUT, now)

    def take_changes(self) -> list[Change]:
        """Everything that changed since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    # Moving

    def _move(
        self,
        run: Run,
        event: Event,
        now: float,
        *,
        machine: str = "",
        report: Report | None = None,
        detail: str = "",
        blame: Outcome | None = None,
    ) -> bool:
        """Apply one event through the table. The only place where an attempt's state changes."""
        moved = None if self.held_back(run) else advanced(run, event, now, machine=machine, report=report)
        if moved is None:
            return False
        entered = len(moved.attempt.history) > len(run.attempt.history)
        if entered and moved.attempt.ended:
            self._release(moved, now)
            unheard = "" if blame or event is Event.CANCEL else self._unheard_since(run)
            blame = Outcome.ERROR if unheard else blame
            policy = self.policy(run.session)
            outcome, reason = verdict_on(moved, run.attempt.state, event, policy, detail, blame)
            if event is Event.TIMEOUT and not moved.attempt.reports:
                reason += self._stray_since(run)
            self._end(moved, outcome, reason + unheard, event, now)
        elif entered or event in _NOTED:
            self._note(moved, event, moved.attempt.number, now)
        else:
            self.runs[run.id] = moved
        if entered and not moved.attempt.ended:
            self._hold(moved)
            self._deadlines.watch(moved)
        return True

    def _unheard_since(self, run: Run) -> str:
        """Whether it may have reported to a lab that was not there: then its silence is the lab's fault."""
        mute = run.attempt.state is State.BOOTING and (run.id, run.attempt.number) in self._unheard
        return "; the lab was restarted while it ran, and may have missed its report" if mute else ""

    def _stray_since(self, run: Run) -> str:
        """What may have been meant for this run: a machine whose address has changed is not known again."""
        attempt = run.attempt
        said = self._strays.since(attempt.since) if known_by_address(attempt.machine) else ""
        return said and f"; meanwhile {said}: has the address of {attempt.machine} changed?"

    def _end(self, run: Run, outcome: Outcome, reason: str, event: Event, now: float) -> None:
        """The latest attempt has ended: settle it, or let its session judge first."""
        attempt = run.attempt
        asked = self.policy(run.session).judged and event is not Event.CANCEL
        if not asked or (not attempt.reports and self._may_retry(run, outcome, event)):
            self._settle(run, outcome, reason, event, now)
            return
        run = with_attempt(run, replace(attempt, proposed=outcome, reason=reason))
        self._note(run, event, attempt.number, now)
        self._deadlines.watch(run)
        self._regard(run)

    def _settle_unjudged(self, run: Run, now: float) -> None:
        """Its session never said what it makes of it, and may have meant to say no. Another machine would not help."""
        silent = f"{_JUDGES} did not answer within {format_duration(JUDGING)}"
        reason = "; ".join(filter(None, (silent, run.attempt.reason)))
        self._settle(run, Outcome.ERROR, reason, Event.COMPLETE, now, again=False)

    def _settle(self, run: Run, outcome: Outcome, reason: str, event: Event, now: float, *, again: bool = True) -> None:
        """Give the latest attempt its outcome, and the run a further attempt or the same outcome."""
        attempt = run.attempt
        retry = again and self._may_retry(run, outcome, event)
        attempts = (*run.attempts[:-1], replace(attempt, outcome=outcome, reason=reason))
        if retry:
            run = next_attempt(run, attempts, now)
            self._note(run, event, attempt.number, now)
            self._offer(run)
            self._deadlines.watch(run)
        else:
            cut = event is Event.CANCEL and attempt.state is State.FAILED
            run = replace(run, attempts=attempts, outcome=outcome, reason=reason, cancelled=cut)
            self._note(run, event, attempt.number, now)
            self._fetching.discard(run.id)
        self._regard(run)

    def _may_retry(self, run: Run, outcome: Outcome, event: Event) -> bool:
        return run.id not in self._lost and may_retry(run, outcome, event, self.policy(run.session))

    def _note(self, run: Run, event: Event, attempt: int, now: float) -> None:
        self.runs[run.id] = run
        self._changes.append(Change(run, event, attempt, now))

    def _hold(self, run: Run) -> None:
        """The latest attempt's machine is busy with it."""
        attempt = run.attempt
        self._roster.hold(attempt.machine, run.id, taking=attempt.state in TAKING)
        self._regard(run)

    def _release(self, run: Run, now: float) -> None:
        self._line.discard(run.id)
        if run.attempt.machine:
            self._roster.release(run.attempt.machine, now)
            self._deadlines.active = now

    def _regard(self, run: Run) -> None:
        hopeless = run.id in self._lost or self.held_back(run)
        if not hopeless and another_machine_helps(run, self.policy(run.session)):
            self._hopes.add(run.id)
        else:
            self._hopes.discard(run.id)
