"""Durations in human notation: `30s`, `5m`, `1h`, `1h30m`, and a bare `0`."""

from __future__ import annotations

import math
import re

from pytest_dispatch.core.errors import ConfigError

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")
_UNITS = (3600.0, 60.0, 1.0)
_STEPS = ((10, 1), (60, 5), (120, 10), (600, 60), (3600, 300), (6 * 3600, 1800), (math.inf, 3600))  # below, in seconds


def parse_duration(text: str) -> float:
    """Read a duration.

    Args:
        text: Hours, minutes and seconds in this order, each at most once (`1h30m`, `0.5s`), or `0`.

    Returns:
        Seconds.

    Raises:
        ConfigError: The text is not a duration; the message says what was expected and what came.
    """
    given = text.strip()
    if given == "0":
        return 0.0
    match = _DURATION.fullmatch(given)
    if not given or match is None:
        raise ConfigError(f"expected a duration such as 30s, 5m or 1h, got {text!r}")
    parts = zip(match.groups(), _UNITS, strict=True)
    return sum(float(number) * unit for number, unit in parts if number)


def format_roughly(seconds: float) -> str:
    """Format a duration that is an estimate, as a person would say it: `25s`, `4m`, `30m`, `2h30m`.

    `parse_duration` can read the result.
    """
    step = next(step for below, step in _STEPS if seconds < below)
    return format_duration(step * round(seconds / step))


def format_duration(seconds: float) -> str:
    """Format a duration concisely; `parse_duration` can read the result.

    Tenths are kept below ten seconds. Below two minutes the result is in seconds unless it is a whole number of
    minutes. From one hour on, seconds are left out.
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if round(seconds, 1) < 10:
        return f"{round(seconds, 1):g}s"
    whole = round(seconds)
    if whole < 120 and whole % 60:
        return f"{whole}s"
    if whole >= 3600:
        whole = 60 * round(whole / 60)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
