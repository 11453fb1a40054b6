"""The clock that never jumps."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from pytest_dispatch.core.clock import SteadyClock


def test_it_tells_the_date() -> None:
    before, now, after = time.time(), SteadyClock().now(), time.time()
    assert before - 1 < now < after + 1
    assert datetime.fromtimestamp(now, UTC).year >= 2025


def test_it_never_goes_back() -> None:
    clock = SteadyClock()
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("step", [-1e9, -1.0, 1.0, 1e9])
def test_it_does_not_follow_when_the_systems_date_is_changed(step: float) -> None:
    date, steady = [1e9], [5.0]
    clock = SteadyClock(lambda: date[0], lambda: steady[0])
    date[0] += step
    steady[0] += 2.0
    assert clock.now() == 1e9 + 2.0
