"""Gives machines the runs that suit them, and takes runs back from silent machines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import KnownBy, Outcome, Run
from pytest_dispatch.core.requirements import Labels, nearest_miss, suits
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
    """Chooses runs for capacity, and fails runs whose machine broke."""

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions

    def take(self, capacity: Capacity, now: float) -> Run | None:
        """Reserve capacity for the first run that suits: by priority, then fairly between sessions, then by place.

        If there is none, take a run back from a machine that has gone silent. A run that should avoid this machine is
        given to it only if there is no other machine.

        Returns:
            The run, whose latest attempt is now assigned; None if nothing suits.
        """
        run_id = self._pick(capacity, now)
        if run_id is None:
            return None
        cause = Cause(machine=capacity.machine, known_by=capacity.known_by)
        self._transitions.move(run_id, CoreEvent.ASSIGN, now, cause)
        return self._transitions.runs[run_id]

    def lacking(self, run: Run) -> str:
        """Return what the nearest known machine lacks to run it; empty if a machine suits.

        Labels of machines that an external system assigns are not known, so such runs return empty text.
        """
        record = self._transitions.runs.record(run.id)
        required = record.requires
        if not required or record.waits_its_turn or record.lifecycle.elsewhere:
            return ""
        has = {machine: seen.machine.labels for machine, seen in self._transitions.machines.items()}
        if any(suits(required, labels) for labels in has.values()):
            return ""
        who = "its chain" if record.chain is not None else "it"
        return f"{who} requires {', '.join(map(str, required))}; {nearest_miss(required, has)}"

    def fault(self, machine: str, detail: str, now: float, *, lab: bool = False) -> bool:
        """Fail the attempt that a broken machine holds; `lab` makes it the lab's fault whatever the lifecycle says."""
        record = self._transitions.machines.find(machine)
        if record is None or not record.holds:
            return False
        cause = Cause(detail=detail, blame=Outcome.ERROR if lab else None)
        return self._transitions.move(record.holds, CoreEvent.FAULT, now, cause)

    def broke(self, machine: str, why: str, now: float) -> None:
        """Mark a machine as broken, and fail the run that it holds."""
        self._transitions.machines.broke(machine, why, now)  # first, so that no chain waits for this machine
        self.fault(machine, why, now, lab=True)

    def _pick(self, capacity: Capacity, now: float) -> str | None:
        transitions, machine = self._transitions, capacity.machine
        first = partial(transitions.ready.first, capacity.labels, machine, kind=capacity.kind)
        if machine and transitions.machines.is_held(machine, now):
            return None
        run_id = first()
        if run_id is None:
            self._take_from_silent(now)
            run_id = first()
        if run_id is None and machine and not transitions.machines.another(machine, now):
            run_id = first(avoided=True)
        return run_id

    def _take_from_silent(self, now: float) -> None:
        """Return a run to the queue from the machine that was silent for longest, if it may be tried again."""
        transitions = self._transitions
        while (silent := transitions.machines.silent(now)) is not None:
            run_id = silent.holds
            transitions.move(run_id, CoreEvent.SILENCE, now)
            if transitions.runs.record(run_id).is_waiting:
                break
