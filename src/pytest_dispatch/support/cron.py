"""Times of day in the five fields of cron, read by cronsim."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

FIELDS = 5
_EXPECTED = "expected the five fields of cron (minute, hour, day, month, weekday) such as '0 2 * * 1-5'"


def check_cron(text: str) -> None:
    """Refuse what is no schedule.

    Raises:
        ValueError: It is none; the message says in one line what was expected.
    """
    from cronsim import CronSim, CronSimError  # of the extra `serve`: labs without a file have no cycles

    if (fields := len(text.split())) != FIELDS:  # cronsim takes a sixth for seconds
        raise ValueError(f"{_EXPECTED}, got {text!r}, which has {fields}")
    try:
        next(CronSim(text, datetime(2000, 1, 1)))  # noqa: DTZ001 - only whether it can be read is asked
    except CronSimError as error:
        raise ValueError(f"{_EXPECTED}, got {text!r}: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError(f"expected times that come, got {text!r}, which never does") from None


def next_time(text: str, zone: str, after: float) -> float:
    """Return the first time after another one, both in seconds since 1970.

    Args:
        text: The five fields.
        zone: A time zone such as Europe/Berlin.
        after: The other time.
    """
    from cronsim import CronSim

    return next(CronSim(text, datetime.fromtimestamp(after, ZoneInfo(zone)))).timestamp()
