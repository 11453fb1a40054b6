"""The queue of each group as people see and change it: its order, moves in it, holds, and new configurations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_table import GroupChange
from pytest_dispatch.core.groups import Group, no_group
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Place, Priority, Run
from pytest_dispatch.core.ready_queue import FRONT
from pytest_dispatch.core.runs import RunRecord
from pytest_dispatch.core.transitions import Transitions

STEP = 1.0  # between the places of runs at the ends of a line


class NotQueuedError(ConfigError):
    """A run is not where a request expects it: it does not wait, or it waits in another group."""


class GroupQueue:
    """What people do with groups and with the runs that wait in them.

    Args:
        transitions: The runs.
    """

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions
        self._groups = transitions.groups

    def set(self, groups: Iterable[Group], now: float) -> GroupChange:
        """Replace the groups, and return what changed.

        What is under way goes on. A run that waits in a group that is gone, or whose labels have changed, goes to the
        group that now suits it; one that names a group that is gone ends with an error of the lab.

        Raises:
            ConfigError: Two groups have the same id; nothing is changed.
        """
        before = {name: self._groups.requires(name) for name in self._groups}
        change = self._groups.set(groups, now)
        relabelled = [name for name in change.changed if self._groups.requires(name) != before[name]]
        for name in (*change.gone, *relabelled):
            for run in list(self._transitions.run_index.queued.get(name, ())):
                self._settle_anew(self._transitions.runs.record(run), now)
        return change

    def _settle_anew(self, record: RunRecord, now: float) -> None:
        if record.run.outcome is not None:
            return  # its chain was skipped meanwhile
        lacking = self._transitions.settle_in(record)
        if lacking:
            self._transitions.lacks(record.run.id, lacking, now)
        else:
            self._transitions.offer(record, now)

    def known(self, group: str) -> Group:
        """Return a group.

        Raises:
            NoGroupError: There is none with that id; the message names the nearest one.
        """
        if group not in self._groups:
            raise no_group(group, self._groups)
        return self._groups[group]

    def queued(self, group: str) -> int:
        """Return how many runs of a group wait, whether or not the lab has what they need."""
        return len(self._transitions.run_index.queued.get(group, ()))

    # Holds

    def hold(self, run_id: str, hold: Hold, now: float) -> None:
        """Keep a run from machines; if it is under way, this applies to its further attempts.

        Raises:
            NotQueuedError: It is over.
        """
        record = self._transitions.runs.record(run_id)
        if record.run.outcome is not None:
            raise NotQueuedError(f"expected a run that is not over, got {run_id}, which has {record.run.outcome}")
        self._transitions.held.set(run_id, hold)
        record.on_hold = True
        self._transitions.offer(record, now)

    def release(self, run_id: str, now: float) -> bool:
        """End the hold of a run, and return whether there was one; its wait for a machine begins anew."""
        ended = self._transitions.held.end(run_id)
        if ended and run_id in self._transitions.runs:
            record = self._transitions.runs.record(run_id)
            record.on_hold, record.begin = False, now
            self._transitions.offer(record, now)
        return ended

    def recall(self, holds: Mapping[tuple[str, str], Hold], now: float) -> None:
        """Hold groups and runs as an earlier lab did.

        Args:
            holds: Holds by what is held (`group`, `run`) and its name.
            now: The time; no hold began later, even if the system date was set back.
        """
        restore = {"group": self._groups.recall, "run": self._transitions.held.recall}
        for (what, name), hold in holds.items():
            restore[what](name, replace(hold, since=min(hold.since, now)))

    def end_holds(self, now: float) -> None:
        """End the holds of runs and the pauses of groups whose end has come."""
        self._groups.end_pauses(now)
        for run in self._transitions.held.past(now):
            self.release(run, now)

    # The order

    def order(self, group: str, first: int = 0) -> Iterator[RunRecord]:
        """Yield the runs that wait in a group, in the order in which machines that suit them all would get them.

        Runs that are held, lack something or have others of their chain before them are among them, at their places.

        Args:
            group: Its id.
            first: How many of the first ones to leave out.
        """
        index, record = self._transitions.run_index, self._transitions.runs.record
        return (record(run) for run in index.order(group).after(first, self._transitions.ready.standing))

    def page(self, group: str, first: int, most: int) -> list[RunRecord]:
        """Return `most` of a group's runs in their order, after the `first` ones."""
        return list(islice(self.order(group, first), most))

    def place(self, run: Run) -> int:
        """Return the place of a run in the order of its group, from 1; 0 if it does not wait."""
        order = self._transitions.run_index.order(run.group)
        return order.place(run.id, self._transitions.ready.standing)

    # Moving

    def move(self, run_id: str, *, before: str = "", after: str = "", bottom: bool = False) -> Run:
        """Move a run that waits within the queue of its group; it takes the priority of where it is put.

        It goes directly before or after another run, into whose line it moves, to the end with `bottom`, or else to the
        top, before the runs of all sessions. Runs of a chain keep their order; moving one moves the chain.

        Raises:
            NotQueuedError: The run, or the other one, does not wait in the group.
        """
        record = self._first_of_chain(self._queued(run_id))
        group = record.run.group
        if other := before or after:
            beside = self._queued(other)
            if beside.run.group != group:
                where = f"{other} waits in group {beside.run.group}"
                raise NotQueuedError(f"expected a run of group {group}, in which {run_id} waits; {where}")
            if not _together(record, beside):
                self._put_beside(record, beside, later=bool(after))
        else:
            self._put_at_end(record, bottom=bottom)
        return record.run

    def step(self, run_id: str, *, down: bool = False) -> Run:
        """Move a run that waits directly before the one before it, or with `down` after the one after it.

        One that is first, or last, stays where it is. Runs of its own chain do not count.

        Raises:
            NotQueuedError: It does not wait.
        """
        record = self._first_of_chain(self._queued(run_id))
        place = self.place(record.run) - 1
        beside = self._first_other(
            record, range(place + 1, self.queued(record.run.group)) if down else _down_from(place)
        )
        if beside is not None:
            self._put_beside(record, beside, later=down)
        return record.run

    def _first_other(self, record: RunRecord, places: Iterable[int]) -> RunRecord | None:
        """Return the run at the first of these places, from 0, that is not of the same chain; None if there is none."""
        at = (each for place in places for each in self.page(record.run.group, place, 1))
        return next((each for each in at if not _together(record, each)), None)

    def prioritise(self, run_id: str, priority: Priority) -> Run:
        """Give a run that waits another priority; it goes into its session's line, as it was submitted.

        Raises:
            NotQueuedError: It does not wait.
        """
        record = self._first_of_chain(self._queued(run_id))
        run = record.run
        self._put(record, Place(priority=priority, number=float(run.position), line=run.session))
        return record.run

    def put_first(self, group: str, run_ids: Iterable[str]) -> None:
        """Put runs that wait in a group before all its others, in this order; they take the priority of its first one.

        Runs of a chain keep their order, at the place of the one that is named first.

        Raises:
            NotQueuedError: One of them does not wait in the group; nothing is changed.
        """
        named = [self._queued(run_id) for run_id in run_ids]
        for record in named:
            if record.run.group != group:
                stands = f"{record.run.id}, which waits in group {record.run.group}"
                raise NotQueuedError(f"expected runs that wait in group {group}, got {stands}")
        moved = {record.run.id: record for record in map(self._first_of_chain, named)}
        if not moved:
            return
        order, runs = self._transitions.run_index.order(group), self._transitions.runs
        priority = next(self.order(group)).run.priority
        others = (runs[run] for run in order.row(priority, FRONT).after(0) if run not in moved)
        top = next((run.number for run in others), 0.0)
        for count, record in enumerate(moved.values()):
            number = top - STEP * (len(moved) - count)
            self._put(record, Place(priority=priority, number=number, line=FRONT))

    def _first_of_chain(self, record: RunRecord) -> RunRecord:
        return record if record.chain is None else self._transitions.runs.record(record.chain.first)

    def _queued(self, run_id: str) -> RunRecord:
        runs = self._transitions.runs
        record = runs.record(run_id) if run_id in runs else None
        if record is None or run_id not in self._transitions.run_index.order(record.run.group):
            stands = "unknown or over" if record is None else record.run.attempt.phase
            raise NotQueuedError(f"expected a run that waits in a queue, got {run_id}, which is {stands}")
        return record

    def _put_at_end(self, record: RunRecord, *, bottom: bool) -> None:
        group = record.run.group
        if bottom:
            own, end = self.place(record.run) - 1, self.queued(group)
            last = self._first_other(record, range(end - 1, own, -1))
            if last is not None:
                self._put_beside(record, last, later=True)
            return
        first = next((each.run for each in self.order(group) if each is not record), None)
        if first is None:
            return
        priority = min(first.priority, record.run.priority)  # it may be the first one already
        in_front = (first.line, first.priority) == (FRONT, priority)
        self._put(record, Place(priority=priority, number=first.number - STEP if in_front else 0.0, line=FRONT))

    def _put_beside(self, record: RunRecord, beside: RunRecord, *, later: bool) -> None:
        """Put a run directly before or after another one of the same group."""
        line, priority = beside.run.line, beside.run.priority
        order = self._transitions.run_index.order(record.run.group)
        order.discard(record.run.id)  # so that it is not its own neighbour
        row = order.row(priority, line)
        place = row.index((beside.run.number, beside.run.id)) + later
        low = row[place - 1][0] if place else -math.inf
        high = row[place][0] if place < len(row) else math.inf
        number = _between(low, high)
        if not low < number < high:  # there is no number in between any more
            for count, run in enumerate(list(row.after(0))):
                each = Place(priority=priority, number=count + STEP * (count >= place), line=line)
                self._put(self._transitions.runs.record(run), each)
            number = float(place)
        self._put(record, Place(priority=priority, number=number, line=line))

    def _put(self, record: RunRecord, place: Place) -> None:
        self._transitions.alter(record, replace(record.run, place=place))
        if record.run.id in self._transitions.ready:
            self._transitions.ready.put(self._transitions.waiting(record))
        self._transitions.run_index.order(record.run.group).put(record.run)


def _together(record: RunRecord, other: RunRecord) -> bool:
    """Return whether two runs are one, or are of one chain, which keeps its order."""
    return record is other or (record.chain is not None and record.chain is other.chain)


def _down_from(place: int) -> range:
    """Return the places before one, the nearest first."""
    return range(place - 1, -1, -1)


def _between(low: float, high: float) -> float:
    if math.isinf(low) and math.isinf(high):
        return 0.0
    if math.isinf(low) or math.isinf(high):
        return high - STEP if math.isinf(low) else low + STEP
    return (low + high) / 2
