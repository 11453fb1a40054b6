"""What machines showed on their consoles, sorted into attempts."""

from __future__ import annotations

from collections import deque

LINES_BEFORE = 100  # console lines kept from before a machine takes a workload


class Tail:
    """The console lines of machines, sorted into attempts.

    What a machine shows before it takes a workload belongs to the attempt that it then takes.

    Args:
        kept: How many lines of an attempt, the last ones.
        most: How many of all attempts together; the oldest attempt's go first. The journal has them all.
    """

    def __init__(self, kept: int = 2000, most: int = 200_000) -> None:
        self._kept = kept
        self._most = most
        self._total = 0
        self._before: dict[str, deque[tuple[float, str]]] = {}
        self._lines: dict[tuple[str, int], deque[tuple[float, str]]] = {}

    def before(self, machine: str, at: float, text: str) -> None:
        """A line of a machine that holds nothing."""
        self._before.setdefault(machine, deque(maxlen=LINES_BEFORE)).append((at, text))

    def take(self, machine: str, run: str, attempt: int) -> list[tuple[float, str]]:
        """The machine takes an attempt: its lines so far are that attempt's; returns them."""
        lines = list(self._before.pop(machine, ()))
        for at, text in lines:
            self.add(run, attempt, at, text)
        return lines

    def add(self, run: str, attempt: int, at: float, text: str) -> None:
        """A line shown during an attempt."""
        lines = self._lines.setdefault((run, attempt), deque(maxlen=self._kept))
        self._total += len(lines) < self._kept
        lines.append((at, text))
        while self._total > self._most and len(self._lines) > 1:
            self._total -= len(self._lines.pop(next(iter(self._lines))))

    def of(self, run: str, attempt: int) -> list[tuple[float, str]]:
        """The lines of an attempt, with their times."""
        return list(self._lines.get((run, attempt), ()))
