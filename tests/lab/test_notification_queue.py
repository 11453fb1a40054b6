"""The deliveries of one target: held back, gathered, tried again, given up. Time is scripted."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from zoneinfo import ZoneInfo

from pytest_dispatch.core.notifications import (
    DeliveryState,
    Notification,
    NotificationKind,
    QuietHours,
    Severity,
    Subscription,
    Target,
)
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.lab.notification_queue import FIRST_PAUSE, GIVE_UP, HOUR, LONGEST_PAUSE, NotificationQueue
from pytest_dispatch.lab.notification_texts import NAMED, message_of

DAWN = 20_000 * 86_400.0  # midnight in UTC
NIGHT = QuietHours(begin=time(22), end=time(7), zone=ZoneInfo("UTC"))
URL = SecretUrl("json://127.0.0.1", "a test")


def told(name: str, at: float, severity: Severity = Severity.WARNING) -> Notification:
    return Notification(id=name, kind=NotificationKind.RUN_ENDED, severity=severity, title=name, body="why", at=at)


def box(**subscription: object) -> NotificationQueue:
    return NotificationQueue(Target(name="ops", url=URL, subscription=replace(Subscription(), **subscription)))  # type: ignore[arg-type]


def put(into: NotificationQueue, name: str, at: float, severity: Severity = Severity.WARNING) -> None:
    into.put(into.write(told(name, at, severity)))


def titles(found: NotificationQueue, now: float) -> list[str]:
    return [delivery.title for delivery in found.take(now)]


def test_deliveries_go_one_by_one_in_order() -> None:
    ops = box()
    assert not ops.is_next(DAWN)
    put(ops, "a", DAWN)
    put(ops, "b", DAWN + 1)
    assert titles(ops, DAWN + 1) == ["a"]
    [sent] = ops.went(ops.take(DAWN + 1), DAWN + 2)
    assert (sent.state, sent.done, sent.url) == (DeliveryState.SENT, DAWN + 2, "")
    assert titles(ops, DAWN + 2) == ["b"]
    assert (len(ops), ops.sent) == (1, 1)


def test_what_comes_in_quiet_hours_is_one_digest_afterwards() -> None:
    ops = box(quiet=NIGHT)
    put(ops, "by day", DAWN - 7200.5)
    ops.went(ops.take(DAWN), DAWN)
    for hour in range(3):
        put(ops, f"at {hour}", DAWN + hour * HOUR)
    put(ops, "broken", DAWN + 4 * HOUR, Severity.CRITICAL)
    assert not ops.is_next(DAWN + 7 * HOUR - 1)
    assert ops.held == 4
    assert ops.is_next(DAWN + 7 * HOUR)
    message = message_of(ops.take(DAWN + 7 * HOUR))
    assert (message.title, message.severity) == ("4 notifications held back", Severity.CRITICAL)
    assert message.body.splitlines() == ["broken", "at 0", "at 1", "at 2"]
    ops.went(ops.take(DAWN + 7 * HOUR), DAWN + 7 * HOUR)
    assert (len(ops), ops.sent) == (0, 2)


def test_critical_deliveries_pass_quiet_hours_if_so_configured() -> None:
    ops = box(quiet=replace(NIGHT, critical=True))
    put(ops, "slow", DAWN)
    put(ops, "broken", DAWN + 1, Severity.CRITICAL)
    assert titles(ops, DAWN + 1) == ["broken"]
    ops.went(ops.take(DAWN + 1), DAWN + 1)
    assert not ops.is_next(DAWN + 2)


def test_what_is_beyond_the_limit_of_an_hour_is_one_digest() -> None:
    ops = box(per_hour=3)
    for number in range(40):
        put(ops, f"{number}", DAWN + number)
    for number in range(3):
        assert titles(ops, DAWN + 60) == [f"{number}"]
        ops.went(ops.take(DAWN + 60), DAWN + 60)
    assert not ops.is_next(DAWN + HOUR - 1)
    message = message_of(ops.take(DAWN + HOUR))
    assert message.title == "37 notifications held back"
    assert len(message.body.splitlines()) == NAMED + 1
    assert message.body.endswith(f"… and {37 - NAMED} more")
    ops.went(ops.take(DAWN + HOUR), DAWN + HOUR)
    put(ops, "next", DAWN + HOUR + 1)
    assert titles(ops, DAWN + HOUR + 1) == ["next"]


def test_pauses_grow_and_a_delivery_is_given_up_after_a_day() -> None:
    ops = box()
    put(ops, "a", DAWN)
    now, pauses = DAWN, list[float]()
    while len(ops):
        [delivery] = ops.bounced(ops.take(now), "refused", now)
        if delivery.state is DeliveryState.WAITING:
            assert not ops.is_next(delivery.due - 0.1)
            assert ops.is_next(delivery.due)
            pauses.append(delivery.due - now)
            now = delivery.due
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == max(pauses) == LONGEST_PAUSE
    assert (delivery.state, delivery.failed, delivery.done) == (DeliveryState.GIVEN_UP, "refused", now)
    assert GIVE_UP <= now - DAWN < GIVE_UP + LONGEST_PAUSE
    assert ops.troubles == ["a: refused"]


def test_one_delivery_that_is_refused_keeps_no_other_back() -> None:
    ops = box()
    put(ops, "bad", DAWN)
    put(ops, "good", DAWN + 1)
    ops.bounced(ops.take(DAWN + 1), "too long", DAWN + 1)
    assert ops.failed == "too long"
    assert titles(ops, DAWN + 1 + FIRST_PAUSE) == ["good"]
    ops.went(ops.take(DAWN + 1 + FIRST_PAUSE), DAWN + 1 + FIRST_PAUSE)
    assert titles(ops, DAWN + 1 + FIRST_PAUSE) == ["bad"]


def test_a_delivery_held_back_all_night_has_a_day_from_then_on() -> None:
    ops = box(quiet=NIGHT)
    put(ops, "a", DAWN)
    morning = DAWN + 7 * HOUR
    [delivery] = ops.bounced(ops.take(morning + GIVE_UP - 1), "refused", morning + GIVE_UP - 1)
    assert delivery.state is DeliveryState.WAITING
    [delivery] = ops.bounced(ops.take(delivery.due), "refused", delivery.due)
    assert delivery.state is DeliveryState.GIVEN_UP
