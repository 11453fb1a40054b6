"""The order in which the runs of a group wait, kept as they come and go, so that nobody who looks has to sort them.

Runs of one line and one priority form a `Row`, sorted by place. At each priority the row `FRONT` goes first, then lines
take turns as the `ReadyQueue` has them: the session with the fewest runs under way, then the one that has waited
longest. While each line has its own session's runs only, that is a matter of counting: a line with `n` runs under way
gives its first run at level `n`, the next one at level `n + 1`, and at each level those come first that have entered
latest. So a page deep in the queue, and the place of a run, cost as much as there are lines. Where a person has put a
run into another session's line, turns are played one after the other.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

from pytest_dispatch.core.model import Run
from pytest_dispatch.core.ready_queue import FRONT, Standing

Key = tuple[float, str]  # place, and the run's id
StandingOf = Callable[[str], Standing]

TRIM = 64  # removed keys at the beginning of a row before it is trimmed


class _Stand(NamedTuple):
    """Where a run stands: its priority, its line, its key in that row, and the session for which it counts."""

    priority: int
    line: str
    key: Key
    session: str


class Row:
    """Runs of one line and one priority in their order; the first one is removed at once, however many there are."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._gone = 0  # removed keys at the beginning

    def __len__(self) -> int:
        return len(self._keys) - self._gone

    def __getitem__(self, place: int) -> Key:
        return self._keys[self._gone + place]

    def after(self, first: int) -> Iterator[str]:
        """Yield the runs after the `first` ones."""
        return (run for _, run in islice(self._keys, self._gone + first, None))

    def index(self, key: Key) -> int:
        """Return the number of runs before a key."""
        return bisect_left(self._keys, key, self._gone) - self._gone

    def add(self, key: Key) -> None:
        """Add a run."""
        insort(self._keys, key, self._gone)

    def remove(self, key: Key) -> None:
        """Remove a run."""
        at = bisect_left(self._keys, key, self._gone)
        if at > self._gone:
            del self._keys[at]
            return
        self._gone += 1
        if 2 * self._gone >= len(self._keys) and self._gone >= TRIM:
            del self._keys[: self._gone]
            self._gone = 0


class GroupOrder:
    """The runs that wait in one group. Iterating yields their ids as they came.

    Attributes:
        version: Grows whenever a run comes, goes, or is put elsewhere.
    """

    def __init__(self) -> None:
        self.version = 0
        self._stands: dict[str, _Stand] = {}
        self._rows: dict[int, dict[str, Row]] = {}  # by priority and line
        self._strangers: Counter[int] = Counter()  # runs in another session's line, by priority

    def __len__(self) -> int:
        return len(self._stands)

    def __contains__(self, run: object) -> bool:
        return run in self._stands

    def __iter__(self) -> Iterator[str]:
        return iter(self._stands)

    def put(self, run: Run) -> None:
        """Add a run that waits, or note where it stands now."""
        stand = _Stand(int(run.priority), run.line, (run.number, run.id), run.session)
        if self._stands.get(run.id) == stand:
            return
        self.discard(run.id)
        self.version += 1
        self._stands[run.id] = stand
        self._rows.setdefault(stand.priority, {}).setdefault(stand.line, Row()).add(stand.key)
        self._strangers[stand.priority] += stand.line not in (FRONT, stand.session)

    def discard(self, run: str) -> None:
        """Remove a run, if it is here."""
        stand = self._stands.pop(run, None)
        if stand is None:
            return
        self.version += 1
        lines = self._rows[stand.priority]
        lines[stand.line].remove(stand.key)
        self._strangers[stand.priority] -= stand.line not in (FRONT, stand.session)
        if not lines[stand.line]:
            del lines[stand.line]
        if not lines:
            del self._rows[stand.priority]

    def row(self, priority: int, line: str) -> Row:
        """Return the runs of a line with a priority, in their order."""
        return self._rows.get(priority, {}).get(line) or Row()

    def after(self, first: int, standing: StandingOf) -> Iterator[str]:
        """Yield the runs after the `first` ones, in the order in which a machine that suits all would get them.

        Args:
            first: How many to leave out.
            standing: Returns how a line stands in the fair order now.
        """
        for turns in self._turns(standing):
            if first < len(turns):
                yield from turns.after(first)
            first = max(0, first - len(turns))

    def place(self, run: str, standing: StandingOf) -> int:
        """Return the place of a run, from 1; 0 if it does not wait here."""
        stand = self._stands.get(run)
        if stand is None:
            return 0
        before = 0
        for turns in self._turns(standing):
            if (place := turns.index(stand)) >= 0:
                return before + place + 1
            before += len(turns)
        return 0

    def _turns(self, standing: StandingOf) -> Iterator[_Turns]:
        """Yield what waits at each priority, first the row in front of all lines, then the lines that take turns."""
        lines = {line for rows in self._rows.values() for line in rows if line != FRONT}
        shares = _Shares({line: standing(line)[:2] for line in lines})
        for priority in sorted(self._rows):
            rows = dict(self._rows[priority])
            front = rows.pop(FRONT, None)
            each: list[_Turns] = [] if front is None else [_Front(priority, front, shares, self._session)]
            if rows:
                played = self._strangers[priority] > 0
                each.append(
                    _Played(priority, rows, shares, self._session) if played else _Levels(priority, rows, shares)
                )
            for turns in each:
                turns.begin()
                yield turns
                turns.finish()

    def _session(self, run: str) -> str:
        return self._stands[run].session


