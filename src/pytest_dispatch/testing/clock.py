"""The time of a double: that of this computer, or one that a test moves on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """Tells the time, and calls back when it has been moved."""

    def now(self) -> float:
        """Return the time in seconds since 1970."""

    def until(self, at: float, /) -> float | None:
        """Return the real seconds until a time; None if only a test can bring it about."""

    def listen(self, moved: Callable[[], None]) -> None:
        """Call this whenever a test has moved the clock."""


class WallClock:
    """The time of this computer."""

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time()

    def until(self, at: float, /) -> float | None:
        """Return the real seconds until a time."""
        return max(0.0, at - self.now())

    def listen(self, moved: Callable[[], None]) -> None:
        """Do nothing: nobody moves this clock."""


class ScriptedClock:
    """A clock that stands still until a test moves it on.

    Args:
        start: Where it begins, in seconds since 1970; now by default.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Return the time in seconds since 1970."""
        return self._now

    def until(self, _at: float, /) -> float | None:
        """Return None: no real time has to pass."""
        return None

    def listen(self, moved: Callable[[], None]) -> None:
        """Call this whenever a test has moved the clock."""
        self._listeners.append(moved)

    def advance(self, seconds: float) -> None:
        """Move the clock on; all that was due by then has happened when this returns."""
        self._now += seconds
        for moved in self._listeners:
            moved()
