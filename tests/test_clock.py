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


def test_it_does_not_follow_when_the_systems_date_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() >= before
