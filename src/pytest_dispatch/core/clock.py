"""Time, in one place: epoch seconds that never jump.

The rest of the project takes a `Clock` or a plain `now`, so that tests move time instead of sleeping, and a
stepped system clock (NTP, a changed date) neither fires nor postpones a deadline.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time in epoch seconds and never goes backwards."""

    def now(self) -> float:
        """Epoch seconds."""
        ...


class SteadyClock:
    """The system's date when created, moved on by the monotonic clock alone."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Epoch seconds."""
        return self._offset + time.monotonic()
