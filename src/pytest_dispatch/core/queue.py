"""The queue of a lab: its sessions, runs and machines, and what moves them.

It is memory only, without I/O or a clock: every method takes `now`. The caller takes the changes
(`transitions.take_changes`), journals them and publishes them. No request scans all runs or machines: the `ReadyQueue`
knows the first run that suits a machine, the `MachineTable` the machine that was silent for longest, the `Deadlines`
those that have passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_dispatch.core.attempt_end import Verdicts
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.group_queue import GroupQueue
from pytest_dispatch.core.kinds import Kinds, rules_of
from pytest_dispatch.core.lifecycle import CoreEvent, Lifecycle
from pytest_dispatch.core.machine import Machine, MachineState
from pytest_dispatch.core.machine_record import MachineRecord, as_of, standing
from pytest_dispatch.core.model import Attempt, KnownBy, Run
from pytest_dispatch.core.requeueing import Requeues
from pytest_dispatch.core.runs import Cause, RunRecord
from pytest_dispatch.core.scheduler import Scheduler
from pytest_dispatch.core.session_table import SessionTable
from pytest_dispatch.core.sessions import Sessions
from pytest_dispatch.core.transitions import Transitions
from pytest_dispatch.core.unknown_machines import UnknownMachines

if TYPE_CHECKING:
    from pytest_dispatch.core.editing import Editing
    from pytest_dispatch.core.explanation import Obstacle
    from pytest_dispatch.core.kinds import PayloadField
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.core.requirements import Requirements


class Queue:
    """Sessions, runs, machines and scheduling together.

    Args:
        kinds: The rules of the kinds of workloads, by name.

    Attributes:
        runs: Every run by its id.
        machines: Every machine by its id.
        groups: Every configured group by its id.
        health: The health of machines.
        unknown: Machines that wait for approval.
        outside: Returns what keeps a run of a kind from the external system that carries it out, by kind.
        there: Returns what a run waits for in the external system that has it already, by kind.
    """

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.table = SessionTable()
        self.transitions = Transitions(self.table.policy, self.table.source)
        self.verdicts = Verdicts(self.transitions, self.table.policy, self.table.is_attended)
        self.sessions = Sessions(kinds, self.table, self.transitions, self.verdicts)
        self.scheduler = Scheduler(self.transitions)
        self.group_queue = GroupQueue(self.transitions)
        self.requeues = Requeues(self.sessions, self.group_queue)
        self.runs: Mapping[str, Run] = self.transitions.runs
        self.machines = self.transitions.machines
        self.groups = self.transitions.groups
        self.health = self.transitions.health
        self.unknown = UnknownMachines()
        self.outside: dict[str, Callable[[Run, float], Sequence[Obstacle]]] = {}
        self.there: dict[str, Callable[[Run, float], Sequence[Obstacle]]] = {}

    @cached_property
    def editing(self) -> Editing:
        """Return what gives waiting runs other workloads, which a lab of one pytest seldom loads."""
        from pytest_dispatch.core.editing import Editing

        return Editing(self._kinds, self.table, self.transitions, self.group_queue)

    def lifecycle_of(self, run: Run) -> Lifecycle:
        """Return the lifecycle of a run's attempts.

        Raises:
            ConfigError: The lab does not know its kind, or the kind has changed.
        """
        return rules_of(self._kinds, run.workload.kind).lifecycle_of(run)

    def required(self, workload: Workload, group: str) -> Requirements:
        """Return what a workload requires of a machine in a group, with what its kind and the group require.

        Raises:
            ConfigError: The lab does not know its kind, or the kind cannot make use of the payload.
        """
        needed = rules_of(self._kinds, workload.kind).required_by(workload)
        return tuple(sorted({*workload.requires, *needed, *self.groups.requires(group)}))

    def check_new(self, workload: Workload, readable: Callable[[str], None]) -> None:
        """Refuse a workload that nobody could run, before it is queued.

        Args:
            workload: The workload.
            readable: Refuses a location that the lab may not read, with a ConfigError.

        Raises:
            ConfigError: Names what was expected and what came.
        """
        rules_of(self._kinds, workload.kind).check_template(workload, readable)
        self.groups.check(workload)

    def limits(self, kind: str) -> Mapping[str, float]:
        """Return the usual limits of a kind in seconds, by name.

        Raises:
            ConfigError: The lab does not know the kind.
        """
        return rules_of(self._kinds, kind).usual.limits

    def by_hand(self, kind: str) -> tuple[PayloadField, ...]:
        """Return the values of a kind's payload that people give in a form.

        Raises:
            ConfigError: The lab does not know the kind.
        """
        return rules_of(self._kinds, kind).by_hand

    def is_elsewhere(self, workload: Workload) -> bool:
        """Return whether an external system assigns the machines of a workload.

        Raises:
            ConfigError: The lab does not know its kind.
        """
        return rules_of(self._kinds, workload.kind).usual.elsewhere

    def machine(self, machine: str, now: float) -> Machine:
        """Return a machine with its state."""
        record = self.machines[machine]
        return as_of(record, self._held_by(record), now)

    def standing(self, record: MachineRecord, now: float) -> tuple[MachineState, str, float]:
        """Return a machine's state, the reason, and since when."""
        return standing(record, self._held_by(record), now)

    def _held_by(self, record: MachineRecord) -> Run | None:
        return self.runs[record.holds] if record.holds else None

    def expire(self, now: float) -> None:
        """Handle every deadline, lease and hold whose end has come.

        The deadlines of runs that wait for a machine do not advance while a machine is busy, and restart when something
        that a run needs arrives.
        """
        transitions = self.transitions
        transitions.machines.end_holds(now)
        self.group_queue.end_holds(now)
        if transitions.run_index.here or transitions.arrived:
            transitions.deadlines.active, transitions.arrived = now, False
        to_take = {kind for kind in self._kinds if transitions.ready.holds(kind)}
        for record in transitions.deadlines.passed(now):
            self._pass(record, now, nothing_to_take=record.run.workload.kind not in to_take)
        for session in list(self.table.lapsed(now)):
            self.sessions.lapse(session, now)

    def _pass(self, record: RunRecord, now: float, *, nothing_to_take: bool) -> None:
        """Handle a deadline that has passed."""
        deadlines, move = self.transitions.deadlines, self.transitions.move
        if record.run.attempt.ended:
            self.verdicts.overdue(record, now)
        elif nothing_to_take and record.needs and record.is_waiting:
            waited = f"{record.needs} after {format_duration(deadlines.patience(record))}"
            move(record.run.id, CoreEvent.FAULT, now, Cause(detail=waited))
        elif slow := deadlines.is_too_slow(record, now):
            move(record.run.id, CoreEvent.FAULT, now, Cause(detail=slow))
        else:
            lacking = self.scheduler.lacking(record.run) if record.is_waiting else ""
            remark = f"; {lacking}" if lacking else self._unknown_callers(record.run.attempt)
            remark = _bound(record, self.runs) + remark
            if record.checks and record.is_waiting:
                remark = f"; no machine but {record.checks} will do, and it did not come{remark}"
            move(record.run.id, CoreEvent.TIMEOUT, now, Cause(remark=remark))

    def _unknown_callers(self, attempt: Attempt) -> str:
        """Return a remark about unknown callers: an attempt's machine is not recognised if its address has changed."""
        by_address = any(each.known_by is KnownBy.ADDRESS for each in attempt.placements)
        said = self.machines.unknown.since(attempt.since) if by_address else ""
        return said and f"; meanwhile {said}: has the address of {attempt.machine} changed?"


def _bound(record: RunRecord, runs: Mapping[str, Run]) -> str:
    """Return a remark that only the chain's machine was allowed, for an attempt that did not start on it."""
    chain = record.chain
    if chain is None or not chain.placements or record.run.attempt.ran:
        return ""
    return f"; no machine but {chain.placements[0].machine} will do: {runs[chain.passed].workload.name} ran there"
