"""Time, in one place: epoch seconds that never jump.

The rest of the project takes a `Clock` or a plain `now`, so that tests move time instead of sleeping, and a
stepped system clock (NTP, a changed date) neither fires nor postpones a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time in epoch seconds and never goes backwards."""

    def now(self) -> float:
        """Epoch seconds."""
        ...


class SteadyClock:
    """The system's date when created, moved on by the monotonic clock alone.

    That one stands still while the computer is suspended (Linux, macOS): nothing that machines said meanwhile could be
    heard, so that time is none in which they were silent.

    Args:
        date: Tells epoch seconds, and may jump.
        steady: Tells seconds since whenever, and does not.
    """

    def __init__(self, date: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._offset = date() - steady()

    def now(self) -> float:
        """Epoch seconds."""
        return self._offset + self._steady()
