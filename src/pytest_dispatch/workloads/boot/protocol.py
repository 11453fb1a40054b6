"""The queue's side of the boot protocol: requests of machines, and messages of workloads; see docs/protocol.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile

from pytest_dispatch.core.attempts import knows, ran_on
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.machine_record import LATELY, MachineRecord
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Attempt, Idle, KnownBy, Refusal, Report, Run
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.core.transitions import Transitions
from pytest_dispatch.workloads.boot.lifecycle import Event, Expect, State

DOWNLOADS = 3  # complete downloads without a boot beacon after which a new request counts as a return
BREAKS = 10  # broken downloads after which the link counts as broken
PROMISE = 60.0  # seconds after a HEAD in which a GET gets what the HEAD announced

_TAKING = {State.ASSIGNED, State.DOWNLOADING}


class Taken(StrEnum):
    """How a message of a workload was handled."""

    NEW = "new"
    REPEATED = "repeated"
    LATE = "late"
    REFUSED = "refused"
    FULL = "full"


#: By whether a report came in time; None if there was no room for it.
_TAKEN = {True: Taken.NEW, False: Taken.LATE, None: Taken.FULL}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a machine that asks gets: the bytes of a run, else an idle program.

    `soon` is set if there is work whose bytes are still being fetched, or if a session is about to submit runs.
    """

    run: Run | None = None
    idle: Idle = Idle.POWEROFF
    soon: bool = False


