"""What machines that boot ask of the queue, and what their workloads say; see docs/protocol.md for the wire."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pytest_dispatch.core.attempts import knows, ran_on
from pytest_dispatch.core.engine import Engine
from pytest_dispatch.core.machine_table import MachineRecord
from pytest_dispatch.core.model import Attempt, Idle, KnownBy, Refusal, Report, Run
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.kinds import BOOT
from pytest_dispatch.workloads.boot.lifecycle import Event, Expect, State

DOWNLOADS = 3  # complete downloads without a boot, after which the machine is taken at its word
BREAKS = 10  # broken downloads after which the link is taken to be broken too
PROMISE = 60.0  # for so long after a HEAD, a GET gets what the HEAD announced

_TAKING = {State.ASSIGNED, State.DOWNLOADING}


class Taken(StrEnum):
    """What became of something that a workload sent."""

    NEW = "new"
    REPEATED = "repeated"
    LATE = "late"
    REFUSED = "refused"
    FULL = "full"


#: By whether a report came in time; None where there was no room for it.
_TAKEN = {True: Taken.NEW, False: Taken.LATE, None: Taken.FULL}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a machine that asks is to get: a run's bytes, else an idle program.

    `soon` is set when there is work, but its bytes are still being fetched, or when a session is about to bring some.
    """

    run: Run | None = None
    idle: Idle = Idle.POWEROFF
    soon: bool = False


