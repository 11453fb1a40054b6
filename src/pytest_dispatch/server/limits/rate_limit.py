"""How fast everybody asks: a token bucket for each caller."""

from __future__ import annotations

from collections import OrderedDict


class Rates:
    """Says how long a caller's next request is to be held back.

    Theory of operation: for each caller one time is kept, that at which its bucket will be full again (the generic cell
    rate algorithm). A caller whose bucket is full is forgotten, so that only those take room who are asking right now.

    Args:
        rate: Requests that a caller may make in a second, in the long run.
        burst: Requests that it may make at once.
        patience: Seconds that one is held back at most.
    """

    def __init__(self, rate: float, burst: int, patience: float) -> None:
        self._each = 1 / rate
        self._ahead = burst / rate
        self._patience = patience
        self._full: OrderedDict[str, float] = OrderedDict()  # who asked last comes last

    def __len__(self) -> int:
        return len(self._full)

    def hold(self, caller: str, now: float) -> float | None:
        """Seconds to wait before this request is answered; None if it is to be refused, and then it does not count."""
        self._forget(now)
        full = max(self._full.get(caller, now), now) + self._each
        wait = full - self._ahead - now
        if wait > self._patience:
            return None
        self._full[caller] = full
        self._full.move_to_end(caller)
        return max(0.0, wait)

    def _forget(self, now: float) -> None:
        """Drop those at the front whose bucket is full: two at most for each request, so that nobody waits for it."""
        for _ in range(2):
            caller = next(iter(self._full), None)
            if caller is None or self._full[caller] > now:
                return
            del self._full[caller]