class BootProtocol:
    """The queue as seen by machines that boot over HTTP.

    Args:
        queue: The lab's queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._transitions: Transitions = queue.transitions
        self._machines = queue.machines
        self._promised: dict[str, tuple[Idle | None, float]] = {}  # what the last HEAD announced, and when

    # Requests of machines

    def ask(self, machine: str, now: float, known_by: KnownBy = KnownBy.ADDRESS) -> Answer:
        """Answer a machine that asks what to boot (HEAD, or a GET without one)."""
        if machine not in self._machines and self._queue.unknown.asks(Identity(known_by, machine), now):
            return Answer(None, Idle.WAIT)
        seen = self._machines.asks(machine, known_by, now)
        if self._held(machine) is not None:
            self._asks_again(seen.holds, now)
        if self._is_kept(seen.holds):
            return Answer(None, Idle.WAIT, soon=True)
        if not seen.holds:
            self._queue.scheduler.take(self._capacity(machine, known_by), now)
        if seen.holds and not self._transitions.runs.record(seen.holds).needs:
            self._promised[machine] = None, now
            return Answer(self._transitions.runs[seen.holds])
        soon = self._transitions.run_index.needs_something or self._queue.sessions.expecting
        stays = soon or self._transitions.run_index.keeps_machines or now < self._queue.sessions.returning
        stays = stays or _awaits_check(self._queue, seen)
        idle = Idle.WAIT if stays else Idle.POWEROFF
        self._promised[machine] = idle, now
        return Answer(None, idle, soon)

    def awaits_others(self, machine: str, now: float) -> bool:
        """Return whether runs submitted a moment ago may precede what the machine would get now."""
        first = self._queue.scheduler.first(self._capacity(machine))
        return self._queue.sessions.is_lining_up(now, first)

    def _capacity(self, machine: str, known_by: KnownBy = KnownBy.ADDRESS) -> Capacity:
        seen = self._machines.find(machine)
        labels = seen.machine.labels if seen is not None else {}
        return Capacity(kind=BOOT, machine=machine, known_by=known_by, labels=labels)

    def put_off(self, machine: str, now: float) -> Answer:
        """Have a machine wait, whatever it holds: its bytes are on the way."""
        self._promised[machine] = Idle.WAIT, now
        return Answer(None, Idle.WAIT, soon=True)

    def gets_again(self, machine: str) -> tuple[str, int] | None:
        """Return the run and attempt number that a machine holds, if it would get the same again; else None."""
        run = self._held(machine)
        return (run.id, run.attempt.number) if run and _asked_again(run) is Event.ASK else None

    def waiting_machines(self) -> set[str]:
        """Return the machines that last got the wait program, and hold nothing."""
        told = (self._machines.find(machine) for machine, (idle, _) in self._promised.items() if idle is Idle.WAIT)
        return {seen.id for seen in told if seen is not None and not seen.holds}

    def send(self, machine: str, now: float, known_by: KnownBy = KnownBy.ADDRESS) -> Answer:
        """Answer a machine that starts to download (GET): what HEAD announced, else the result of `ask`."""
        if machine not in self._machines and self._queue.unknown.asks(Identity(known_by, machine), now):
            return Answer(None, Idle.WAIT)
        self._machines.asks(machine, known_by, now)
        promised, at = self._promised.get(machine, (None, 0.0))
        if promised is not None and now - at < PROMISE:
            return Answer(None, promised)
        run = self._held(machine)
        if run is None or self._transitions.runs.record(run.id).needs or run.attempt.state not in _TAKING:
            answer = self.ask(machine, now, known_by)
            self._promised[machine] = None, now
            if answer.run is None:
                return answer
            run = answer.run
        self._transitions.runs.record(run.id).progressed = now
        self._transitions.move(run.id, Event.SEND, now)
        return Answer(self._transitions.runs[run.id])

    def heard(self, machine: str, now: float) -> None:
        """Record that a machine took bytes of a download."""
        seen = self._machines.speaks(machine, now)
        if seen is not None and seen.holds:
            self._transitions.runs.record(seen.holds).progressed = now

    def sent(self, machine: str, run_id: str, now: float) -> None:
        """Record that the machine took the last byte."""
        if self._still_holds(machine, run_id, now):
            self._transitions.move(run_id, Event.SENT, now)

    def broke(self, machine: str, run_id: str, now: float) -> None:
        """Record that a download broke off; the machine gets the same bytes when it asks again."""
        if self._still_holds(machine, run_id, now):
            self._transitions.move(run_id, Event.BREAK, now)
            if _count(self._transitions.runs[run_id].attempt, Event.BREAK) >= BREAKS:
                self._transitions.move(run_id, Event.FAULT, now, Cause(detail=f"the link broke off {BREAKS} times"))

    # Messages of workloads

    def boot(self, machine: str, now: float) -> Taken:
        """Record that a workload runs (POST)."""
        seen = self._machines.speaks(machine, now)
        if seen is None or not seen.holds:
            last = self._here(seen)[:1] if seen is not None else []
            return Taken.REPEATED if last and ran_on(machine, last[0]) else Taken.REFUSED
        again = self._transitions.runs[seen.holds].attempt.ran
        if not self._transitions.move(seen.holds, Event.BOOT, now):
            return Taken.REFUSED
        return Taken.REPEATED if again else Taken.NEW

    def may_report(self, machine: str) -> bool:
        """Return whether this machine booted anything in memory that it may still report on."""
        seen = self._machines.find(machine)
        return seen is not None and any(ran_on(machine, run) for run in self._here(seen))

    def report(
        self, machine: str, report: Report, now: float, began: float = math.inf, of: str = ""
    ) -> tuple[Taken, Run | None]:
        """Record a report of the workload on this machine (PUT).

        Args:
            machine: The machine's id.
            report: The report.
            now: The time.
            began: When the request began; workloads that booted later cannot have sent it.
            of: Id of the run; empty to find the run.
        """
        seen = self._machines.speaks(machine, now)
        if seen is None:
            return Taken.REFUSED, None
        report = replace(report, at=now)
        for run, attempt, may_speak in self._may_speak_of(seen, min(began, now), of):
            if knows(attempt, report):
                return Taken.REPEATED, run
            if may_speak:
                taken = _TAKEN[self._transitions.report(run.id, attempt.number, report, now)]
                return taken, self._transitions.runs[run.id]
        return Taken.REFUSED, None

    def refuse(self, machine: str, refusal: Refusal, now: float, began: float = math.inf, of: str = "") -> bool:
        """Record an invalid report, and return whether there is an attempt that it can have come from."""
        seen = self._machines.speaks(machine, now)
        attempts = self._may_speak_of(seen, min(began, now), of) if seen is not None else ()
        for run, attempt, may_speak in attempts:
            if may_speak:
                self._transitions.refuse(run.id, attempt.number, replace(refusal, at=now), now)
                return True
        return False

    def _may_speak_of(self, seen: MachineRecord, began: float, of: str) -> Iterator[tuple[Run, Attempt, bool]]:
        """Yield attempts that a request begun at `began` may be about, the likeliest first; and if each may report."""
        held = self._held(seen.id)
        if held is not None and held.attempt.began <= began and of in ("", held.id):
            yield held, held.attempt, True
            return
        for run in [self._transitions.runs[of]] if of else self._here(seen):
            attempt = ran_on(seen.id, run, began) if run.workload.kind == BOOT else None
            if attempt is not None:
                yield run, attempt, self.may_speak_of_earlier(seen.id, began)

    def may_speak_of_earlier(self, machine: str, began: float) -> bool:
        """Return whether a request begun at `began` may be about a workload that the machine ran earlier.

        Once the machine downloads something else, an earlier workload can no longer send anything.
        """
        held = self._held(machine)
        return held is None or began < _began_to_download(held.attempt)

    # Runs that are not in memory

    def remembers(self, machine: str) -> bool:
        """Return whether all runs that this machine may report on are in memory; else the journal may know others."""
        seen = self._machines.find(machine)
        return seen is not None and len(self._here(seen)) == LATELY

    def latest_on(self, machine: str, known: Iterable[str]) -> list[str]:
        """Return the ids of the runs that this machine may report on, the latest first; `known` adds older ones."""
        seen = self._machines.find(machine)
        return [*dict.fromkeys([*(seen.latest if seen is not None else ()), *known])][:LATELY]

    def unknown(self, machine: str, what: str, now: float) -> None:
        """Record a caller that runs nothing here, unless the lab starts the machine or it holds a run."""
        seen = self._machines.find(machine)
        if seen is None or not (seen.machine.driven or seen.holds):
            self._machines.unknown.note(machine, what, now)

    def _here(self, seen: MachineRecord) -> list[Run]:
        """Return the runs that a machine may report on, the latest first, up to the first that is not in memory."""
        return [self._transitions.runs[run] for run in takewhile(self._transitions.runs.__contains__, seen.latest)]

    # Internals

    def _held(self, machine: str) -> Run | None:
        """Return the boot run that a machine holds, if any."""
        seen = self._machines.find(machine)
        run = self._transitions.runs[seen.holds] if seen is not None and seen.holds else None
        return run if run is not None and run.workload.kind == BOOT else None

    def _is_kept(self, run_id: str) -> bool:
        """Return whether a machine is reserved for a chain's next run, or holds a run of another kind."""
        run = self._transitions.runs[run_id] if run_id else None
        return run is not None and (run.attempt.ended or run.workload.kind != BOOT)

    def _still_holds(self, machine: str, run_id: str, now: float) -> bool:
        """Return whether a machine still holds a run; a download may outlive its attempt."""
        seen = self._machines.speaks(machine, now)
        return seen is not None and seen.holds == run_id

    def _asks_again(self, run_id: str, now: float) -> None:
        """Record that the machine of a run asks again, which may end its attempt."""
        self._transitions.move(run_id, _asked_again(self._transitions.runs[run_id]), now)


def _awaits_check(queue: Queue, seen: MachineRecord) -> bool:
    """Return whether a machine is to stay on for a check of its health, because nothing powers it on for that."""
    health = queue.health.of(seen.id)
    is_checked = health.holding and health.due is not None and not seen.machine.driven
    return seen.id in queue.transitions.pinned or is_checked


def _asked_again(run: Run) -> Event:
    """Return the event for a run whose machine asks what to boot."""
    attempt = run.attempt
    if attempt.state in (State.DOWNLOADED, State.BOOTING) and run.expect == Expect.RETURN:
        return Event.COMPLETE
    came_back = attempt.ran or _count(attempt, Event.SENT) >= DOWNLOADS
    return Event.RETURN if came_back else Event.ASK


def _count(attempt: Attempt, event: Event) -> int:
    return attempt.counts.get(event, 0)


def _began_to_download(attempt: Attempt) -> float:
    return next((moment.at for moment in attempt.history if moment.state == State.DOWNLOADING), math.inf)
