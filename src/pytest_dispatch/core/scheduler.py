"""Gives machines the runs that suit them, and takes back what a silent machine does not begin to run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pytest_dispatch.core.engine import Engine
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import KnownBy, Outcome, Run
from pytest_dispatch.core.requirements import Labels, nearest_miss, suits
from pytest_dispatch.core.runs import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Something on which a run may be placed.

    Attributes:
        kind: Of the workloads that it is for.
        machine: That it is, where it is one that we start; empty for a slot on machines that others assign.
        known_by: How that was recognised.
        labels: Of the machine, or of all of those among which others choose.
    """

    kind: str
    labels: Labels
    machine: str = ""
    known_by: KnownBy = KnownBy.ADDRESS


class Scheduler:
    """See the module's docstring."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, capacity: Capacity, now: float) -> Run | None:
        """Reserve capacity for the first run that suits: by priority, then fair between sessions, then by place.

        If there is none, what another machine holds in silence is taken from it. What had better not be given to this
        machine again is given to it only if no other machine is there.

        Returns:
            The run, whose latest attempt has it; None if nothing suits.
        """
        run_id = self._pick(capacity, now)
        if run_id is None:
            return None
        cause = Cause(machine=capacity.machine, known_by=capacity.known_by)
        self._engine.move(run_id, CoreEvent.ASSIGN, now, cause)
        return self._engine.runs[run_id]

    def lacking(self, run: Run) -> str:
        """Say what the nearest of the machines that are known lacks to run it; empty if one has all it requires.

        What others have, to whom a run may be given, is not known.
        """
        record = self._engine.runs.record(run.id)
        required = record.requires
        if not required or record.waits_its_turn or record.lifecycle.elsewhere:
            return ""
        has = {machine: seen.machine.labels for machine, seen in self._engine.machines.items()}
        if any(suits(required, labels) for labels in has.values()):
            return ""
        who = "its chain" if record.chain is not None else "it"
        return f"{who} requires {', '.join(map(str, required))}; {nearest_miss(required, has)}"

    def fault(self, machine: str, detail: str, now: float, *, lab: bool = False) -> bool:
        """End what a machine holds because it broke; the lab's fault wherever the lifecycle says so, or if `lab`."""
        record = self._engine.machines.find(machine)
        if record is None or not record.holds:
            return False
        cause = Cause(detail=detail, blame=Outcome.ERROR if lab else None)
        return self._engine.move(record.holds, CoreEvent.FAULT, now, cause)

    def broke(self, machine: str, why: str, now: float) -> None:
        """End what a machine holds, and what can go on nowhere else: it cannot be brought up any more."""
        self._engine.machines.broke(machine, why, now)  # first: nothing that follows is to wait for it
        self.fault(machine, why, now, lab=True)

    def _pick(self, capacity: Capacity, now: float) -> str | None:
        engine, machine = self._engine, capacity.machine
        first = partial(engine.ready.first, capacity.labels, machine, kind=capacity.kind)
        if machine and engine.machines.is_held(machine, now):
            return None
        run_id = first()
        if run_id is None:
            self._take_from_silent(now)
            run_id = first()
        if run_id is None and machine and not engine.machines.another(machine, now):
            run_id = first(avoided=True)
        return run_id

    def _take_from_silent(self, now: float) -> None:
        """Let the run wait again that was held in silence for longest, of those that may be tried again."""
        engine = self._engine
        while (silent := engine.machines.silent(now)) is not None:
            run_id = silent.holds
            engine.move(run_id, CoreEvent.SILENCE, now)
            if engine.runs.record(run_id).is_waiting:
                break
