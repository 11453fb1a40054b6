"""The clock: epoch seconds that never jump.

The rest of the project takes a `Clock` or a plain `now`, so that tests advance time instead of sleeping. A system clock
that is stepped (NTP, a changed date) neither triggers nor delays a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A source of time in epoch seconds that never goes backwards."""

    def now(self) -> float:
        """Return the current time in epoch seconds."""
        ...


class SteadyClock:
    """A clock that starts at the system's date and then advances with the monotonic clock.

    The monotonic clock stands still while the computer is suspended (Linux, macOS). No message from a machine can
    arrive during that time, so it does not count as silence.

    Args:
        date: Returns epoch seconds; may jump.
        steady: Returns seconds since an arbitrary point; never jumps.
    """

    def __init__(self, date: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._offset = date() - steady()

    def now(self) -> float:
        """Return the current time in epoch seconds."""
        return self._offset + self._steady()
