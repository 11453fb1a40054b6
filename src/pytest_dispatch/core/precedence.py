"""What goes first on a machine: runs ahead of one that waits, and the limit of its group."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.explanation import Obstacle, ObstacleKind, told_names
from pytest_dispatch.core.ready_queue import FRONT
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.core.runs_ahead import NOW, Scene, runs_ahead

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.core.ready_queue import Lane, Standing
    from pytest_dispatch.core.requirements import Requirements
    from pytest_dispatch.core.runs import RunRecord


@dataclass(frozen=True, slots=True)
class _Freed:
    """What is under way no longer once a machine is free: the number of runs by session, and by group."""

    sessions: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)

    @property
    def key(self) -> tuple[object, ...]:
        return tuple(sorted(self.sessions.items())), tuple(sorted(self.groups.items()))


class Precedence:
    """What goes before one waiting run.

    Args:
        queue: The lab's queue.
        record: The run.
    """

    def __init__(self, queue: Queue, record: RunRecord) -> None:
        self._queue = queue
        self._transitions = queue.transitions
        self._run = record.run
        self._checks = record.checks
        self._waiting = self._transitions.waiting(record)
        self._ahead: dict[object, tuple[tuple[str, ...], bool]] = {}
        self._lanes: dict[Requirements, list[Lane]] = {}
        self._named = {self._waiting.avoid}  # machines that lanes name
        for lane in filter(self._may_precede, self._transitions.ready.lanes()):
            _, _, required, avoid, only, _ = lane.key
            self._lanes.setdefault(required, []).append(lane)
            if avoid or only:
                self._named |= {avoid, only}
        self._keys = sorted({each.key for required in self._lanes for each in required})

    @property
    def looked_at(self) -> int:
        """Return for how many sets of machines was found out what goes first there."""
        return len(self._ahead)

    def on(self, seen: MachineRecord, most: int) -> tuple[list[Obstacle], tuple[str, ...], bool]:
        """Return the obstacles on a machine, the runs that go first there, and whether there are more than `most`."""
        freed = self._freed(seen)
        ahead, more = self._goes_first(seen, freed, most)
        return [*self._of_ahead(ahead, seen, more=more), *self._limit(ahead, freed)], ahead, more

    def _may_precede(self, lane: Lane) -> bool:
        """Return whether a run of a lane may go before the run, wherever that is; on a machine to avoid all do."""
        waiting, key = self._waiting, lane.key
        if key[1] != waiting.kind or (lane.runs[0][0] > waiting.priority and not waiting.avoid):
            return False
        return key[-1] == waiting.group or key[-1] not in self._queue.groups.pauses

    def _freed(self, seen: MachineRecord) -> _Freed:
        freed, under_way = _Freed(), self._transitions.run_index.under_way
        for each in filter(None, (seen.holds, *seen.also)):
            run = self._queue.runs[each]
            freed.groups[run.group] += 1
            if each in under_way:
                freed.sessions[run.session] += 1
        return freed

    def _goes_first(self, seen: MachineRecord, freed: _Freed, most: int) -> tuple[tuple[str, ...], bool]:
        """Return the runs that go first on a machine, as far as they are looked at, and whether there are more."""
        labels = tuple(map(seen.machine.labels.get, self._keys))
        special = seen.id in self._named or seen.id in self._transitions.pinned
        key = labels, seen.id if special else "", freed.key
        if key not in self._ahead:
            found = tuple(itertools.islice(self._foreseen(seen, freed), most + 1))
            self._ahead[key] = found[:most], len(found) > most
        return self._ahead[key]

    def _foreseen(self, seen: MachineRecord, freed: _Freed) -> Iterator[str]:
        """Yield what machines like this one would get before the run, if nothing else kept it."""
        rooms = self._rooms(freed)
        begun: list[str] = []  # sessions
        for run in self._pinned(seen):  # a machine gets first what it alone may have
            group = self._queue.runs[run].group
            if rooms.get(group, 1) > 0:
                rooms[group] = rooms.get(group, math.inf) - 1
                begun.append(self._queue.runs[run].session)
                yield run
        if self._checks:
            return
        suiting = [lanes for required, lanes in self._lanes.items() if suits(required, seen.machine.labels)]
        # a limit of the run's own group is an obstacle of its own
        lanes = [
            lane
            for lane in itertools.chain(*suiting)
            if rooms.get(lane.key[-1], 1) > 0 and lane.key[4] in ("", seen.id)
        ]
        others = [lane for lane in lanes if lane.key[3] != seen.id]
        if self._waiting.avoid != seen.id or len(others) == len(lanes):
            yield from runs_ahead(self._scene(others, rooms, freed, begun), self._waiting)
            return
        mine = [lane for lane in lanes if lane.key[3] == seen.id]
        yield from runs_ahead(self._scene(others, rooms, freed, begun), self._waiting, after_all=True)
        yield from runs_ahead(self._scene(mine, rooms, freed, begun), self._waiting)

    def _pinned(self, seen: MachineRecord) -> Iterator[str]:
        """Yield the checks of a machine's health that go first, but for those of other groups that are paused."""
        for run in self._transitions.pinned.ready(seen.id):
            if run == self._run.id:
                return  # it is one of them; if it lacks something, it goes to their end once that is there
            mine = self._queue.runs[run]
            paused = mine.group != self._run.group and mine.group in self._queue.groups.pauses
            if not paused and mine.workload.kind == self._waiting.kind:
                yield run

    def _scene(self, lanes: list[Lane], rooms: dict[str, float], freed: _Freed, begun: list[str]) -> Scene:
        ready = self._transitions.ready

        def standing(line: str) -> Standing:
            under_way, since, _ = ready.standing(line)
            if line in begun:
                under_way, since = under_way + begun.count(line), NOW - begun[::-1].index(line)
            return under_way - freed.sessions[line], since, line

        return Scene(
            lanes=lanes,
            waits=ready.waits,
            standing=standing if freed.sessions or begun else ready.standing,
            session_of=lambda run: self._queue.runs[run].session,
            rooms=rooms,
        )

    def _rooms(self, freed: _Freed) -> dict[str, float]:
        """Return how many more runs of each other group that has a limit may begin."""
        groups = self._queue.groups
        return {
            name: group.max_running - groups.running(name) + freed.groups[name]
            for name, group in groups.items()
            if group.max_running is not None and name != self._run.group
        }

    def _of_ahead(self, ahead: tuple[str, ...], seen: MachineRecord, *, more: bool) -> Iterator[Obstacle]:
        if not ahead:
            return
        reasons = dict.fromkeys(self._why_first(self._queue.runs[each], seen) for each in ahead)
        why = ", or ".join(reasons)
        names = told_names([self._queue.runs[each].workload.name for each in ahead])
        if set(ahead) <= set(self._transitions.pinned.of(seen.id)):
            text = f"a check of the health of {seen.id} goes first"
        elif more:
            text = f"more than {len(ahead)} runs go first ({why})"
        elif len(ahead) > 1:
            text = f"{len(ahead)} runs go first ({why}): {names}"
        else:
            text = f"{names} goes first ({why})"
        yield Obstacle(kind=ObstacleKind.AHEAD, text=text, name=ahead[0], runs=ahead)

    def _why_first(self, first: Run, seen: MachineRecord) -> str:
        mine = self._run
        rows = (
            (first.id in self._transitions.pinned.of(seen.id), f"a check of {seen.id}"),
            (self._waiting.avoid == seen.id, f"its last attempt was on {seen.id}"),
            (first.priority < mine.priority, f"priority {first.priority.name.lower()}"),
            (first.line == mine.line, "earlier in the same line"),
            (first.line == FRONT, "a person has put it at the top"),
            (True, "sessions take turns"),
        )
        return next(text for holds, text in rows if holds)

    def _limit(self, ahead: tuple[str, ...], freed: _Freed) -> Iterator[Obstacle]:
        """Yield the limit of the run's group, if as many of its runs are under way, or will be before it."""
        name = self._run.group
        group = self._queue.groups.get(name)
        if group is None or group.max_running is None:
            return
        running = self._queue.groups.running(name) - freed.groups[name]
        first = sum(self._queue.runs[each].group == name for each in ahead)
        if running + first >= group.max_running:
            so = f", and {first} of those that go first {'is' if first == 1 else 'are'} of it" if first else ""
            are = "is" if running == 1 else "are"
            text = f"group {name} may have {group.max_running} under way: {running} {are}{so}"
            yield Obstacle(kind=ObstacleKind.LIMIT, text=text, name=name)
