"""The ready queue: runs that wait for a machine, and which of them a machine gets next.

A machine gets the first run that suits it: by priority, then fairly between sessions (the session with the fewest runs
under way, then the one that has waited longest since it last got one), then by place.

A run waits in a *line*: its session's, or that of another session into which a person moved it, or the line `FRONT`,
which goes before those of all sessions. Runs of one line and one group that may be given to the same machines form a
*lane*, a heap by priority and place; only the first run of a lane is ever compared with others. For each set of machine
labels there is a *view*: for each group and line, a heap of the first runs of those lanes that the labels suit. A lane
that gets an earlier first run tells the views. A lane that loses its first run does not: a view corrects the old entry
when it finds it at its top. So the time of `first` depends neither on the number of runs nor on the number of lanes. It
visits the lines that have work of the best priority in an open group, in fair order, until one has work that suits.
Groups that are closed (paused, or at their limit) are left out as a whole, so opening and closing one costs nothing.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, repeat
from operator import itemgetter
from typing import NamedTuple

from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.requirements import Labels, Requirements, suits

FRONT = ""  # the line that goes before those of all sessions of the same priority
MOST_VIEWS = 4096  # sets of labels with a view; the least recently used are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits for a machine.

    Attributes:
        kind: The kind of its workload.
        place: Smaller goes first, among the runs of a line with the same priority.
        avoid: Id of the machine of the previous attempt, which should not get the run again.
        only: Id of the machine that alone may have the run; empty for any that suits.
        group: Its group; while the group is closed, no machine gets the run.
        moved_to: The line into which it was moved; None if it waits in its session's.
    """

    run: str
    session: str
    place: float
    kind: str = ""
    priority: Priority = Priority.NORMAL
    requirements: Requirements = ()
    avoid: str = ""
    only: str = ""
    group: str = ""
    moved_to: str | None = None

    @property
    def line(self) -> str:
        """Return the line in which it waits."""
        return self.session if self.moved_to is None else self.moved_to

    @property
    def order(self) -> Order:
        """Return the key by which it is ordered within its line."""
        return self.priority, self.place, self.run


Order = tuple[Priority, float, str]
LaneKey = tuple[str, str, Requirements, str, str, str]  # line, kind, requirements, machine to avoid, only one, group
Standing = tuple[int, int, str]  # runs under way, since when, line: lines in fair order
_FIRST: Standing = (-1, 0, FRONT)
_PRIORITIES = tuple(map(int, Priority))  # hashed much faster than members of an enumeration


class _Asks(NamedTuple):
    """The machine that asks: its id, and whose runs to leave out because they should avoid it."""

    machine: str
    skip: str


@dataclass(slots=True, eq=False)
class Lane:
    """Runs of one line that may be given to the same machines; the first run in it always still waits."""

    key: LaneKey
    runs: list[Order] = field(default_factory=list)

    @property
    def first(self) -> Order | None:
        """Return its first run; None if it has none."""
        return self.runs[0] if self.runs else None


class _View:
    """The first runs of all lanes of a kind that suit certain labels, by group and line."""

    def __init__(self, kind: str, labels: Labels) -> None:
        self._kind = kind
        self._labels = labels
        self._heaps: dict[str, dict[str, list[tuple[Order, int, Lane]]]] = {}
        self._entered: dict[Lane, Order] = {}  # the valid entry of each lane; others are dropped when found
        self._count = 0  # orders entries that are otherwise equal

    @property
    def groups(self) -> Iterable[str]:
        """Return the groups that may have runs which suit."""
        return self._heaps

    def enter(self, lane: Lane) -> None:
        """Add a lane, or update its first run."""
        line, kind, requirements, _, _, group = lane.key
        if lane.first is not None and kind == self._kind and suits(requirements, self._labels):
            self._entered[lane] = lane.first
            self._count += 1
            lines = self._heaps.setdefault(group, {})
            heapq.heappush(lines.setdefault(line, []), (lane.first, self._count, lane))

    def best(self, group: str, line: str, asks: _Asks) -> Order | None:
        """Return the first run of a line in a group that the machine may have."""
        heap = self._heaps[group].get(line, [])
        aside: list[Lane] = []
        found: Order | None = None
        while heap and found is None:
            order, _, lane = heap[0]
            _, _, _, avoid, only, _ = lane.key
            may = (not asks.skip or avoid != asks.skip) and only in ("", asks.machine)
            if self._entered.get(lane) == order == lane.first and may:
                found = order
                continue
            heapq.heappop(heap)
            if self._entered.get(lane) != order:
                continue
            del self._entered[lane]
            if lane.first == order:
                aside.append(lane)
            else:
                self.enter(lane)
        for lane in aside:
            self.enter(lane)
        return found

    def forget(self, line: str) -> None:
        """Drop the entries of a line that has nothing in the queue."""
        for group, lines in list(self._heaps.items()):
            for _, _, lane in lines.pop(line, ()):
                self._entered.pop(lane, None)
            if not lines:
                del self._heaps[group]


