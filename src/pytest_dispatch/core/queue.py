"""The queue: which machine gets which workload, and what machines and workloads say of it.

Theory of operation: memory only, no I/O, no clock of its own; every method takes `now`. The caller takes the changes
(`take_changes`), journals them and tells whoever listens. Everything that a request needs is found without scanning:
the `Line` knows the first run that suits a machine, the `Roster` the machine that was silent for longest, the
`Deadlines` what has passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from pytest_dispatch.core.attempts import (
    TAKING,
    booted_by,
    entered,
    has_room,
    knows,
    limits_of,
    with_late_report,
    with_refusal,
)
from pytest_dispatch.core.model import Attempt, Expect, Idle, Outcome, Refusal, Report, Run, State, Workload
from pytest_dispatch.core.roster import Seen, known_by_address
from pytest_dispatch.core.runs import Change, Runs
from pytest_dispatch.core.states import Event

__all__ = ["BREAKS", "DOWNLOADS", "Answer", "Change", "Queue", "Taken"]

DOWNLOADS = 3  # complete downloads without a boot, after which the machine is taken at its word
BREAKS = 10  # broken downloads after which the link is taken to be broken too


class Taken(StrEnum):
    """What became of something that a workload sent."""

    NEW = "new"
    REPEATED = "repeated"
    LATE = "late"
    REFUSED = "refused"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a machine that asks is to get: a run's bytes, else an idle program.

    `soon` is set when there is work, but its bytes are still being fetched, or when a session is about to bring some.
    """

    run: Run | None = None
    idle: Idle = Idle.POWEROFF
    soon: bool = False


