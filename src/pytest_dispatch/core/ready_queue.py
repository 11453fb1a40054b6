"""The ready queue: runs that wait for a machine, and which of them a machine gets next.

A machine gets the first run that suits it: by priority, then fairly between sessions (the session with the fewest runs
under way, then the one that has waited longest since it last got one), then by place.

Runs of one session that may be given to the same machines form a *lane*, a heap by priority and place; only the first
run of a lane is ever compared with others. For each set of machine labels there is a *view*: for each session, a heap
of the first runs of those lanes that the labels suit. A lane that gets an earlier first run tells the views. A lane
that loses its first run does not: a view corrects the old entry when it finds it at its top. So the time of `first`
depends neither on the number of runs nor on the number of lanes. It visits the sessions that have work of the best
priority, in fair order, until one has work that suits.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.requirements import Labels, Requirements, suits

MOST_VIEWS = 4096  # sets of labels with a view; the least recently used are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits for a machine.

    Attributes:
        kind: The kind of its workload.
        place: Smaller goes first, among the runs of a session with the same priority.
        avoid: Id of the machine of the previous attempt, which should not get the run again.
        group: Its group; while the group is paused, no machine gets the run.
    """

    run: str
    session: str
    place: float
    kind: str = ""
    priority: Priority = Priority.NORMAL
    requirements: Requirements = ()
    avoid: str = ""
    group: str = ""

    @property
    def order(self) -> _Order:
        """Return the key by which it is ordered within its session."""
        return self.priority, self.place, self.run


_Order = tuple[Priority, float, str]
_LaneKey = tuple[str, str, Requirements, str, str]  # session, kind, requirements, machine to avoid, group
_Standing = tuple[int, int, str]  # runs under way, since when, session: sessions in fair order


@dataclass(slots=True, eq=False)
class _Lane:
    """Runs of one session that may be given to the same machines; the first run in it always still waits."""

    key: _LaneKey
    runs: list[_Order] = field(default_factory=list)

    @property
    def first(self) -> _Order | None:
        return self.runs[0] if self.runs else None


class _View:
    """The first runs of all lanes of a kind that suit certain labels, by session."""

    def __init__(self, kind: str, labels: Labels) -> None:
        self._kind = kind
        self._labels = labels
        self._heaps: dict[str, list[tuple[_Order, int, _Lane]]] = {}
        self._entered: dict[_Lane, _Order] = {}  # the valid entry of each lane; others are dropped when found
        self._count = 0  # orders entries that are otherwise equal

    def enter(self, lane: _Lane) -> None:
        """Add a lane, or update its first run."""
        session, kind, requirements, _, _ = lane.key
        if lane.first is not None and kind == self._kind and suits(requirements, self._labels):
            self._entered[lane] = lane.first
            self._count += 1
            heapq.heappush(self._heaps.setdefault(session, []), (lane.first, self._count, lane))

    def best(self, session: str, skip: str, paused: set[str]) -> _Order | None:
        """Return the session's first run, except those that should avoid the machine `skip`."""
        heap = self._heaps.get(session, [])
        aside: list[_Lane] = []
        found: _Order | None = None
        while heap and found is None:
            order, _, lane = heap[0]
            *_, avoid, group = lane.key
            if self._entered.get(lane) == order == lane.first and group not in paused and (not skip or avoid != skip):
                found = order
                continue
            heapq.heappop(heap)
            if self._entered.get(lane) != order:
                continue
            del self._entered[lane]
            if lane.first == order and group not in paused:
                aside.append(lane)
            elif group not in paused:
                self.enter(lane)
        for lane in aside:
            self.enter(lane)
        return found

    def forget(self, session: str) -> None:
        """Drop the entries of a session that has nothing in the queue."""
        for _, _, lane in self._heaps.pop(session, ()):
            self._entered.pop(lane, None)


