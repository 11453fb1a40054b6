"""Moves attempts by their lifecycles: the only place where an attempt's state changes.

Every change is noted, to be journalled and published. What the end of an attempt means is decided in `attempt_end`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from pytest_dispatch.core.attempts import (
    advanced,
    has_room,
    named,
    placed,
    with_late_report,
    with_refusal,
)
from pytest_dispatch.core.deadlines import Deadlines
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_table import GroupTable
from pytest_dispatch.core.health import HealthTable
from pytest_dispatch.core.holds import Holds
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.model import KnownBy, Placement, Policy, Refusal, Report, Run
from pytest_dispatch.core.pinned_runs import PinnedRuns
from pytest_dispatch.core.ready_queue import ReadyQueue, Waiting
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.core.run_chain import Chain
from pytest_dispatch.core.run_index import RunIndex
from pytest_dispatch.core.runs import Cause, Change, RunRecord, RunTable

_NO_CAUSE = Cause()

#: Called when an attempt has ended, with its record, the run after the event, the event, the time, and the cause.
OnEnd = Callable[[RunRecord, Run, str, float, Cause], None]


class Transitions:
    """The runs, the machines, and the transitions of attempts.

    Args:
        policy_of: Returns the policy of a session.
        origin_of: Returns the source of a session.

    Attributes:
        health: The health of machines.
        pinned: Runs that one machine only may have, beside those that are in `ready`.
        on_end: Called when an attempt has ended.
        run_index: Which runs are under way, waiting or alive.
        arrived: Whether something that runs need has arrived since deadlines were last checked.
        altered: Ids of runs that changed otherwise than by an event, since whoever journals them emptied this.
        held: The holds of runs.
    """

    def __init__(self, policy_of: Callable[[str], Policy], origin_of: Callable[[str], str] = lambda _: "") -> None:
        self.runs = RunTable()
        self.machines = MachineTable()
        self.health = HealthTable(self.machines, origin_of)
        self.ready = ReadyQueue()
        self.pinned = PinnedRuns()
        self.deadlines = Deadlines()
        self.on_end: OnEnd | None = None
        self.groups = GroupTable(self.ready.open, self.ready.close)
        self.held = Holds()
        self.altered: dict[str, None] = {}
        self.run_index = RunIndex(policy_of, self.groups.is_closed)
        self.deadlines.open_since = partial(_open_since, self.groups)
        self.arrived = False
        self._awaited: dict[str, dict[str, None]] = {}  # busy machines that chains wait for, and their runs
        self._changes: list[Change] = []

    def take_changes(self) -> list[Change]:
        """Return all changes since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def note(self, record: RunRecord, run: Run, event: str, attempt: int, now: float, by: str = "") -> None:
        """Store a run as changed by an event of an attempt, which a person may have wanted; note the change."""
        ends = run.outcome is not None and record.run.outcome is None
        if ends:
            self.held.end(run.id)
        record.run = run
        self._changes.append(Change(run, event, attempt, now, ends, by))

    # Groups and holds

    def alter(self, record: RunRecord, run: Run) -> None:
        """Store a run as changed by a person or by the configuration, not by an event of one of its attempts."""
        record.run = run
        self.altered[run.id] = None

    def settle_in(self, record: RunRecord) -> str:
        """Put a run into the group that it names or the first that suits it; return why none suits, empty if one does.

        The runs of a chain are in the group of its first one.
        """
        run, chain = record.run, record.chain
        try:
            group = self.groups.choose(run.workload, record.own_requires)
        except ConfigError as error:
            return str(error)
        if chain is not None and chain.first != run.id and (chained := self.runs[chain.first].group) in self.groups:
            if run.workload.group not in ("", chained):
                return f"expected all runs of a chain in one group, got {group}: {chain.first} is in {chained}"
            group = chained
        record.within = self.groups.requires(group)
        if group != run.group:
            self.run_index.leave(run.id, run.group)
            self.alter(record, replace(run, group=group, place=None))
        return ""

    # Waiting

    def offer(self, record: RunRecord, now: float) -> None:
        """Put a run in the ready queue if it is waiting, it is its turn, and the lab has what it needs.

        A run whose group is gone goes to the one that now suits it.
        """
        _withdraw(self, record.run.id)
        if record.run.group not in self.groups and record.is_waiting and not record.is_held_back:
            lacking = self.settle_in(record)
            if lacking:
                self.lacks(record.run.id, lacking, now)
                return
        if record.is_held_back:
            record.needs = ""  # what it needs is not known until it is submitted again
        elif record.is_waiting and not record.waits_its_turn:
            if record.chain is not None and record.chain.placements:
                self._follow_on(record, record.chain, now)
            elif record.checks:
                self.pinned.put(record.run.id, record.checks, ready=not record.needs and not record.on_hold)
            elif not record.needs and not record.on_hold:
                self.ready.put(self.waiting(record))
        self.run_index.regard(record)

    def take_turn(self, record: RunRecord, now: float) -> None:
        """Start the turn of a run in its chain."""
        record.begin = now
        self.offer(record, now)
        self.deadlines.watch(record)

    def waits_for(self, machine: str) -> Iterable[str]:
        """Return the runs whose chains go on on a machine as soon as it is free, in order."""
        return self._awaited.get(machine, {})

    def waiting(self, record: RunRecord) -> Waiting:
        """Return a run as it waits, or would wait, in the ready queue."""
        run = record.run
        required, avoid = record.requires, run.attempts[-2].machine if len(run.attempts) > 1 else run.avoids
        if avoid and required:
            others = (seen.machine.labels for name, seen in self.machines.items() if name != avoid)
            avoid = avoid if any(suits(required, labels) for labels in others) else ""
        return Waiting(
            run=run.id,
            kind=run.workload.kind,
            session=run.session,
            place=run.number,
            priority=run.priority,
            requirements=required,
            avoid=avoid,
            only=run.only,
            group=run.group,
            moved_to=None if run.place is None else run.place.line,
        )

    def _follow_on(self, record: RunRecord, chain: Chain, now: float) -> None:
        """Start a run on its chain's machines as soon as they are free and the lab has what the run needs."""
        first, *others = chain.placements
        broken = [where.machine for where in chain.placements if self.machines[where.machine].broken]
        if broken:
            why = f"{self.machines[broken[0]].broken}; no machine but {broken[0]} will do: its chain has begun there"
            self.lacks(record.run.id, why, now)
            return
        if not chain.held_by and (busy := self._reserve(chain, record.run.group, now)):
            self._awaited.setdefault(busy, {})[record.run.id] = None
            return
        if record.needs or record.on_hold:
            return
        for placement in chain.placements:
            self.machines.release(placement.machine, chain.held_by, now)
        self.groups.ended(chain.held_by, now)
        chain.held_by = ""
        self.move(record.run.id, CoreEvent.ASSIGN, now, Cause(machine=first.machine, known_by=first.known_by))
        for other in others:
            self.bind(record.run.id, other.machine, other.known_by, now)

    def _reserve(self, chain: Chain, group: str, now: float) -> str:
        """Reserve a chain's machines for its next run if all are free; otherwise return the id of a busy one."""
        busy = [each.machine for each in chain.placements if self.machines[each.machine].holds]
        if busy:
            return busy[0]
        chain.held_by = chain.passed
        self.groups.began(chain.held_by, group)
        for placement in chain.placements:
            self.machines.hold(placement.machine, chain.held_by, now, revocable=False)
        return ""

    def keep(self, record: RunRecord, chain: Chain, now: float) -> None:
        """Keep the machines of an ended attempt reserved for the next run of its chain."""
        run = record.run
        self._count_out(run, now)
        held = [self.machines[placement.machine].holds for placement in run.attempt.placements]
        if held and set(held) == {run.id}:
            chain.held_by = run.id
            self.groups.began(run.id, run.group)

    def let_go(self, chain: Chain, now: float) -> None:
        """End the reservation of a chain."""
        held_by, chain.held_by = chain.held_by, ""
        self.groups.ended(held_by, now)
        for placement in chain.placements if held_by else ():
            self._set_free(placement.machine, held_by, now)

    def has_what_it_needs(self, run_id: str, now: float) -> None:
        """Offer a run to machines, because what it needed has arrived."""
        record = self.runs.record(run_id)
        if record.needs:
            record.needs = ""
            self.arrived = True
            self.offer(record, now)

    def lacks(self, run_id: str, detail: str, now: float) -> None:
        """Fail a run with an error because its needs cannot be met.

        A run that has already booted does not need them. One that waits to be submitted again may be submitted with
        other needs.
        """
        record = self.runs.record(run_id)
        if record.awaits_resubmit:
            return
        record.lost, record.needs = True, ""
        if not record.run.attempt.ran:
            self.move(run_id, CoreEvent.FAULT, now, Cause(detail=detail, excused=True))
        self.run_index.regard(record)

    # Moving

    def move(self, run_id: str, event: str, now: float, cause: Cause = _NO_CAUSE) -> bool:
        """Apply an event to a run's latest attempt, and return False if its state does not handle the event."""
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
            _withdraw(self, run_id)
            if self.on_end is not None:
                self.on_end(record, moved, event, now, cause)
            return True
        if entered or event in record.lifecycle.told:
            self.note(record, moved, event, moved.attempt.number, now, cause.by)
        record.run = moved
        if entered:
            self._entered(record, run, now)
        return True

    def _entered(self, record: RunRecord, before: Run, now: float) -> None:
        """Update queue, machines and deadlines after an attempt entered a state."""
        state = record.run.attempt.state
        if record.is_waiting:
            self.release(record.run, now)
            self.offer(record, now)
        else:
            self.hold(record)
        self.deadlines.watch(record)
        then = record.lifecycle.states[state].then
        if then and state != before.attempt.state:
            self.move(record.run.id, then, now)

    def bind(self, run_id: str, machine: str, known_by: KnownBy, now: float) -> None:
        """Record one more machine on which a run's latest attempt was seen to run."""
        record = self.runs.record(run_id)
        if any(placement.machine == machine for placement in record.run.attempt.placements):
            return
        self.machines.speaks_as(machine, known_by, now)
        placement = Placement(machine=machine, known_by=known_by, at=now)
        self.note(record, placed(record.run, placement), CoreEvent.BIND, record.run.attempt.number, now)
        self.hold(record)

    def sent_as(self, run_id: str, number: int, outside: str, now: float) -> None:
        """Record the name that an external system gave to an attempt; the first name is kept."""
        record = self.runs.record(run_id)
        if not record.run.attempts[number - 1].outside:
            self.note(record, named(record.run, number, outside), CoreEvent.OUTSIDE, number, now)

    def report(self, run_id: str, number: int, report: Report, now: float) -> bool | None:
        """Add a report to an attempt.

        Returns:
            Whether it came in time; None if there is no room for it.
        """
        record = self.runs.record(run_id)
        attempt = record.run.attempts[number - 1]
        if not has_room(attempt, report):
            return None
        if attempt.ended:
            self.note(record, with_late_report(record.run, number, report), CoreEvent.REPORT, number, now)
            return False
        return self.move(run_id, CoreEvent.REPORT, now, Cause(report=report))

    def refuse(self, run_id: str, number: int, refusal: Refusal, now: float) -> None:
        """Record that an attempt sent a report that was refused."""
        record = self.runs.record(run_id)
        changed = with_refusal(record.run, number, refusal)
        if changed is not None:
            self.note(record, changed, CoreEvent.REFUSE, number, now)

    # Machines

    def hold(self, record: RunRecord) -> None:
        """Mark the machines of the latest attempt as busy with it."""
        run = record.run
        if run.id not in self.run_index.under_way:
            self.run_index.under_way.add(run.id)
            _withdraw(self, run.id)
            self.ready.began(run.session)
            if not record.lifecycle.elsewhere:
                self.run_index.here.add(run.id)
        _count_in(self.groups, record)
        for placement in run.attempt.placements:
            self.machines.hold(placement.machine, run.id, placement.at, revocable=record.revocable)
        self.run_index.regard(record)

    def release(self, run: Run, now: float) -> None:
        """Release the machines of the latest attempt."""
        self._count_out(run, now)
        for placement in run.attempt.placements:
            self._set_free(placement.machine, run.id, now)

    def _count_out(self, run: Run, now: float) -> None:
        """Stop counting a run as under way."""
        if run.id in self.run_index.under_way:
            self.run_index.under_way.discard(run.id)
            self.ready.ended(run.session)
            self.groups.ended(run.id, now)
        if run.id in self.run_index.here:
            self.run_index.here.discard(run.id)
            self.deadlines.active = now

    def _set_free(self, machine: str, run_id: str, now: float) -> None:
        """Release a machine from this run; the chains that wait for it get it first."""
        self.machines.release(machine, run_id, now)
        record = self.machines.find(machine)
        if record is not None and not record.holds:
            for awaiting in self._awaited.pop(machine, ()):
                self.offer(self.runs.record(awaiting), now)


def _count_in(groups: GroupTable, record: RunRecord) -> None:
    """Count a run as under way in its group, unless it is suspended."""
    run = record.run
    if record.is_suspended:
        groups.ended(run.id, run.attempt.since)
    else:
        groups.began(run.id, run.group)


def _withdraw(transitions: Transitions, run_id: str) -> None:
    """Remove a run from what machines are offered."""
    transitions.ready.discard(run_id)
    transitions.pinned.discard(run_id)


def _open_since(groups: GroupTable, record: RunRecord) -> float:
    """Return since when a waiting run may begin; infinity while it may not."""
    return math.inf if record.on_hold else groups.open_since(record.run.group)
