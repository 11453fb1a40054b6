"""The breaker: what a person's wish to try now ends, and what it does not."""

from __future__ import annotations

import pytest

from pytest_dispatch.support.breaker import Breaker


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(lambda: 100.0)


def test_a_pause_after_failures_ends_when_somebody_wants_to_try(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.failed("away")
    assert not breaker.lets_through
    breaker.try_now()
    assert breaker.lets_through
    assert breaker.why == "away", "nobody knows yet that it is over"
    breaker.failed("away still")
    assert breaker.left == 32.0, "the pauses go on growing"


def test_a_pause_that_the_service_has_named_stays(breaker: Breaker) -> None:
    breaker.failed("overloaded", 30.0)
    breaker.try_now()
    assert breaker.left == 30.0
    breaker.worked()
    breaker.asked_to_wait("too many requests", 50.0)
    breaker.try_now()
    assert breaker.left == 50.0
