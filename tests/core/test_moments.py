"""Moments as dates: any number is one, and what people give has bounds."""

from __future__ import annotations

import math

import pytest

from pytest_dispatch.core.moments import LATEST, LONGEST, check_lasts, check_until, dated


@pytest.mark.parametrize(
    ("at", "date"),
    [
        (0.0, "1970-01-01"),
        (1_764_460_800.0, "2025-11-30"),
        (LATEST, "9999-01-01"),
        (253_402_300_800.0, "9999-01-01"),
        (1e300, "9999-01-01"),
        (math.inf, "9999-01-01"),
        (-1e300, "1970-01-01"),
        (-math.inf, "1970-01-01"),
        (math.nan, "1970-01-01"),
    ],
)
def test_any_number_is_a_date_in_all_time_zones(at: float, date: str) -> None:
    assert f"{dated(at):%Y-%m-%d}" == date
    assert dated(at).astimezone().year >= 1969


@pytest.mark.parametrize("seconds", [0.0, -1.0, LONGEST + 1, 1e300, math.inf, math.nan])
def test_what_lasts_has_bounds(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^lasts: expected a number of seconds above 0 and at most 3153600000"):
        check_lasts("lasts", seconds)
    check_lasts("lasts", LONGEST)


@pytest.mark.parametrize("at", [LATEST + 1, 1e300, math.inf, math.nan])
def test_an_end_is_a_date(at: float) -> None:
    with pytest.raises(ValueError, match=r"^until: expected seconds since 1970, before the year 9999"):
        check_until("until", at)
    check_until("until", LATEST)
