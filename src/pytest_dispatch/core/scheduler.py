"""Gives machines the runs that suit them, and takes runs back from silent machines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine_record import MachineRecord
from pytest_dispatch.core.model import KnownBy, Outcome, Run
from pytest_dispatch.core.requirements import Labels, nearest_miss, suits
from pytest_dispatch.core.run_index import Demand
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.transitions import Transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Something on which a run may be placed.

    Attributes:
        kind: The kind of workloads that it takes.
        machine: Id of a machine that asks the lab for work; empty for a slot that an external system assigns.
        known_by: How the machine was recognised.
        labels: Labels of the machine, or of all machines that the external system chooses from.
    """

    kind: str
    labels: Labels
    machine: str = ""
    known_by: KnownBy = KnownBy.ADDRESS


class Scheduler:
    """Chooses runs for capacity, and fails runs whose machine broke.

    Attributes:
        closed: Whether no capacity gets a run, because the lab is about to stop.
    """

    def __init__(self, transitions: Transitions) -> None:
        self.closed = False
        self._transitions = transitions

    def take(self, capacity: Capacity, now: float) -> Run | None:
        """Reserve capacity for the first run that suits: by priority, then fairly between sessions, then by place.

        If there is none, take a run back from a machine that has gone silent. A run that should avoid this machine is
        given to it only if there is no other machine.

        Returns:
            The run, whose latest attempt is now assigned; None if nothing suits.
        """
        run_id = None if self.closed else self._pick(capacity, now)
        if run_id is None:
            return None
        cause = Cause(machine=capacity.machine, known_by=capacity.known_by)
        self._transitions.move(run_id, CoreEvent.ASSIGN, now, cause)
        return self._transitions.runs[run_id]

    def first(self, capacity: Capacity) -> Run | None:
        """Return the ready run that `take` would give out, and leave it where it is; None if nothing suits."""
        transitions = self._transitions
        run_id = self._pinned(capacity)
        run_id = run_id or transitions.ready.first(capacity.labels, capacity.machine, kind=capacity.kind)
        return transitions.runs[run_id] if run_id is not None else None

    def has_work(self, machine: str, now: float) -> bool:
        """Return whether a run waits that a machine would get if it asked, once the lab has what the run needs."""
        transitions, seen = self._transitions, self._transitions.machines[machine]
        if self.closed or seen.leaving:
            return False
        pinned = (transitions.runs[run].group for run in transitions.pinned.ready(machine))
        if any(not transitions.groups.is_closed(group) for group in pinned):
            return True
        return not seen.is_held(now) and any(self._meets(seen, each, now) for each in transitions.run_index.demands())

    def _meets(self, seen: MachineRecord, demand: Demand, now: float) -> bool:
        if demand.only not in ("", seen.id) or not suits(demand.requires, seen.machine.labels):
            return False
        return demand.avoid != seen.id or not (
            self._others_suit(seen, demand) and self._transitions.machines.another(seen.id, now)
        )

    def _others_suit(self, seen: MachineRecord, demand: Demand) -> bool:
        others = (each for each in self._transitions.machines.values() if each is not seen)
        return not demand.requires or any(suits(demand.requires, each.machine.labels) for each in others)

    def lacking(self, run: Run) -> str:
        """Return what the nearest known machine lacks to run it; empty if a machine suits.

        Labels of machines that an external system assigns are not known, so such runs return empty text.
        """
        record = self._transitions.runs.record(run.id)
        required = record.requires
        if not (required or run.only) or record.waits_its_turn or record.lifecycle.elsewhere:
            return ""
        has = {machine: seen.machine.labels for machine, seen in self._transitions.machines.items()}
        if run.only and run.only not in has:
            return f"only {run.only} may have it, and the lab has no such one"
        has = {run.only: has[run.only]} if run.only else has
        if any(suits(required, labels) for labels in has.values()):
            return ""
        who = "its chain" if record.chain is not None else "it"
        return f"{who} requires {', '.join(map(str, required))}; {nearest_miss(required, has)}"

    def fault(self, machine: str, detail: str, now: float, *, lab: bool = False, excused: bool = False) -> bool:
        """Fail the attempt that a broken machine holds.

        Args:
            machine: The machine's id.
            detail: What broke.
            now: The time.
            lab: Make it the lab's fault, whatever the lifecycle says.
            excused: It is not the machine that broke.
        """
        record = self._transitions.machines.find(machine)
        if record is None or not record.holds:
            return False
        cause = Cause(detail=detail, blame=Outcome.ERROR if lab else None, excused=excused)
        return self._transitions.move(record.holds, CoreEvent.FAULT, now, cause)

    def broke(self, machine: str, why: str, now: float) -> None:
        """Mark a machine as broken, and fail the run that it holds, and those that it alone may have."""
        self._transitions.machines.broke(machine, why, now)  # first, so that no chain waits for this machine
        self._transitions.health.broke(machine, why, now)
        self.fault(machine, why, now, lab=True)
        for run in self._transitions.pinned.of(machine):
            self._transitions.move(run, CoreEvent.FAULT, now, Cause(detail=f"{machine}: {why}"))

    def _pick(self, capacity: Capacity, now: float) -> str | None:
        transitions, machine = self._transitions, capacity.machine
        first = partial(transitions.ready.first, capacity.labels, machine, kind=capacity.kind)
        held = bool(machine) and transitions.machines.is_held(machine, now)
        if pinned := self._pinned(capacity):  # a check of its health passes its hold
            return pinned
        if held:
            return None
        run_id = first()
        if run_id is None:
            self._take_from_silent(now)
            run_id = first()
        if run_id is None and machine and not transitions.machines.another(machine, now):
            run_id = first(avoided=True)
        return run_id

    def _pinned(self, capacity: Capacity) -> str | None:
        """Return the first ready run that this machine alone may have; it goes before those that others may have."""
        transitions, machine = self._transitions, capacity.machine
        record = transitions.machines.find(machine)
        if machine not in transitions.pinned or record is None or record.leaving:
            return None
        for run_id in transitions.pinned.ready(machine):
            run = transitions.runs[run_id]
            if run.workload.kind == capacity.kind and not transitions.groups.is_closed(run.group):
                return run_id
        return None

    def _take_from_silent(self, now: float) -> None:
        """Return a run to the queue from the machine that was silent for longest, if it may be tried again."""
        transitions = self._transitions
        while (silent := transitions.machines.silent(now)) is not None:
            run_id = silent.holds
            transitions.move(run_id, CoreEvent.SILENCE, now)
            if transitions.runs.record(run_id).is_waiting:
                break