@dataclass(slots=True, eq=False)
class _Share:
    """What a session has, and what waits in its line.

    Attributes:
        since: A logical time: when it last got a run, or was added.
        under_way: How many of its runs machines hold.
        waiting: How many runs wait in its line, by group and priority.
    """

    since: int
    under_way: int = 0
    waiting: Counter[tuple[str, int]] = field(default_factory=Counter)


class ReadyQueue:
    """Runs that wait for a machine; see the module docstring."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._lanes: dict[LaneKey, Lane] = {}
        self._views: OrderedDict[tuple[str, frozenset[tuple[str, str]]], _View] = OrderedDict()
        self._shares: dict[str, _Share] = {}
        self._kinds: Counter[str] = Counter()
        self._fair: dict[tuple[str, int], list[Standing]] = {}
        self._closed: set[str] = set()
        self._time = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, run: str) -> bool:
        return run in self._waiting

    def __iter__(self) -> Iterator[Waiting]:
        """Yield all waiting runs, by priority and place."""
        return iter(sorted(self._waiting.values(), key=lambda waiting: waiting.order))

    def holds(self, kind: str) -> bool:
        """Return whether a run of this kind waits."""
        return self._kinds[kind] > 0

    def put(self, waiting: Waiting) -> None:
        """Add a waiting run, or replace it if it waits already."""
        self.discard(waiting.run)
        self._waiting[waiting.run] = waiting
        self._count(waiting, 1)
        lane = self._lanes.setdefault(_lane_key(waiting), Lane(_lane_key(waiting)))
        heapq.heappush(lane.runs, waiting.order)
        if lane.first == waiting.order:
            self._publish(lane)

    def discard(self, run: str) -> None:
        """Remove a run, if it waits."""
        waiting = self._waiting.pop(run, None)
        if waiting is None:
            return
        lane = self._lanes[_lane_key(waiting)]
        while lane.first is not None and not self.waits(lane.first, lane.key):
            heapq.heappop(lane.runs)
        if lane.first is None:
            del self._lanes[lane.key]
        self._count(waiting, -1)

    def first(self, labels: Labels, machine: str = "", *, kind: str = "", avoided: bool = False) -> str | None:
        """Return the first run that suits; it stays in the queue until it is discarded.

        Args:
            labels: Labels of the machine, or of a slot that an external system assigns.
            machine: The machine's id, if known.
            kind: The kind of the run's workload.
            avoided: Whether to include runs that should avoid this machine.

        Returns:
            The run's id; None if nothing suits.
        """
        view, asks = self._view(kind, labels), _Asks(machine, "" if avoided else machine)
        groups = [group for group in view.groups if group not in self._closed]
        if len(groups) == 1:  # as in a lab without groups
            return self._first_of(groups[0], view, asks)
        for priority in _PRIORITIES if groups else ():
            lines = [(group, row) for group in groups if (row := self._fair.get((group, priority)))]
            for line, in_groups in _merged(lines):
                found = [order for group in in_groups if (order := view.best(group, line, asks)) is not None]
                if found and (best := min(found))[0] == priority:
                    return best[2]
        return None

    def _first_of(self, group: str, view: _View, asks: _Asks) -> str | None:
        """Return the first run of a group that suits."""
        for priority in _PRIORITIES:
            for _, _, line in self._fair.get((group, priority), ()):
                order = view.best(group, line, asks)
                if order is not None and order[0] == priority:
                    return order[2]
        return None

    def lanes(self) -> Iterable[Lane]:
        """Return the lanes, which are not to be changed."""
        return self._lanes.values()

    def standing(self, line: str) -> Standing:
        """Return how a line stands in the fair order; one that is unknown stands as one that comes now."""
        if line == FRONT:
            return _FIRST
        share = self._shares.get(line)
        return (0, self._time + 1, line) if share is None else (share.under_way, share.since, line)

    def began(self, session: str) -> None:
        """Count one more run of the session as under way."""
        self._stand(session, 1, self._tick())

    def ended(self, session: str) -> None:
        """Count one run of the session less as under way."""
        self._stand(session, -1, self._share(session).since)

    def close(self, group: str) -> None:
        """Stop giving runs of this group to machines."""
        self._closed.add(group)

    def open(self, group: str) -> None:
        """Give runs of this group to machines again."""
        self._closed.discard(group)

    # Fairness

    def _tick(self) -> int:
        self._time += 1
        return self._time

    def _share(self, line: str) -> _Share:
        if line not in self._shares:
            self._shares[line] = _Share(since=self._tick())
        return self._shares[line]

    def _count(self, waiting: Waiting, by: int) -> None:
        """Change the number of runs that wait in a line."""
        line = waiting.line
        share, key = self._share(line), (waiting.group, int(waiting.priority))
        standing = _FIRST if line == FRONT else (share.under_way, share.since, line)
        before = share.waiting[key]
        share.waiting[key] += by
        self._kinds[waiting.kind] += by
        if not before:
            insort(self._fair.setdefault(key, []), standing)
        elif not before + by:
            self._leave(key, standing)
            del share.waiting[key]
            self._forget_idle(line)

    def _leave(self, key: tuple[str, int], standing: Standing) -> None:
        standings = self._fair[key]
        del standings[bisect_left(standings, standing)]
        if not standings:
            del self._fair[key]

    def _stand(self, session: str, more: int, since: int) -> None:
        """Move a session's line to its current place in the fair order."""
        share = self._share(session)
        old = (share.under_way, share.since, session)
        share.under_way, share.since = share.under_way + more, since
        for key in share.waiting:
            standings = self._fair[key]
            del standings[bisect_left(standings, old)]
            insort(standings, (share.under_way, share.since, session))
        self._forget_idle(session)

    def _forget_idle(self, line: str) -> None:
        share = self._shares[line]
        if not share.under_way and not share.waiting:
            del self._shares[line]
            for view in self._views.values():
                view.forget(line)

    # Lanes and views

    def waits(self, order: Order, key: LaneKey) -> bool:
        """Return whether a lane's entry is a run that still waits in this lane."""
        waiting = self._waiting.get(order[2])
        return waiting is not None and waiting.order == order and _lane_key(waiting) == key

    def _publish(self, lane: Lane) -> None:
        for view in self._views.values():
            view.enter(lane)

    def _view(self, kind: str, labels: Labels) -> _View:
        key = kind, frozenset(labels.items())
        if key in self._views:
            self._views.move_to_end(key)
            return self._views[key]
        view = self._views[key] = _View(kind, dict(labels))
        for lane in self._lanes.values():
            view.enter(lane)
        if len(self._views) > MOST_VIEWS:
            self._views.popitem(last=False)
        return view


def _lane_key(waiting: Waiting) -> LaneKey:
    line = waiting.session if waiting.moved_to is None else waiting.moved_to  # a call less than `waiting.line`
    return line, waiting.kind, waiting.requirements, waiting.avoid, waiting.only, waiting.group


def _merged(groups: list[tuple[str, list[Standing]]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the lines of some groups in fair order, each with the groups in which runs of it wait."""
    each = heapq.merge(*(zip(standings, repeat(group)) for group, standings in groups))
    for standing, together in groupby(each, key=itemgetter(0)):
        yield standing[2], [group for _, group in together]
