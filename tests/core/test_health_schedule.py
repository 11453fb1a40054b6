"""When machines are checked."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health_schedule import DAY, NIGHT, HealthPlan, TimeOfDay, next_slot

BERLIN = ZoneInfo("Europe/Berlin")


@given(st.text(), st.floats(1.0, 30 * DAY), st.floats(0.0, 4e9))
def test_a_slot_comes_within_the_interval(machine: str, every: float, after: float) -> None:
    slot = next_slot(HealthPlan(template="t", every=every), machine, after)
    assert after < slot + 1e-3
    assert slot <= after + every + 1e-3


def test_slots_come_one_interval_after_the_other() -> None:
    plan = HealthPlan(template="t", every=3600.0)
    first = next_slot(plan, "rack-1", 1e9)
    assert next_slot(plan, "rack-1", first + 1.0) == pytest.approx(first + 3600.0)


def test_machines_have_slots_of_their_own() -> None:
    plan = HealthPlan(template="t")
    hours = {int(next_slot(plan, f"rack-{number}", 0.0) // 3600) for number in range(200)}
    assert len(hours) > 20


@given(st.text(), st.floats(0.0, 4e9), st.integers(1, 9))
def test_at_a_time_of_day_a_slot_is_within_an_hour_of_it(machine: str, after: float, days: int) -> None:
    begin = TimeOfDay(hour=2, minute=30, zone="Europe/Berlin")
    slot = next_slot(HealthPlan(template="t", every=days * DAY, begin=begin), machine, after)
    assert after < slot <= after + days * DAY + NIGHT + 7200.0  # two hours for clocks that are put back
    local = datetime.fromtimestamp(slot, BERLIN)
    minutes = local.hour * 60 + local.minute - 150
    assert -60 <= minutes <= 120, "an hour more or less on the days on which clocks are put on or back"


def test_a_time_of_day_needs_whole_days() -> None:
    begin = TimeOfDay(hour=2, minute=30, zone="Europe/Berlin")
    with pytest.raises(ConfigError, match="expected whole days, such as 24h, because of `at`"):
        HealthPlan(template="t", every=3600.0, begin=begin)


def test_an_interval_is_longer_than_nothing() -> None:
    with pytest.raises(ConfigError, match=r"health.every: expected a duration, got 0 s"):
        HealthPlan(template="t", every=0.0)
