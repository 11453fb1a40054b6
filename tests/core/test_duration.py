"""Durations, as people write them and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.duration import format_duration, format_roughly, parse_duration
from pytest_dispatch.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h0m5s", 3605.0),
        ("0.5s", 0.5),
        ("1.5h", 5400.0),
        ("0", 0.0),
        ("0s", 0.0),
        (" 5m ", 300.0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "5 minutes",
        "-5s",
        "m",
        "5m1h",
        "1h1h",
        "1e3s",
        "5S",
        "\u0665m",
        "inf",
        "1d",
        "5.s",
        "9" * 400 + "h",
    ],
)
def test_anything_else_is_refused_by_saying_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)
    assert str(caught.value) == f"expected a duration such as 30s, 5m or 1h, got {text!r}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.04, "0s"),
        (0.4, "0.4s"),
        (3.0, "3s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (12.4, "12s"),
        (59.7, "1m"),
        (60.0, "1m"),
        (90.0, "90s"),
        (119.6, "2m"),
        (125.0, "2m5s"),
        (900.0, "15m"),
        (3599.6, "1h"),
        (3600.0, "1h"),
        (3629.0, "1h"),
        (5400.0, "1h30m"),
        (7199.0, "2h"),
        (86400.0, "24h"),
        (-90.0, "-90s"),
    ],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0.0, max_value=1e7))
def test_an_estimate_is_written_as_people_say_it(seconds: float) -> None:
    said = parse_duration(format_roughly(seconds))
    assert said == pytest.approx(seconds, rel=0.21, abs=0.5)
    assert format_roughly(said) == format_roughly(seconds)


@given(st.floats(min_value=0.0, max_value=1e7))
def test_what_is_written_can_be_read_and_is_about_right(seconds: float) -> None:
    read = parse_duration(format_duration(seconds))
    assert abs(read - seconds) <= (0.06 if seconds < 10 else 0.51 if seconds < 3600 else 31)
    assert format_duration(read) == format_duration(seconds)
