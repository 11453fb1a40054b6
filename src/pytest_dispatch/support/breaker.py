"""A breaker: while a service is away, nobody asks it, and each failure makes the pause longer."""

from __future__ import annotations

from collections.abc import Callable

LONGEST = 60.0  # longest pause after failures that name none, in seconds


class Breaker:
    """Says whether a service is asked now. It opens with a failure, and the next request after the pause tries again.

    Args:
        now: Returns the time.

    Attributes:
        until: Until when nobody asks.
        why: Why that is so; empty while nothing is wrong.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures = 0
        self._named = False  # the service itself has said how long it is to be left alone
        self.until = 0.0
        self.why = ""

    @property
    def lets_through(self) -> bool:
        """Return whether requests are sent now."""
        return self._now() >= self.until

    @property
    def left(self) -> float:
        """Return the seconds until requests are sent again."""
        return max(0.0, self.until - self._now())

    def worked(self) -> None:
        """Note an answer."""
        self._failures, self.why = 0, ""

    def failed(self, why: str, pause: float | None = None) -> None:
        """Note a failure; without a pause of its own, it is twice the one before, from a second on."""
        self._failures += 1
        self._named = pause is not None
        self.until, self.why = self._now() + (pause or min(LONGEST, 2.0 ** (self._failures - 1))), why

    def asked_to_wait(self, why: str, pause: float) -> None:
        """Note that the service works, and wants to be asked again only after a pause."""
        self._failures, self._named = 0, True
        self.until, self.why = self._now() + pause, why

    def try_now(self) -> None:
        """Let the next request through at once after a failure; a pause that the service itself has named stays."""
        if not self._named:
            self.until = min(self.until, self._now())
