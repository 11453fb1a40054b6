"""Times for people: how long ago, and how long to go."""

from __future__ import annotations

import re
import time

from pytest_dispatch.core.duration import format_duration, parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import dated

DAY = 86_400.0  # seconds
MINUTES = 120  # seconds from which on they are told in minutes
_DAYS = re.compile("([0-9]{1,5})d")


def age(seconds: float) -> str:
    """Return a time span in one or two units: `40s`, `3m`, `5h`, `12d`."""
    whole = max(0, int(seconds))
    if whole >= 2 * DAY:
        return f"{whole // int(DAY)}d"
    if whole >= MINUTES:  # seconds would only be in the way
        whole -= whole % 60
    return format_duration(whole)


def since(at: float, now: float | None = None) -> str:
    """Return how long ago a moment was; empty if it never was."""
    return age((time.time() if now is None else now) - at) if at else ""


def ago(at: float, now: float | None = None) -> str:
    """Return how long ago a moment was, in words."""
    return f"{since(at, now)} ago" if at else "never"


def moment(at: float) -> str:
    """Return the local date and time of a moment."""
    return dated(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def until(at: float, now: float | None = None) -> str:
    """Return how long something lasts that ends at a moment."""
    return f"for {_left(at, now)}"


def ahead(at: float, now: float | None = None) -> str:
    """Return how long it is until a moment, in words."""
    return f"in {_left(at, now)}"


def _left(at: float, now: float | None) -> str:
    """Return how long it is until a moment, to the nearest unit: what was set for 90 days is not shown as 89."""
    left = at - (time.time() if now is None else now)
    if left >= 2 * DAY - 30:
        return f"{round(left / DAY)}d"
    return age(left + 30 if left > MINUTES else left)


def read_span(text: str, option: str) -> float:
    """Read a time span, which may also be a number of days; returns seconds.

    Args:
        text: The time span.
        option: Where it stands.

    Raises:
        ConfigError: It is none.
    """
    if days := _DAYS.fullmatch(text.strip()):
        return float(days[1]) * DAY
    try:
        return parse_duration(text)
    except ConfigError:
        raise ConfigError(f"{option}: expected a duration such as 30m, 8h or 7d, got {text!r}") from None
