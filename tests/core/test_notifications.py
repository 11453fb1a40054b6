"""Who wants to know what, when nobody is to be disturbed, and texts that call nobody."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.chat_text import ZERO_WIDTH, chat_line
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.notifications import Notification, NotificationKind, QuietHours, Severity, Subscription
from pytest_dispatch.core.secrets import SecretUrl

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(begin=time(22), end=time(7), zone=BERLIN)
NOON = QuietHours(begin=time(12), end=time(13, 30), zone=BERLIN)
TOLD = Notification(id="1", kind=NotificationKind.RUN_ENDED, severity=Severity.WARNING, title="x", at=0.0)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "over"),
    [
        (NIGHT, "2026-06-01T21:59", None),
        (NIGHT, "2026-06-01T22:00", "2026-06-02T07:00"),
        (NIGHT, "2026-06-02T06:59", "2026-06-02T07:00"),
        (NIGHT, "2026-06-02T07:00", None),
        (NOON, "2026-06-01T12:15", "2026-06-01T13:30"),
        (NOON, "2026-06-01T13:30", None),
        (NIGHT, "2026-03-28T23:00", "2026-03-29T07:00"),  # the night in which an hour is left out
        (NIGHT, "2026-10-24T23:00", "2026-10-25T07:00"),  # the one that has an hour twice
    ],
)
def test_quiet_hours(hours: QuietHours, now: str, over: str | None) -> None:
    assert hours.over(at(now)) == (None if over is None else at(over))


def test_a_night_in_which_the_clock_changes_is_shorter_or_longer() -> None:
    assert at("2026-03-29T07:00") - at("2026-03-28T23:00") == 7 * 3600
    assert at("2026-10-25T07:00") - at("2026-10-24T23:00") == 9 * 3600


@given(moment=st.floats(1.7e9, 2.2e9), begin=st.times(), end=st.times())
def test_quiet_hours_always_end_within_a_day(moment: float, begin: time, end: time) -> None:
    hours = QuietHours(begin=begin.replace(tzinfo=None), end=end.replace(tzinfo=None), zone=BERLIN)
    over = hours.over(moment)
    assert over is None or moment < over <= moment + 25 * 3600


@pytest.mark.parametrize(
    ("subscription", "changes", "told"),
    [
        (Subscription(), {}, True),
        (Subscription(), {"severity": Severity.INFO}, False),
        (Subscription(severity=Severity.CRITICAL), {}, False),
        (Subscription(severity=Severity.CRITICAL), {"severity": Severity.CRITICAL}, True),
        (Subscription(kinds=frozenset({NotificationKind.MACHINE_HELD})), {}, False),
        (Subscription(kinds=frozenset({NotificationKind.RUN_ENDED})), {}, True),
        (Subscription(groups=frozenset("a")), {"groups": frozenset("b")}, False),
        (Subscription(groups=frozenset("a")), {"groups": frozenset("ab")}, True),
        (Subscription(groups=frozenset("a")), {}, True),  # what concerns no group
        (Subscription(outcomes=frozenset({Outcome.ERROR})), {"outcome": Outcome.FAILED}, False),
        (Subscription(outcomes=frozenset({Outcome.ERROR})), {"outcome": Outcome.ERROR}, True),
        (Subscription(outcomes=frozenset({Outcome.ERROR})), {}, True),  # what has none
    ],
)
def test_who_is_told_what(subscription: Subscription, changes: dict[str, object], told: bool) -> None:
    assert subscription.include(replace(TOLD, **changes)) == told  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("@everyone look", "@everyone"),
        ("ask @channel or @here", "@here"),
        ("<!everyone> and <@U123>", "<!"),
        ("<@&42>", "<@"),
        ("</b><script>x</script>", "<"),
        ("**bold** `code` ~~gone~~ ||hidden||", "**"),
        ("`code`", "`"),
        ("_leaning_", "_leaning_"),
        ("__strong__", "__"),
        ("[here](https://evil.example)", "]("),
        ("https://evil.example", "://"),
        (":skull: done", ":skull:"),
        ("#channel", "#channel"),
        ("a\x1b[31mred\x07\u202egnp.exe", "\x1b"),
        ("a\nb\u2028c", "\n"),
        ("\uff20everyone", "\uff20everyone"),
    ],
)
def test_texts_call_nobody(text: str, gone: str) -> None:
    assert gone not in chat_line(text)


def test_what_is_harmless_stays() -> None:
    assert chat_line("memory_test-2.efi (x86_64): 12:30, 50 % & more!") == (
        "memory_test-2.efi (x86_64): 12:30, 50 % & more!"
    )


@given(st.text(max_size=400))
def test_any_text_becomes_a_short_plain_line(text: str) -> None:
    line = chat_line(text)
    assert len(line) <= 2 * 130
    assert line.replace(ZERO_WIDTH, "").isprintable() or not line.isascii()
    assert not set("<>*`~|\n\r\t") & set(line)
    assert all(line[place + 1 : place + 2] == ZERO_WIDTH for place, sign in enumerate(line) if sign in "@#")


URL = SecretUrl("slack://TokenA12345/B%40secret/C-secret?footer=no", "a test")


def test_a_secret_url_shows_its_scheme_alone() -> None:
    for text in (repr(URL), str(URL), f"{URL}", f"{[URL]}"):
        assert text.strip("[]") == "<slack URL from a test>"
    with pytest.raises(TypeError):
        pickle.dumps(URL)
    with pytest.raises(TypeError):
        copy.copy(URL)
    assert SecretUrl("TokenA12345", "a test").scheme == ""


def test_every_part_of_a_secret_url_is_blotted_out() -> None:
    said = "cannot reach TokenA12345 (/TokenA12345/B@secret/C-secret), B%40secret"
    assert URL.scrub(said) == "cannot reach *** (/***/***/***), ***"
