"""Which runs machines get before a certain one, if the ready queue is given out one run after the other from now on.

This is the order of `ReadyQueue.first` without changing the queue: by priority, then by the fair order of the lines,
which changes with each run that is given out, then by place. It looks only at the runs that it yields, so its time does
not depend on how many wait behind them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.ready_queue import Lane, LaneKey, Order, Standing, Waiting

NOW = 2**60  # a logical time, after all that have happened: runs are given out from then on


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a look ahead begins with.

    Attributes:
        lanes: The lanes of open groups whose runs the machine may get.
        waits: Returns whether an entry of a lane still waits in it.
        standing: Returns how a line stands.
        session_of: Returns the session of a run.
        rooms: How many more runs may begin, by group; a group that is missing has no limit.
    """

    lanes: Iterable[Lane]
    waits: Callable[[Order, LaneKey], bool]
    standing: Callable[[str], Standing]
    session_of: Callable[[str], str]
    rooms: Mapping[str, float] = field(default_factory=dict)


def runs_ahead(scene: Scene, wanted: Waiting, *, after_all: bool = False) -> Iterator[str]:
    """Yield the ids of the runs that are given out before this one, in order.

    Args:
        scene: How things stand.
        wanted: The run, whether or not it is in the queue.
        after_all: Whether all others go first.
    """
    foresight = _Foresight(scene, wanted.run)
    while (turn := foresight.next()) is not None:
        priority, standing, order = turn
        mine = wanted.priority, foresight.standing(wanted.line), wanted.order
        if not after_all and (priority, standing, order) > mine:
            return
        foresight.give(standing[2])
        yield order[2]


@dataclass(slots=True, eq=False)
class _Row:
    """What is left of a lane, in order; a copy is made when something is taken from it."""

    lane: Lane
    taken: list[Order] | None = None

    @property
    def first(self) -> Order | None:
        left = self.lane.runs if self.taken is None else self.taken
        return left[0] if left else None

    def drop(self) -> None:
        if self.taken is None:
            self.taken = list(self.lane.runs)
        heapq.heappop(self.taken)


class _Foresight:
    """The lines as they will stand while runs are given out.

    `_turns` has for each line at least its valid entry (priority of its first run, how it stands); others are dropped
    when they are found.
    """

    def __init__(self, scene: Scene, without: str) -> None:
        self._scene = scene
        self._past = {without}  # given out, or the run itself; a lane may have an entry twice
        self._rooms = dict(scene.rooms)
        self._standings: dict[str, Standing] = {}
        self._times = count(NOW + 1)
        self._rows: dict[str, list[tuple[Order, int, _Row]]] = {}  # by line, ordered by the first run
        for number, lane in enumerate(scene.lanes):
            self._enter(_Row(lane), number, sort=False)
        for heads in self._rows.values():
            heapq.heapify(heads)
        self._turns = [(heads[0][0][0], self.standing(line)) for line, heads in self._rows.items() if heads]
        heapq.heapify(self._turns)

    def standing(self, line: str) -> Standing:
        """Return how a line stands now."""
        known = self._standings.get(line)
        if known is None:
            known = self._standings[line] = self._scene.standing(line)
        return known

    def next(self) -> tuple[int, Standing, Order] | None:
        """Return the next run that is given out, its priority, and how its line stands; None if there is none."""
        while self._turns:
            turn = self._turns[0]
            line = turn[1][2]
            head = self._head(line)
            if head is not None and turn == (head[0], self.standing(line)):
                return *turn, head
            heapq.heappop(self._turns)
            self._await(line)
        return None

    def give(self, line: str) -> None:
        """Give the first run of a line to a machine."""
        order, number, row = heapq.heappop(self._rows[line])
        self._past.add(order[2])
        group, session = row.lane.key[-1], self._scene.session_of(order[2])
        row.drop()
        self._enter(row, number)
        if group in self._rooms:
            self._rooms[group] -= 1
        under_way, _, _ = self.standing(session)
        self._standings[session] = under_way + 1, next(self._times), session
        if session != line:
            self._await(session)

    def _head(self, line: str) -> Order | None:
        """Return the first run of a line in a group that may begin one."""
        rows = self._rows.get(line, [])
        while rows and not self._rooms.get(rows[0][2].lane.key[-1], 1):
            heapq.heappop(rows)
        return rows[0][0] if rows else None

    def _await(self, line: str) -> None:
        head = self._head(line)
        if head is not None:
            heapq.heappush(self._turns, (head[0], self.standing(line)))

    def _enter(self, row: _Row, number: int, *, sort: bool = True) -> None:
        key, past = row.lane.key, self._past
        while (order := row.first) is not None:
            # the first run of a lane always waits
            if order[2] not in past and (row.taken is None or self._scene.waits(order, key)):
                heads = self._rows.setdefault(key[0], [])
                (heapq.heappush if sort else list.append)(heads, (order, number, row))
                return
            row.drop()
