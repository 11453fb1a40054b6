"""When the health of a machine is checked: at slots that differ from machine to machine, so that few go at once."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from pytest_dispatch.core.errors import ConfigError

DAY = 86_400.0  # seconds
NIGHT = 3600.0  # seconds over which checks at a time of day are spread
_ALL = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOfDay:
    """When checks begin that have a time of day; `zone` is a time zone such as Europe/Berlin."""

    hour: int
    minute: int
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPlan:
    """How the machines of a group are checked.

    Attributes:
        template: Id of the template that is run.
        every: Seconds between two checks of a machine.
        begin: The time of day from which on they begin, within an hour; None for any time.
    """

    template: str
    every: float = DAY
    begin: TimeOfDay | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: They cannot be used together.
        """
        if not self.every > 0:
            raise ConfigError(f"health.every: expected a duration, got {self.every:g} s")
        if self.begin is not None and self.every % DAY:
            raise ConfigError("health.every: expected whole days, such as 24h, because of `at`; leave one of them out")


def next_slot(plan: HealthPlan, machine: str, after: float) -> float:
    """Return the first slot of a machine later than a time, both in epoch seconds."""
    share = zlib.crc32(machine.encode()) / _ALL
    if plan.begin is None:
        phase = share * plan.every
        return phase + (math.floor((after - phase) / plan.every) + 1) * plan.every
    from zoneinfo import ZoneInfo  # most labs have no times of day

    days, zone = round(plan.every / DAY), ZoneInfo(plan.begin.zone)
    day, at = datetime.fromtimestamp(after, zone).date(), time(plan.begin.hour, plan.begin.minute)
    while True:
        begin = datetime.combine(day, at, zone).timestamp() + share * NIGHT
        if begin > after and day.toordinal() % days == 0:
            return begin
        day += timedelta(days=1)