class _Shares:
    """How lines stand: how many runs of each are under way, and since when it has waited."""

    def __init__(self, known: dict[str, tuple[int, int]]) -> None:
        self.known = known
        self._time = max((since for _, since in known.values()), default=0)

    def gives(self, session: str, runs: int = 1) -> None:
        """Note that a session has got runs."""
        self._time += 1
        if session in self.known:
            self.known[session] = self.known[session][0] + runs, self._time

    def standing(self, line: str) -> Standing:
        """Return how a line stands in the fair order."""
        return (*self.known[line], line)


class _Turns(Protocol):
    """Runs that are given out one after the other, before those of the next one."""

    def __len__(self) -> int: ...

    def begin(self) -> None:
        """Begin from how lines stand now."""

    def after(self, first: int) -> Iterator[str]:
        """Yield the runs after the `first` ones."""
        ...

    def index(self, stand: _Stand) -> int:
        """Return the number of runs before one that stands there; -1 if it is not among them."""
        ...

    def finish(self) -> None:
        """Note how lines stand once all are given out."""


class _Front:
    """The runs before those of all sessions."""

    def __init__(self, priority: int, row: Row, shares: _Shares, session_of: Callable[[str], str]) -> None:
        self._priority = priority
        self._row = row
        self._shares = shares
        self._session_of = session_of

    def __len__(self) -> int:
        return len(self._row)

    def begin(self) -> None:
        """Need nothing."""

    def after(self, first: int) -> Iterator[str]:
        """Yield the runs after the `first` ones."""
        return self._row.after(first)

    def index(self, stand: _Stand) -> int:
        """Return the number of runs before one that stands there; -1 if it is not among them."""
        return self._row.index(stand.key) if (stand.priority, stand.line) == (self._priority, FRONT) else -1

    def finish(self) -> None:
        """Count each run for its session."""
        for run in self._row.after(0):
            self._shares.gives(self._session_of(run))


class _Levels:
    """Lines each of which has its own session's runs only."""

    def __init__(self, priority: int, rows: Mapping[str, Row], shares: _Shares) -> None:
        self._priority = priority
        self._rows = rows
        self._shares = shares
        self._lines: list[tuple[int, int, str, Row]] = []  # level at which it enters, level of its end

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def begin(self) -> None:
        """Put the lines into their order within a level: those that have entered latest, then by their standing."""
        standings = [(self._shares.standing(line), row) for line, row in self._rows.items()]
        standings.sort(key=lambda each: (-each[0][0], *each[0][1:]))
        self._lines = [(level, level + len(row), line, row) for (level, _, line), row in standings]

    def after(self, first: int) -> Iterator[str]:
        """Yield the runs after the `first` ones."""
        lowest, lines = self._level_of(first), self._lines
        skipped = first - self._before(lowest)
        for level in range(lowest, max(end for _, end, _, _ in lines)):
            lines = [each for each in lines if each[1] > level]
            at_level = [row[level - begin][1] for begin, _, _, row in lines if begin <= level]
            yield from at_level[skipped:]
            skipped = 0

    def _level_of(self, first: int) -> int:
        """Return the level at which the run with `first` others before it is given out."""
        low, high = min(begin for begin, _, _, _ in self._lines), max(end for _, end, _, _ in self._lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._before(middle) <= first else (low, middle)
        return low

    def _before(self, level: int) -> int:
        """Return the number of runs that are given out before a level."""
        return sum(min(end, level) - begin for begin, end, _, _ in self._lines if begin < level)

    def index(self, stand: _Stand) -> int:
        """Return the number of runs before one that stands there; -1 if it is not among them."""
        if stand.priority != self._priority or stand.line == FRONT:
            return -1
        entered, _, _, row = next(each for each in self._lines if each[2] == stand.line)
        level, before = entered + row.index(stand.key), 0
        for begin, end, line, _ in self._lines:
            if line == stand.line:
                break
            before += begin <= level < end
        return self._before(level) + before

    def finish(self) -> None:
        """Note that each line has given all it has, in the order of their last runs."""
        for _, _, line, row in sorted(self._lines, key=lambda each: each[1]):  # stable: within a level as they are
            self._shares.gives(line, len(row))


class _Played:
    """Lines some of which have other sessions' runs: turns are played one after the other."""

    def __init__(
        self, priority: int, rows: Mapping[str, Row], shares: _Shares, session_of: Callable[[str], str]
    ) -> None:
        self._priority = priority
        self._rows = rows
        self._shares = shares
        self._session_of = session_of
        self._runs: Iterator[str] = iter(())
        self._given: list[str] = []

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def begin(self) -> None:
        """Begin from how lines stand now."""
        self._runs = self._played()

    def after(self, first: int) -> Iterator[str]:
        """Yield the runs after the `first` ones."""
        while len(self._given) < first:
            self._next()
        yield from self._given[first:]
        while (run := self._next()) is not None:
            yield run

    def index(self, stand: _Stand) -> int:
        """Return the number of runs before one that stands there; -1 if it is not among them."""
        if stand.priority != self._priority or stand.line == FRONT:
            return -1
        return next(place for place, run in enumerate(self.after(0)) if run == stand.key[1])

    def finish(self) -> None:
        """Play to the end."""
        while self._next() is not None:
            pass

    def _next(self) -> str | None:
        run = next(self._runs, None)
        if run is not None:
            self._given.append(run)
        return run

    def _played(self) -> Iterator[str]:
        """Yield the runs as `ReadyQueue.first` would."""
        done = Counter[str]()
        heap = [self._shares.standing(line) for line in self._rows]
        heapq.heapify(heap)
        while heap:
            standing = heapq.heappop(heap)
            line = standing[2]
            if standing != self._shares.standing(line) or done[line] == len(self._rows[line]):
                continue
            run = self._rows[line][done[line]][1]
            done[line] += 1
            counted = self._session_of(run)
            self._shares.gives(counted)
            yield run
            for again in {line, counted} & self._rows.keys():
                heapq.heappush(heap, self._shares.standing(again))