@dataclass(slots=True, eq=False)
class _Share:
    """What a session has, and what it waits for.

    Attributes:
        since: A logical time: when it last got a run, or was added.
        under_way: How many of its runs machines hold.
        waiting: How many of its runs wait, by priority.
    """

    since: int
    under_way: int = 0
    waiting: Counter[Priority] = field(default_factory=Counter)


class ReadyQueue:
    """Runs that wait for a machine; see the module docstring."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._views: OrderedDict[tuple[str, frozenset[tuple[str, str]]], _View] = OrderedDict()
        self._shares: dict[str, _Share] = {}
        self._kinds: Counter[str] = Counter()
        self._fair: dict[Priority, list[_Standing]] = {priority: [] for priority in Priority}
        self._paused: set[str] = set()
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
        lane = self._lanes.setdefault(_lane_key(waiting), _Lane(_lane_key(waiting)))
        heapq.heappush(lane.runs, waiting.order)
        if lane.first == waiting.order:
            self._publish(lane)

    def discard(self, run: str) -> None:
        """Remove a run, if it waits."""
        waiting = self._waiting.pop(run, None)
        if waiting is None:
            return
        lane = self._lanes[_lane_key(waiting)]
        while lane.first is not None and not self._waits(lane.first, lane.key):
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
        view, skip = self._view(kind, labels), "" if avoided else machine
        for priority in Priority:
            for _, _, session in self._fair[priority]:
                order = view.best(session, skip, self._paused)
                if order is not None and order[0] is priority:
                    return order[2]
        return None

    def began(self, session: str) -> None:
        """Count one more run of the session as under way."""
        self._stand(session, 1, self._tick())

    def ended(self, session: str) -> None:
        """Count one run of the session less as under way."""
        self._stand(session, -1, self._share(session).since)

    def pause(self, group: str) -> None:
        """Stop giving runs of this group to machines."""
        self._paused.add(group)

    def resume(self, group: str) -> None:
        """Give runs of this group to machines again."""
        self._paused.discard(group)
        for lane in self._lanes.values():
            if lane.key[-1] == group:
                self._publish(lane)

    # Fairness

    def _tick(self) -> int:
        self._time += 1
        return self._time

    def _share(self, session: str) -> _Share:
        if session not in self._shares:
            self._shares[session] = _Share(since=self._tick())
        return self._shares[session]

    def _count(self, waiting: Waiting, by: int) -> None:
        """Change the number of a session's waiting runs."""
        share, line = self._share(waiting.session), self._fair[waiting.priority]
        standing = (share.under_way, share.since, waiting.session)
        before = share.waiting[waiting.priority]
        share.waiting[waiting.priority] += by
        self._kinds[waiting.kind] += by
        if not before:
            insort(line, standing)
        elif not before + by:
            del line[bisect_left(line, standing)]
            self._forget_idle(waiting.session)

    def _stand(self, session: str, more: int, since: int) -> None:
        """Move a session to its current place in the fair order."""
        share = self._share(session)
        old = (share.under_way, share.since, session)
        share.under_way, share.since = share.under_way + more, since
        for priority in +share.waiting:
            line = self._fair[priority]
            del line[bisect_left(line, old)]
            insort(line, (share.under_way, share.since, session))
        self._forget_idle(session)

    def _forget_idle(self, session: str) -> None:
        share = self._shares[session]
        if not share.under_way and not +share.waiting:
            del self._shares[session]
            for view in self._views.values():
                view.forget(session)

    # Lanes and views

    def _waits(self, order: _Order, key: _LaneKey) -> bool:
        """Return whether a lane's entry is a run that still waits in this lane."""
        waiting = self._waiting.get(order[2])
        return waiting is not None and waiting.order == order and _lane_key(waiting) == key

    def _publish(self, lane: _Lane) -> None:
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


def _lane_key(waiting: Waiting) -> _LaneKey:
    return waiting.session, waiting.kind, waiting.requirements, waiting.avoid, waiting.group
