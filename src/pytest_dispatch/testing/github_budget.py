"""The rate limits of a `FakeGitHub`: the hourly one, and the secondary one of points per minute.

See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pytest_dispatch.testing.github_routes import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

HOUR = 3600.0
_MINUTE = 60.0
_WRITE_POINTS = 5
_FREE = "/rate_limit"


class Budget:
    """What a token may still ask for.

    Attributes:
        limit: Requests per hour that GitHub answers for a token.
        enforced: Whether more than that are refused; if not, they are only counted.
        status: The status of refusals; GitHub uses 403 and 429.
        points: Points per minute (1 for a request that reads, 5 for one that writes); None for no secondary limit.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.limit = 5000
        self.enforced = False
        self.status = 403
        self.points: int | None = None
        self._now = now
        self._used = 0
        self._began = now()
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def used(self) -> int:
        """Return how many requests have counted since the hour began."""
        if self._now() >= self._began + HOUR:
            self._began, self._used = self._now(), 0
        return self._used

    @property
    def remaining(self) -> int:
        """Return how many requests are left; at least one where the limit is not enforced."""
        return max(self.limit - self.used, 0 if self.enforced else 1)

    @property
    def reset(self) -> int:
        """Return when the next hour begins, in whole seconds since 1970."""
        self.used  # noqa: B018 - begins the next hour if it is time
        return int(self._began + HOUR) + 1

    def refused(self, method: str, path: str) -> web.Response | None:
        """Return the refusal of a request that exceeds a limit; None for one that does not."""
        if path == _FREE:
            return None
        if self.enforced and not self.remaining:
            return refusal(self.status, "API rate limit exceeded for user ID 1.")
        return self._too_fast(method)

    def spend(self, path: str) -> None:
        """Count a request that was answered with more than "not modified"."""
        if path != _FREE and (self.used < self.limit or not self.enforced):
            self._used += 1

    def headers(self) -> dict[str, str]:
        """Return the headers that each answer has."""
        left = self.remaining
        told = {"Limit": self.limit, "Remaining": left, "Used": self.limit - left, "Resource": "core"}
        return {f"X-RateLimit-{name}": str(value) for name, value in {**told, "Reset": self.reset}.items()}

    def _too_fast(self, method: str) -> web.Response | None:
        now, cost = self._now(), 1 if method in ("GET", "HEAD", "OPTIONS") else _WRITE_POINTS
        while self._recent and self._recent[0][0] <= now - _MINUTE:
            self._recent.popleft()
        if self.points is not None and sum(each for _, each in self._recent) + cost > self.points:
            message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            response = refusal(self.status, message)
            oldest = self._recent[0][0] if self._recent else now
            response.headers["Retry-After"] = f"{oldest + _MINUTE - now + 1:.0f}"
            return response
        self._recent.append((now, cost))
        return None
