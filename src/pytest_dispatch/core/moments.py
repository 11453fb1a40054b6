"""Moments in time: which the lab takes from people, and as dates. Others may have been kept by an earlier version."""

from __future__ import annotations

from datetime import UTC, datetime

DAY = 86_400.0  # seconds
LATEST = 253_370_764_800.0  # the first of January 9999; it is a date in all time zones
LONGEST = 36_500 * DAY  # seconds that something may last which people say how long it lasts: a hundred years


def dated(at: float) -> datetime:
    """Return the date of a moment in UTC, for any number; what is out of range becomes the first or last one.

    Args:
        at: Seconds since 1970.
    """
    return datetime.fromtimestamp(at if 0 <= at <= LATEST else LATEST if at > LATEST else 0.0, UTC)


def check_lasts(name: str, seconds: float) -> None:
    """Check how long something is to last.

    Args:
        name: What the value is called.
        seconds: The value.

    Raises:
        ValueError: It is not above 0, or longer than a hundred years.
    """
    if not 0 < seconds <= LONGEST:
        raise ValueError(
            f"{name}: expected a number of seconds above 0 and at most {LONGEST:.0f} (100 years), got {seconds:g}"
        )


def check_until(name: str, at: float) -> None:
    """Check a moment until which something is to last.

    Raises:
        ValueError: It is after the year 9998.
    """
    if not at <= LATEST:
        raise ValueError(f"{name}: expected seconds since 1970, before the year 9999 ({LATEST:.0f}), got {at:g}")