class BootProtocol:
    """The machines' side of the queue, for those that boot over HTTP.

    Args:
        queue: The lab's.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._engine: Engine = queue.engine
        self._machines = queue.machines
        self._promised: dict[str, tuple[Idle | None, float]] = {}  # what the last HEAD announced, and when

    # What machines do

    def ask(self, machine: str, now: float, known_by: KnownBy = KnownBy.ADDRESS) -> Answer:
        """Answer a machine that asks what to boot (HEAD, or a GET without one)."""
        seen = self._machines.asks(machine, known_by, now)
        if self._held(machine) is not None:
            self._asks_again(seen.holds, now)
        if self._is_kept(seen.holds):
            return Answer(None, Idle.WAIT, soon=True)
        if not seen.holds:
            place = Capacity(kind=BOOT, machine=machine, known_by=known_by, labels=seen.machine.labels)
            self._queue.scheduler.take(place, now)
        if seen.holds and not self._engine.runs.record(seen.holds).needs:
            self._promised[machine] = None, now
            return Answer(self._engine.runs[seen.holds])
        soon = self._engine.standings.needs_something or self._queue.sessions.expecting
        idle = Idle.WAIT if soon or self._engine.standings.keeps_machines else Idle.POWEROFF
        self._promised[machine] = idle, now
        return Answer(None, idle, soon)

    def put_off(self, machine: str, now: float) -> Answer:
        """Have a machine wait, whatever it holds: its bytes are on the way."""
        self._promised[machine] = Idle.WAIT, now
        return Answer(None, Idle.WAIT, soon=True)

    def gets_again(self, machine: str) -> tuple[str, int] | None:
        """Return what a machine would get that asks now, if it holds that already: a run, and its attempt's number."""
        run = self._held(machine)
        return (run.id, run.attempt.number) if run and _asked_again(run) is Event.ASK else None

    def waiting_machines(self) -> set[str]:
        """Return the machines that were last given the wait program, and hold nothing."""
        told = (machine for machine, (idle, _) in self._promised.items() if idle is Idle.WAIT)
        return {machine for machine in told if not self._machines[machine].holds}

    def send(self, machine: str, now: float, known_by: KnownBy = KnownBy.ADDRESS) -> Answer:
        """Answer a machine that starts to download (GET): what it was promised, else whatever `ask` gives it."""
        self._machines.asks(machine, known_by, now)
        promised, at = self._promised.get(machine, (None, 0.0))
        if promised is not None and now - at < PROMISE:
            return Answer(None, promised)
        run = self._held(machine)
        if run is None or self._engine.runs.record(run.id).needs or run.attempt.state not in _TAKING:
            answer = self.ask(machine, now, known_by)
            self._promised[machine] = None, now
            if answer.run is None:
                return answer
            run = answer.run
        self._engine.runs.record(run.id).progressed = now
        self._engine.move(run.id, Event.SEND, now)
        return Answer(self._engine.runs[run.id])

    def heard(self, machine: str, now: float) -> None:
        """Note that it took bytes of a download."""
        seen = self._machines.speaks(machine, now)
        if seen is not None and seen.holds:
            self._engine.runs.record(seen.holds).progressed = now

    def sent(self, machine: str, run_id: str, now: float) -> None:
        """Note that the last byte was taken by the machine."""
        if self._still_holds(machine, run_id, now):
            self._engine.move(run_id, Event.SENT, now)

    def broke(self, machine: str, run_id: str, now: float) -> None:
        """Note that the download broke off; the machine gets the same bytes when it asks again."""
        if self._still_holds(machine, run_id, now):
            self._engine.move(run_id, Event.BREAK, now)
            if _count(self._engine.runs[run_id].attempt, Event.BREAK) >= BREAKS:
                self._engine.move(run_id, Event.FAULT, now, Cause(detail=f"the link broke off {BREAKS} times"))

    # What workloads say

    def boot(self, machine: str, now: float) -> Taken:
        """Take a workload's word that it runs (POST)."""
        seen = self._machines.speaks(machine, now)
        if seen is None or not seen.holds:
            if seen is not None and seen.ran and ran_on(machine, self._engine.runs[seen.ran[-1]]):
                return Taken.REPEATED
            self._unknown(machine, "said that it booted", now)
            return Taken.REFUSED
        again = self._engine.runs[seen.holds].attempt.ran
        if not self._engine.move(seen.holds, Event.BOOT, now):
            return Taken.REFUSED
        return Taken.REPEATED if again else Taken.NEW

    def may_report(self, machine: str, now: float) -> bool:
        """Tell whether this machine, which begins to report, booted anything of which it may yet speak."""
        seen = self._machines.find(machine)
        if seen is not None and any(ran_on(machine, self._engine.runs[run_id]) for run_id in seen.ran[-2:]):
            return True
        if seen is None or not seen.holds:
            self._unknown(machine, "sent a report", now)
        return False

    def report(self, machine: str, report: Report, now: float, began: float = math.inf) -> tuple[Taken, Run | None]:
        """Take a report of the workload on this machine (PUT).

        Args:
            machine: Where it runs.
            report: What it says.
            now: The time.
            began: When it began to say so: what booted later is not meant.
        """
        seen = self._machines.speaks(machine, now)
        if seen is None:
            return Taken.REFUSED, None
        report = replace(report, at=now)
        for run, attempt, may_speak in self._may_speak_of(seen, min(began, now)):
            if knows(attempt, report):
                return Taken.REPEATED, run
            if may_speak:
                taken = _TAKEN[self._engine.report(run.id, attempt.number, report, now)]
                return taken, self._engine.runs[run.id]
        return Taken.REFUSED, None

    def refuse(self, machine: str, refusal: Refusal, now: float, began: float = math.inf) -> bool:
        """Note that a workload sent what is no report; returns whether there is one that it can have come from."""
        seen = self._machines.speaks(machine, now)
        attempts = self._may_speak_of(seen, min(began, now)) if seen is not None else ()
        for run, attempt, may_speak in attempts:
            if may_speak:
                self._engine.refuse(run.id, attempt.number, replace(refusal, at=now), now)
                return True
        return False

    def _may_speak_of(self, seen: MachineRecord, began: float) -> Iterator[tuple[Run, Attempt, bool]]:
        """Yield attempts of which a machine can have begun to report then, the likeliest first; and if it still can."""
        held = self._held(seen.id)
        if held is not None and held.attempt.began <= began:
            yield held, held.attempt, True
            return
        for run_id in dict.fromkeys(reversed(seen.ran[-2:])):
            run = self._engine.runs[run_id]
            attempt = ran_on(seen.id, run, began) if run.workload.kind == BOOT else None
            if attempt is not None:
                # once it downloads something else, what it ran before cannot be speaking
                yield run, attempt, held is None or began < _began_to_download(held.attempt)

    def _unknown(self, machine: str, what: str, now: float) -> None:
        """Note who speaks and runs nothing here, unless it is a machine of our own."""
        seen = self._machines.find(machine)
        if seen is None or not seen.machine.driven:
            self._machines.unknown.note(machine, what, now)

    # Inside

    def _held(self, machine: str) -> Run | None:
        """Return the boot workload that a machine holds."""
        seen = self._machines.find(machine)
        run = self._engine.runs[seen.holds] if seen is not None and seen.holds else None
        return run if run is not None and run.workload.kind == BOOT else None

    def _is_kept(self, run_id: str) -> bool:
        """Tell whether a machine is kept for what it may not have yet, or ever: a chain, or another kind."""
        run = self._engine.runs[run_id] if run_id else None
        return run is not None and (run.attempt.ended or run.workload.kind != BOOT)

    def _still_holds(self, machine: str, run_id: str, now: float) -> bool:
        """Tell whether a download is not over that may outlive its attempt."""
        seen = self._machines.speaks(machine, now)
        return seen is not None and seen.holds == run_id

    def _asks_again(self, run_id: str, now: float) -> None:
        """Note that the machine which holds a run asks once more, which may end its attempt."""
        self._engine.move(run_id, _asked_again(self._engine.runs[run_id]), now)


def _asked_again(run: Run) -> Event:
    """Return what it means for a run that the machine which holds it asks what to boot."""
    attempt = run.attempt
    if attempt.state in (State.DOWNLOADED, State.BOOTING) and run.expect == Expect.RETURN:
        return Event.COMPLETE
    came_back = attempt.ran or _count(attempt, Event.SENT) >= DOWNLOADS
    return Event.RETURN if came_back else Event.ASK


def _count(attempt: Attempt, event: Event) -> int:
    return attempt.counts.get(event, 0)


def _began_to_download(attempt: Attempt) -> float:
    return next((moment.at for moment in attempt.history if moment.state == State.DOWNLOADING), math.inf)
