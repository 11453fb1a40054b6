"""The waiting line: runs that any machine may take, by position, found without looking at the others."""

from __future__ import annotations

import heapq


class Line:
    """Gives each machine the first run that suits it.

    A run that is tried again is better not given to the machine that it was on. So there is one heap for each machine
    that is to be avoided (and one for runs that suit anybody), and a heap of those heaps' first runs. What has left
    the line is dropped from the heaps when it comes to their top.
    """

    def __init__(self) -> None:
        self._avoids: dict[str, str] = {}  # run id -> the machine to avoid, of every run in the line
        self._heaps: dict[str, list[tuple[int, str]]] = {}
        self._firsts: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._avoids)

    def put(self, position: int, run_id: str, avoid: str = "") -> None:
        """Let the run wait for any machine but `avoid`."""
        self._avoids[run_id] = avoid
        heapq.heappush(self._heaps.setdefault(avoid, []), (position, run_id))
        if self._first(avoid) == (position, run_id):
            self._publish(avoid)

    def take(self, machine: str) -> str | None:
        """The first run that does not avoid this machine; it leaves the line."""
        mine, found = None, None
        while self._firsts and found is None:
            position, run_id, avoid = first = heapq.heappop(self._firsts)
            if self._first(avoid) != (position, run_id):
                continue
            if avoid == machine:
                mine = first
            else:
                found = run_id
        if mine is not None:
            heapq.heappush(self._firsts, mine)
        return self._leave(found)

    def take_avoiding(self, machine: str) -> str | None:
        """The first run that does avoid this machine: there is no other one."""
        first = self._first(machine)
        return self._leave(first[1] if first else None)

    def discard(self, run_id: str) -> None:
        """Nobody waits for this run any more."""
        if run_id in self._avoids:
            self._leave(run_id)

    def _leave(self, run_id: str | None) -> str | None:
        if run_id is not None:
            avoid = self._avoids[run_id]
            first = self._first(avoid)
            del self._avoids[run_id]
            if first is not None and first[1] == run_id:
                self._publish(avoid)
        return run_id

    def _publish(self, avoid: str) -> None:
        first = self._first(avoid)
        if first is not None:
            heapq.heappush(self._firsts, (*first, avoid))

    def _first(self, avoid: str) -> tuple[int, str] | None:
        heap = self._heaps.get(avoid, [])
        while heap and self._avoids.get(heap[0][1]) != avoid:
            heapq.heappop(heap)
        if not heap:
            self._heaps.pop(avoid, None)
        return heap[0] if heap else None