class Queue(Runs):
    """Runs, machines and sessions of one lab."""

    # What resumed sessions have not asked for again

    @property
    def unasked(self) -> Set[str]:
        """Runs that were taken back from the journal and not asked for since, by id."""
        return self._unasked

    def hold_back(self, session: str) -> None:
        """Let what was taken back of this session wait to be asked for again, but for what machines hold."""
        for run in self.of_session(session):
            if run.outcome is None:
                self._unasked.add(run.id)
                self._regard(run)
            if self.held_back(run):
                self._line.discard(run.id)
                self._fetching.discard(run.id)

    def submit(self, session: str, key: str, workload: Workload, now: float) -> Run:
        """Ask for a workload; asking again changes nothing, but for what was taken back and has not ended.

        That becomes what is asked for now, as does what is expected of an attempt on a machine, and when. The run is
        given to no machine before `ready` says that its bytes are there.
        """
        run = super().submit(session, key, workload, now)
        if run.id not in self._unasked:
            return run
        waits = self.held_back(run)
        self._unasked.discard(run.id)
        if run.outcome is None:
            self._renew(run, workload, now)
        if waits:
            self._fetching.add(run.id)
            self._deadlines.active = self._asked = now
        return self.runs[run.id]

    def _renew(self, run: Run, workload: Workload, now: float) -> None:
        policy = self.policy(run.session)
        expect, limits = workload.expect or policy.expect, limits_of(workload, policy.limits)
        self.runs[run.id] = run = replace(run, workload=workload, limits=limits, expect=expect)
        self._deadlines.watch(run)
        self._regard(run)
        if expect is Expect.BOOT and run.attempt.state is State.BOOTING:
            self._move(run, Event.COMPLETE, now)

    # What machines do

    @property
    def waiting(self) -> int:
        """How many workloads machines that ask can have, their bytes at hand."""
        return len(self._line)

    def ask(self, machine: str, now: float) -> Answer:
        """A machine asks what to boot (HEAD, or a GET without one)."""
        seen = self._roster.asks(machine, now)
        if not seen.holds or not self._asks_again(self.runs[seen.holds], now):
            run = self._pick(machine, now)
            if run is not None:
                self._move(run, Event.ASSIGN, now, machine=machine)
        if seen.holds and seen.holds not in self._fetching:
            seen.promise(None, now)
            return Answer(self.runs[seen.holds])
        soon = bool(self._fetching) or self.expecting
        idle = Idle.WAIT if soon or self._hopes else Idle.POWEROFF
        seen.promise(idle, now)
        return Answer(None, idle, soon)

    def gets_again(self, machine: str) -> tuple[str, int] | None:
        """What a machine would get that asks now, if it holds that already: a run, and the number of its attempt."""
        seen = self.machines.get(machine)
        run = self.runs[seen.holds] if seen and seen.holds else None
        return (run.id, run.attempt.number) if run and _asked_again(run) is Event.ASK else None

    def send(self, machine: str, now: float) -> Answer:
        """A machine starts to download (GET): what it was promised, else whatever `ask` gives it."""
        seen = self._roster.asks(machine, now)
        promised = seen.promise_at(now)
        if promised is not None:
            return Answer(None, promised)
        run = self.runs[seen.holds] if seen.holds else None
        if run is None or run.id in self._fetching or run.attempt.state not in TAKING:
            answer = self.ask(machine, now)
            seen.promise(None, now)
            if answer.run is None:
                return answer
            run = answer.run
        seen.took = now
        self._move(run, Event.SEND, now)
        return Answer(self.runs[run.id])

    def heard(self, machine: str, now: float) -> None:
        """It took bytes of a download."""
        seen = self._roster.speaks(machine, now)
        if seen is not None:
            seen.took = now

    def sent(self, machine: str, run_id: str, now: float) -> None:
        """The last byte was taken by the machine."""
        if self._still_holds(machine, run_id, now):
            self._move(self.runs[run_id], Event.SENT, now)

    def broke(self, machine: str, run_id: str, now: float) -> None:
        """The download broke off; the machine gets the same bytes when it asks again."""
        if self._still_holds(machine, run_id, now):
            self._move(self.runs[run_id], Event.BREAK, now)
            if self.runs[run_id].attempt.breaks >= BREAKS:
                self._move(self.runs[run_id], Event.FAULT, now, detail=f"the link broke off {BREAKS} times")

    def powered_off(self, machine: str) -> None:
        """The machine took the power-off program."""
        self._roster.powered_off(machine)

    def fault(self, machine: str, detail: str, now: float, *, lab: bool = False) -> bool:
        """The machine broke, as its driver saw; the lab's fault before the boot or if `lab`, else the workload's."""
        seen = self.machines.get(machine)
        if seen is None or not seen.holds:
            return False
        blame = Outcome.ERROR if lab else None
        return self._move(self.runs[seen.holds], Event.FAULT, now, detail=detail, blame=blame)

    def _still_holds(self, machine: str, run_id: str, now: float) -> bool:
        """A download may outlive its attempt."""
        seen = self._roster.speaks(machine, now)
        return seen is not None and seen.holds == run_id

    # What workloads say

    def boot(self, machine: str, now: float) -> Taken:
        """The workload on this machine says that it runs (POST)."""
        seen = self._roster.speaks(machine, now)
        if seen is None or not seen.holds:
            if seen is not None and seen.ran and booted_by(machine, self.runs[seen.ran[-1]]):
                return Taken.REPEATED
            self._stray(machine, "said that it booted", now)
            return Taken.REFUSED
        run = self.runs[seen.holds]
        again = run.attempt.booted
        if not self._move(run, Event.BOOT, now):
            return Taken.REFUSED
        if run.expect is Expect.BOOT and not again:
            self._move(self.runs[run.id], Event.COMPLETE, now)
        return Taken.REPEATED if again else Taken.NEW

    def may_report(self, machine: str, now: float) -> bool:
        """Whether this machine, which begins to report, booted anything of which it may yet speak."""
        seen = self.machines.get(machine)
        if seen is not None and any(booted_by(machine, self.runs[run_id]) for run_id in seen.ran[-2:]):
            return True
        if seen is None or not seen.holds:
            self._stray(machine, "sent a report", now)
        return False

    def report(self, machine: str, report: Report, now: float, began: float = math.inf) -> tuple[Taken, Run | None]:
        """The workload on this machine reports (PUT).

        Args:
            machine: Where it runs.
            report: What it says.
            now: The time.
            began: When it began to say so: what booted later is not meant.
        """
        seen = self._roster.speaks(machine, now)
        if seen is None:
            return Taken.REFUSED, None
        report = replace(report, at=now)
        for run, attempt, may_speak in self._may_speak_of(seen, min(began, now)):
            if knows(attempt, report):
                return Taken.REPEATED, run
            if may_speak:
                return self._report_to(run, attempt, report, now)
        return Taken.REFUSED, None

    def refuse(self, machine: str, refusal: Refusal, now: float, began: float = math.inf) -> bool:
        """The workload sent what is no report; returns whether there is one that it can have come from."""
        seen = self._roster.speaks(machine, now)
        attempts = self._may_speak_of(seen, min(began, now)) if seen is not None else ()
        for run, attempt, may_speak in attempts:
            if may_speak:
                changed = with_refusal(run, attempt.number, replace(refusal, at=now))
                if changed is not None:
                    self._note(changed, Event.REFUSE, attempt.number, now)
                return True
        return False

    def _may_speak_of(self, seen: Seen, began: float) -> Iterator[tuple[Run, Attempt, bool]]:
        """Attempts of which a machine can have begun to report then, the likeliest first, and whether it still can."""
        held = self.runs[seen.holds] if seen.holds else None
        if held is not None and entered(held.attempt, State.BOOTING) <= began:
            yield held, held.attempt, True
            return
        for run_id in dict.fromkeys(reversed(seen.ran[-2:])):
            run = self.runs[run_id]
            attempt = booted_by(seen.name, run, began)
            if attempt is not None:
                # once it downloads something else, what it ran before cannot be speaking
                yield run, attempt, held is None or began < entered(held.attempt, State.DOWNLOADING)

    def _stray(self, machine: str, what: str, now: float) -> None:
        if known_by_address(machine):
            self._strays.note(machine, what, now)

    def _report_to(self, run: Run, attempt: Attempt, report: Report, now: float) -> tuple[Taken, Run]:
        if not has_room(attempt, report):
            return Taken.FULL, run
        if attempt.ended:
            number = attempt.number
            self._note(with_late_report(run, number, report), Event.REPORT, number, now)
            return Taken.LATE, self.runs[run.id]
        self._move(run, Event.REPORT, now, report=report)
        return Taken.NEW, self.runs[run.id]

    # Choosing

    def _asks_again(self, run: Run, now: float) -> bool:
        """Whether the machine that holds `run` keeps it; else its attempt has ended."""
        event = _asked_again(run)
        self._move(run, event, now)
        return event is Event.ASK

    def _pick(self, machine: str, now: float) -> Run | None:
        """The next run for a machine that holds none."""
        run_id = self._line.take(machine)
        if run_id is None:
            self._take_from_silent(now)
            run_id = self._line.take(machine)
        if run_id is None and not self._roster.another(machine, now):
            run_id = self._line.take_avoiding(machine)
        return self.runs[run_id] if run_id is not None else None

    def _take_from_silent(self, now: float) -> None:
        """Let the workload wait again that was held in silence for longest, of those that may be tried again."""
        while (silent := self._roster.silent(now)) is not None:
            run_id = silent.holds
            self._move(self.runs[run_id], Event.SILENCE, now)
            if self.runs[run_id].attempt.state is State.UNASSIGNED:
                break


def _asked_again(run: Run) -> Event:
    """What it means for a run that the machine which holds it asks what to boot."""
    attempt = run.attempt
    if attempt.state in (State.DOWNLOADED, State.BOOTING) and run.expect is Expect.RETURN:
        return Event.COMPLETE
    return Event.RETURN if attempt.booted or attempt.downloads >= DOWNLOADS else Event.ASK
