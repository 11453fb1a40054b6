"""The console lines of machines, sorted into attempts: the last lines in memory, and those that go to the journal.

Console output is unbounded, and the journal is on a disk that all attempts share. So the journal gets the first lines
of each attempt as they come, and the last lines when the attempt ends. For a run's timeline, the last lines are enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LINES_BEFORE = 100  # lines kept from before a machine takes a workload
WIDEST = 1000  # most characters of a line; the rest is cut off
LINE = 64  # bytes counted for a line in addition to its text
FIRST = 2**20  # bytes of an attempt that go to the journal as they come: ten times the output of a Linux boot
LAST = 2**18  # bytes of an attempt's last lines that are kept in memory
TOGETHER = 2**26  # bytes of all attempts that are kept in memory

#: Marks where the journal leaves out lines.
LEFT_OUT = "… from here on, only the last lines of this attempt are kept"

#: A line as stored in the journal: run, attempt, time, and text.
Line = tuple[str, int, float, str]


@dataclass(slots=True)
class _Console:
    """The last lines of an attempt, and their size in bytes."""

    lines: deque[tuple[float, str]] = field(default_factory=deque)
    size: int = 0


@dataclass(slots=True)
class _Share:
    """How much of a running attempt's output is in the journal.

    Attributes:
        size: Bytes of the lines so far, until lines were left out.
        left_out: How many of the latest lines were left out.
    """

    size: int = 0
    left_out: int = 0


class ConsoleLines:
    """The console lines of machines, sorted into attempts.

    Lines that a machine shows before it takes a workload belong to the attempt that it then takes.

    Args:
        first: Bytes of an attempt that the journal gets as they come.
        last: Bytes of an attempt's last lines that are kept; the journal gets those lines when the attempt ends.
        together: Bytes of all attempts that are kept; the lines of the oldest attempt are dropped first.
    """

    def __init__(self, first: int = FIRST, last: int = LAST, together: int = TOGETHER) -> None:
        self._first = first
        self._last = last
        self._together = together
        self._size = 0
        self._before: dict[str, deque[tuple[float, str]]] = {}
        self._consoles: dict[tuple[str, int], _Console] = {}
        self._shares: dict[tuple[str, int], _Share] = {}

    def before(self, machine: str, at: float, text: str) -> None:
        """Keep a line of a machine that holds no run."""
        self._before.setdefault(machine, deque(maxlen=LINES_BEFORE)).append((at, text[:WIDEST]))

    def take(self, machine: str, run: str, attempt: int) -> list[Line]:
        """Assign to an attempt the lines that its machine showed before it, and return those for the journal."""
        lines = self._before.pop(machine, ())
        return [line for at, text in lines for line in self.add(run, attempt, at, text)]

    def add(self, run: str, attempt: int, at: float, text: str) -> list[Line]:
        """Add a line of an attempt, and return the lines to journal for it."""
        text = text[:WIDEST]
        size = self.recall(run, attempt, at, text)
        share = self._shares.get((run, attempt))
        if share is None:
            share = self._shares[run, attempt] = _Share()
        if not share.left_out:
            share.size += size
            if share.size <= self._first:
                return [(run, attempt, at, text)]
        share.left_out += 1
        return [(run, attempt, at, LEFT_OUT)] if share.left_out == 1 else []

    def end(self, run: str, attempt: int) -> list[Line]:
        """End an attempt, and return its last lines as far as the journal does not have them."""
        lines = self.unwritten(run, attempt)
        self._shares.pop((run, attempt), None)
        return lines

    def unwritten(self, run: str, attempt: int) -> list[Line]:
        """Return the last lines of an attempt that the journal gets when it ends."""
        share = self._shares.get((run, attempt))
        if share is None or not share.left_out:
            return []
        return [(run, attempt, at, text) for at, text in self.of(run, attempt)[-share.left_out :]]

    def end_all(self) -> list[Line]:
        """End all attempts that are not over, and return their last lines likewise."""
        return [line for run, attempt in list(self._shares) for line in self.end(run, attempt)]

    def recall(self, run: str, attempt: int, at: float, text: str) -> int:
        """Add a line that is journalled elsewhere or already, and return its size in bytes."""
        console = self._consoles.get((run, attempt))
        if console is None:
            console = self._consoles[run, attempt] = _Console()
        before, size = console.size, _size(text)
        console.lines.append((at, text))
        console.size += size
        while console.size > self._last:
            console.size -= _size(console.lines.popleft()[1])
        self._size += console.size - before
        while self._size > self._together and len(self._consoles) > 1:
            self._size -= self._consoles.pop(next(iter(self._consoles))).size
        return size

    def forget(self, runs: set[str]) -> None:
        """Drop the lines of these runs."""
        for key in [key for key in self._consoles if key[0] in runs]:
            self._size -= self._consoles.pop(key).size

    def of(self, run: str, attempt: int) -> list[tuple[float, str]]:
        """Return the last lines of an attempt, with their times."""
        console = self._consoles.get((run, attempt))
        return list(console.lines) if console else []


def _size(text: str) -> int:
    return LINE + (len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
