"""A clock that can stand still: while a lab can hear nobody, nobody's time runs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock


class PausableClock:
    """Another clock's time, without the times for which it stood still.

    Args:
        clock: The other clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost = 0.0
        self._stands: float | None = None  # the other clock's time since when

    def now(self) -> float:
        """Return the current time in epoch seconds."""
        return (self._clock.now() if self._stands is None else self._stands) - self._lost

    def stand(self) -> None:
        """Stand still from now on."""
        if self._stands is None:
            self._stands = self._clock.now()

    def go_on(self) -> float:
        """Go on, and return for how long it stood still."""
        stood = 0.0 if self._stands is None else self._clock.now() - self._stands
        self._stands = None
        self._lost += stood
        return stood
