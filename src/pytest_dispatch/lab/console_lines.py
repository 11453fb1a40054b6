"""What machines showed on their consoles, sorted into attempts: the last lines here, and which the journal is to have.

What a workload shows has no end, and the journal is on a disk that all of them share. It gets the beginning of each
attempt as it comes, and the end once there is one; who has to tell a story needs only the end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LINES_BEFORE = 100  # console lines kept from before a machine takes a workload
WIDEST = 1000  # characters of a line
LINE = 64  # bytes that a line takes beside its text
FIRST = 2**20  # bytes of an attempt that go to the journal as they come: ten times what a Linux shows that boots
LAST = 2**18  # bytes of an attempt that are kept here: its last ones
TOGETHER = 2**26  # bytes of all attempts that are kept here

#: In the place of those lines that the journal does not get.
LEFT_OUT = "… from here on, only the last lines of this attempt are kept"

#: A line as the journal has it: run, attempt, time, and text.
Line = tuple[str, int, float, str]


@dataclass(slots=True)
class _Console:
    """The last lines of an attempt, and how many bytes they take."""

    lines: deque[tuple[float, str]] = field(default_factory=deque)
    size: int = 0


@dataclass(slots=True)
class _Share:
    """How much of an attempt that runs the journal has: so many bytes, without so many of its latest lines."""

    size: int = 0
    left_out: int = 0


class ConsoleLines:
    """The console lines of machines, sorted into attempts.

    What a machine shows before it takes a workload belongs to the attempt that it then takes.

    Args:
        first: Bytes of an attempt that the journal gets as they come.
        last: Bytes of an attempt that are kept, of its last lines; the journal gets those at the attempt's end.
        together: Bytes of all attempts that are kept; the oldest attempt's go first.
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
        """Keep a line of a machine that holds nothing."""
        self._before.setdefault(machine, deque(maxlen=LINES_BEFORE)).append((at, text[:WIDEST]))

    def take(self, machine: str, run: str, attempt: int) -> list[Line]:
        """Give an attempt the lines that its machine showed before; returns those for the journal."""
        lines = self._before.pop(machine, ())
        return [line for at, text in lines for line in self.add(run, attempt, at, text)]

    def add(self, run: str, attempt: int, at: float, text: str) -> list[Line]:
        """Add a line shown during an attempt; returns what the journal is to have for it."""
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
        """End an attempt; returns its last lines, if the journal does not have them."""
        share = self._shares.pop((run, attempt), None)
        if share is None or not share.left_out:
            return []
        return [(run, attempt, at, text) for at, text in self.of(run, attempt)[-share.left_out :]]

    def end_all(self) -> list[Line]:
        """End all attempts that are not over; returns likewise of them."""
        return [line for run, attempt in list(self._shares) for line in self.end(run, attempt)]

    def recall(self, run: str, attempt: int, at: float, text: str) -> int:
        """Add a line that the journal has already, or is given elsewhere; returns how many bytes it takes."""
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
