"""GitHub's rate limits: how long to wait when one is used up, and what is left of the hourly one.

See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDARY_WAIT = 60.0  # seconds; GitHub's advice for a secondary limit without a given time
WINDOW = 3600.0  # seconds in which GitHub counts requests
RESERVE = 0.1  # share of the hourly limit that is left to what must be asked, when nobody waits for an answer

#: GitHub's texts for an exceeded rate limit; the last one is from older servers.
_LIMITED = ("rate limit", "submitted too quickly", "blocked from content creation", "abuse detection")

_LONGEST_WAIT = 7 * 86400.0  # seconds; longer waits asked for by a server are cut to this


class HourlyLimit:
    """What is left of the requests that GitHub answers in an hour, as it says with each answer.

    Attributes:
        remaining: How many it still answers until it counts anew; None if it has not said so.
        limit: How many it answers in an hour; 0 if it has not said so.
        resets: When it counts anew, by our clock.
        ahead: By how many seconds GitHub's clock is ahead of ours.
    """

    def __init__(self) -> None:
        self.remaining: int | None = None
        self.limit = 0
        self.resets = 0.0
        self.ahead = 0.0

    def count(self, headers: Mapping[str, str], now: float) -> None:
        """Read what an answer says of it."""
        told = [headers.get(f"x-ratelimit-{name}", "") for name in ("remaining", "limit", "reset")]
        server_time = _server_time(headers)
        if server_time is not None:
            self.ahead = server_time - now
        if all(each.isdecimal() for each in told):
            self.remaining, self.limit, self.resets = int(told[0]), int(told[1]), float(told[2]) - self.ahead

    def spare(self, now: float) -> int | None:
        """Return how many looks may still be had before the part begins that is reserved; None if nobody knows."""
        if self.remaining is None or now >= self.resets:
            return None
        return max(0, self.remaining - int(self.limit * RESERVE))

    def lasts(self, now: float) -> float | None:
        """Return the seconds that the rest lasts at the rate of this hour so far.

        It is infinite if GitHub counts anew before that; None if nobody knows.
        """
        if self.remaining is None or not self.limit or now >= self.resets:
            return None
        used, passed = self.limit - self.remaining, WINDOW - (self.resets - now)
        if used <= 0 or passed <= 0:
            return math.inf
        left = self.remaining * passed / used
        return left if left < self.resets - now else math.inf

    def interval(self, usual: float, now: float) -> float:
        """Return the seconds between two looks: longer than usual as the limit is used up."""
        spare, left = self.spare(now), max(0.0, self.resets - now)
        if spare is None or not self.limit or spare >= self.limit / 2:
            return usual
        return max(usual, min(left, left / spare * 2 if spare else left))


def limit_wait(status: int, headers: Mapping[str, str], message: str = "") -> float | None:
    """Return the seconds until GitHub may be asked again, or `None` if the answer is not about a limit.

    An exceeded limit is answered with 403 or 429, and with `retry-after`, or with `x-ratelimit-remaining: 0` and the
    time of the reset, or only with a text. Content created too fast may also be answered with 422 and a text.
    """
    limited = status == 429 or any(words in message.lower() for words in _LIMITED)
    if status < 500 and not (status in (403, 429) or (status == 422 and limited)):
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return min(float(after), _LONGEST_WAIT)
    if status >= 500:
        return None
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        server_time = _server_time(headers)
        now = datetime.now(UTC).timestamp() if server_time is None else server_time
        # One second more, because the reset time is given in whole seconds.
        return min(max(0.0, float(reset) - now) + 1.0, _LONGEST_WAIT)
    return SECONDARY_WAIT if limited else None


def limit_text(host: str, wait: float, *, has_token: bool) -> str:
    """Return what to tell of a limit that is used up for so many seconds."""
    until = (datetime.now(UTC) + timedelta(seconds=wait)).astimezone()
    text = f"the rate limit of {host} is used up until {until:%H:%M:%S %Z} (for {format_duration(wait)})"
    return text if has_token else f"{text}; a token has a limit of its own, which is far higher"


def _server_time(headers: Mapping[str, str]) -> float | None:
    """Return epoch seconds by the server's clock, which its limits depend on; None if it does not say."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):  # also a year or zone of twenty digits
        return None
