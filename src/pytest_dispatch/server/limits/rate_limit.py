"""Rate limit: a token bucket for each caller."""

from __future__ import annotations

from collections import OrderedDict


class RateLimiter:
    """Computes how long to delay a caller's next request.

    Theory of operation: one time is stored for each caller, at which its bucket will be full again (the generic cell
    rate algorithm). Callers with a full bucket are removed, so that only active callers use memory.

    Args:
        rate: Maximum number of a caller's requests per second, in the long run.
        burst: Maximum number of a caller's requests in a burst.
        patience: Maximum delay of a request, in seconds.
    """

    def __init__(self, rate: float, burst: int, patience: float) -> None:
        self._each = 1 / rate
        self._ahead = burst / rate
        self._patience = patience
        self._full: OrderedDict[str, float] = OrderedDict()  # in order of the callers' last requests

    def __len__(self) -> int:
        return len(self._full)

    def hold(self, caller: str, now: float) -> float | None:
        """Return the seconds to delay this request; None to refuse it, and then it does not count."""
        self._forget(now)
        full = max(self._full.get(caller, now), now) + self._each
        wait = full - self._ahead - now
        if wait > self._patience:
            return None
        self._full[caller] = full
        self._full.move_to_end(caller)
        return max(0.0, wait)

    def _forget(self, now: float) -> None:
        """Remove callers with a full bucket from the front, at most two per request, so that each call is fast."""
        for _ in range(2):
            caller = next(iter(self._full), None)
            if caller is None or self._full[caller] > now:
                return
            del self._full[caller]
