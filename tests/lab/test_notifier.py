"""Notifications of a lab: sent by the real apprise to a real web server; only time is moved on."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from faults import fault
from labs import Clock, LabBench, running_lab
from receivers import Receiver, receiving
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health import HealthRules
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.notifications import (
    NotificationKind,
    NotificationPlan,
    QuietHours,
    Severity,
    Subscription,
    Target,
)
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.lab.notification_queue import FIRST_PAUSE, GIVE_UP
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.store.journal import Journal

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

SECRET = "TopSecretPath77"
EVERYTHING = Subscription(severity=Severity.INFO)
KINDS = NotificationKind


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def another() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def target(receiver: Receiver, name: str = "ops", more: str = "", **subscription: Any) -> Target:
    url = SecretUrl(receiver.url(SECRET, more, user="me:SecretPassword77@"), name)
    return Target(name=name, url=url, subscription=replace(EVERYTHING, **subscription))


def to(*targets: Target, **more: Any) -> NotificationPlan:
    return NotificationPlan(targets=targets, **more)


def rows(folder: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(folder / "journal.db")) as db:
        return db.execute("SELECT id, target, state, url, failed FROM dispatch_notifications ORDER BY id").fetchall()


def whole(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("journal.db*"))


async def ended(bench: LabBench, outcome: str = "fail", source: str = "127.0.0.2", **fields: Any) -> None:
    """A session with one workload, which has reported, is closed."""
    run = await bench.booted(source, **fields)
    await bench.report(source, labels=[outcome] * (outcome != "pass"), title="the <!here> title @everyone")
    await bench.call("HEAD", source=source)  # the machine is back
    await until(lambda: bench.now(run).outcome is not None)
    await bench.lab.session_service.close(run.session)


async def test_the_end_of_runs_and_sessions_is_told(tmp_path: Path, receiver: Receiver) -> None:
    async with running_lab(tmp_path, notifications=to(target(receiver))) as bench:
        await ended(bench, name="@everyone.efi")
        await until(lambda: len(receiver.messages) == 2)
        await until(lambda: all(row[2] == "sent" for row in rows(tmp_path)))
    run, session = receiver.messages
    assert run["title"] == "@\u200beveryone.efi: failed"
    assert run["type"] == session["type"] == "warning"
    assert "report: the \u2039!here\u203a title @\u200beveryone" in run["message"]
    assert session["title"] == "session w: 1 failed"
    assert session["message"].startswith("@\u200beveryone.efi: failed")


@pytest.mark.parametrize(("outcome", "expected"), [("pass", []), ("fail", ["a.efi: failed", "session w: 1 failed"])])
async def test_what_is_in_order_is_told_to_nobody_by_itself(
    tmp_path: Path, receiver: Receiver, outcome: str, expected: list[str]
) -> None:
    plan = to(target(receiver, severity=Severity.WARNING))
    async with running_lab(tmp_path, notifications=plan) as bench:
        await ended(bench, outcome)
        await until(lambda: len(receiver.messages) == len(expected))
        assert len(rows(tmp_path)) == len(expected)
    assert receiver.titles == expected


async def test_each_target_has_the_kinds_outcomes_and_groups_that_it_wants(
    tmp_path: Path, receiver: Receiver, another: Receiver
) -> None:
    plan = to(
        target(receiver, "sessions", kinds=frozenset({KINDS.SESSION_ENDED})),
        target(another, "errors", outcomes=frozenset({Outcome.ERROR})),
        target(another, "other-group", groups=frozenset({"other"})),
    )
    async with running_lab(tmp_path, notifications=plan) as bench:
        await ended(bench)
        await until(lambda: receiver.messages)
        assert [row[1] for row in rows(tmp_path)] == ["sessions"]
    assert receiver.titles == ["session w: 1 failed"]
    assert another.messages == []


async def test_a_broken_machine_that_the_lab_holds_too_is_told_once(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.MACHINE_BROKEN, KINDS.MACHINE_HELD})))
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        await bench.call("HEAD")
        bench.lab.queue.health.rules, bench.lab.queue.health.has_check = HealthRules(), lambda _machine: True
        bench.lab.queue.scheduler.broke("127.0.0.2", "no power", bench.clock.now())
        bench.lab.lab_state.commit()
        await bench.lab.group_service.hold_machine("127.0.0.2", Hold(reason="mine", owner="ann"))
        await until(lambda: len(receiver.messages) == 2)
    assert receiver.titles == ["machine 127.0.0.2 is broken", "machine 127.0.0.2 is held by ann"]
    assert receiver.messages[0]["message"] == "no power; it is held by lab"


async def test_a_machine_that_is_held_or_broken_is_told_once(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.MACHINE_BROKEN, KINDS.MACHINE_HELD})))
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        await bench.call("HEAD")
        machines, now = bench.lab.queue.machines, bench.clock.now()
        await bench.lab.group_service.hold_machine("127.0.0.2", Hold(reason="new *fan*", owner="ann", until=now + 7200))
        bench.lab.queue.scheduler.broke("127.0.0.2", "no power", now)
        bench.lab.lab_state.commit()
        bench.lab.queue.scheduler.broke("127.0.0.2", "still no power", now)
        bench.lab.lab_state.commit()
        await until(lambda: len(receiver.messages) == 2)
        assert machines["127.0.0.2"].hold is not None
    said = {message["title"]: (message["message"], message["type"]) for message in receiver.messages}
    assert said["machine 127.0.0.2 is broken"] == ("no power; it is held by ann", "failure")
    held, kind = said["machine 127.0.0.2 is held by ann"]
    assert held.startswith("new \u2217fan\u2217; for ")
    assert kind == "warning"
    receiver.messages.clear()
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:  # it is held still
        assert bench.lab.queue.machines["127.0.0.2"].hold is not None
        bench.lab.lab_state.commit()
        await bench.lab.lab_state.on_disk()
        assert len(rows(tmp_path)) == 2


async def test_a_queue_that_waits_too_long_is_told_once(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.QUEUE_SLOW})), queue_wait=600.0)
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        await bench.submit(*(bench.workload(f"{name}.efi") for name in "abc"))
        await bench.call("HEAD", source="127.0.0.9")
        bench.clock.ahead += 500.0
        bench.lab.notifier.tend(bench.clock.now())
        assert rows(tmp_path) == []
        bench.clock.ahead += 200.0
        await until(lambda: receiver.messages)
        bench.clock.ahead += 60.0
        bench.lab.notifier.tend(bench.clock.now())
        await bench.lab.lab_state.on_disk()
        assert len(rows(tmp_path)) == 1
    [message] = receiver.messages
    assert message["title"] == "group lab: 2 runs waited too long for a machine"
    assert message["message"].startswith("the longest for 11m40s: ")


async def test_an_issue_for_which_the_lab_has_no_token_is_told(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.ISSUES_UNFILED})))
    async with running_lab(tmp_path, notifications=plan) as bench:
        rule = IssueRule(repo="me/lab", outcomes=frozenset(Outcome))
        [run] = await bench.submit(bench.workload(), rule=rule)
        await bench.download(run)
        assert (await bench.call("POST")).status == 200
        await bench.report(labels=["fail"], title="@everyone")
        await bench.call("HEAD")
        await until(lambda: receiver.messages)
    [message] = receiver.messages
    assert message["title"].replace("\u200b", "") == "issue not filed in me/lab: @everyone"
    assert message["message"].startswith("the lab has no token for me/lab")


@fault(
    "Notifications",
    "An attached pytest gives an issue up that it was to file",
    outcome="the issue is not filed",
    told="`issues.unfiled`, with why, once",
)
async def test_an_issue_that_a_holder_gives_up_is_told_once(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.ISSUES_UNFILED})))
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        rule = IssueRule(repo="me/lab", outcomes=frozenset(Outcome))
        [run] = await bench.submit(bench.workload(), rule=rule)
        holders = bench.lab.issues.holder_issues
        holders.holder_files(run.session, files=True)
        await bench.download(run)
        await bench.call("POST")
        await bench.report(labels=["fail"], title="a report")
        await bench.call("HEAD")
        await until(lambda: bench.now(run).outcome is not None)
        [pending] = await holders.claim(run.session)
        tried = replace(pending, tries=1, failed="GitHub refuses its text", given_up=True)
        await holders.tried(run.session, tried)
        await holders.tried(run.session, tried)  # the answer was lost
        await until(lambda: receiver.messages)
        assert len(rows(tmp_path)) == 1
    [message] = receiver.messages
    assert message["title"] == "issue not filed in me/lab: a report"
    assert message["message"].startswith("GitHub refuses its text")


async def test_a_session_whose_holder_is_gone_is_told(tmp_path: Path, receiver: Receiver) -> None:
    plan = to(target(receiver, kinds=frozenset({KINDS.SESSION_ENDED})))
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        await bench.submit(bench.workload(), lease=Lease(kind=LeaseKind.DURABLE, owner="ann", lasts=60.0))
        bench.clock.ahead += 61.0
        await until(lambda: receiver.messages)
    [message] = receiver.messages
    assert message["title"].startswith("session w of ann: ")
    assert message["message"].startswith("its holder was not heard of for too long")


# Targets in trouble


@fault(
    "Notifications",
    "A target does not answer",
    outcome="no other target waits for it; what was on its way may come twice",
    told="`it did not answer within …`; tried again",
)
async def test_a_target_that_hangs_delays_no_other_and_has_one_thread(
    tmp_path: Path, receiver: Receiver, another: Receiver
) -> None:
    receiver.hangs = True
    plan = to(target(receiver, "slow", "?rto=60"), target(another, "quick"), deadline=0.2)
    async with running_lab(tmp_path, notifications=plan) as bench:
        for number in range(5):
            await ended(bench, source=f"127.0.0.{number + 2}", name=f"{number}.efi")
        await until(lambda: len(another.messages) == 10)
        [slow, _] = bench.lab.notifier.status()
        await until(lambda: bench.lab.notifier.status()[0].failed == "it did not answer within 0.2 s")
        assert (slow.waiting, slow.sent) == (10, 0)
        bench.clock.ahead += 3600.0
        bench.lab.notifier.tend(bench.clock.now())
        assert len(receiver.asked) == 1
        receiver.let_go()
        await until(lambda: len(rows(tmp_path)) == 20 and {row[2] for row in rows(tmp_path)} == {"sent"})
    assert len(receiver.messages) == 11  # the first one came twice, as nobody knew that it had come


@fault(
    "Notifications",
    "A target refuses a message",
    outcome="it is sent later",
    told="the target's state has why; tried again after 5 s, then twice as long each time, at most an hour",
)
async def test_what_is_refused_is_tried_again_with_pauses(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 500
    async with running_lab(tmp_path, notifications=to(target(receiver))) as bench:
        await ended(bench)
        await until(lambda: bench.lab.notifier.status()[0].failed)
        assert len(receiver.asked) == 1
        receiver.status = 200
        bench.lab.notifier.tend(bench.clock.now())
        assert len(receiver.asked) == 1
        bench.clock.ahead += FIRST_PAUSE
        await until(lambda: len(receiver.messages) == 2)


@fault(
    "Notifications",
    "A target refuses a message for a day",
    outcome="the message is given up",
    told="a warning in the log, and in the target's state",
)
async def test_what_is_refused_for_a_day_is_given_up_and_told(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 403
    caplog.set_level(logging.DEBUG)
    async with running_lab(tmp_path, notifications=to(target(receiver, kinds=frozenset({KINDS.RUN_ENDED})))) as bench:
        await ended(bench)
        await until(lambda: bench.lab.notifier.status()[0].failed)
        bench.clock.ahead += GIVE_UP
        await until(lambda: rows(tmp_path)[0][2] == "given up")
        [status] = bench.lab.notifier.status()
    assert status.waiting == 0
    assert status.given_up[0].startswith("a.efi: failed: ")
    [line] = [record.getMessage() for record in caplog.records if "given up" in record.getMessage()]
    assert line.startswith("notification for ops given up after a day: run.ended: ")


async def test_no_part_of_a_url_is_anywhere(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    gone = Target(name="gone", url=SecretUrl(f"json://me:SecretPassword77@127.0.0.1:9/{SECRET}", "gone"))
    plan = to(target(receiver), gone, target(receiver, "second"))
    async with running_lab(tmp_path, notifications=plan, private=False) as bench:
        await ended(bench)
        await until(lambda: all(status.failed for status in bench.lab.notifier.status()))
        answer = await bench.api("GET", "/notifications")
        assert [each["name"] for each in answer.json] == ["ops", "gone", "second"]
        shown = f"{answer.text} {plan} {bench.lab.notifier.status()} {caplog.text} {rows(tmp_path)}"
    for secret in (SECRET, "SecretPassword77"):
        assert secret not in shown
        assert secret.encode() not in whole(tmp_path)


# The journal


@fault(
    "Notifications",
    "The lab ends before a message is sent",
    outcome="the next lab on the journal sends it",
    told="nothing else",
)
async def test_what_a_lab_leaves_the_next_one_sends(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 500
    async with running_lab(tmp_path, notifications=to(target(receiver))) as bench:
        await ended(bench)
        await until(lambda: bench.lab.notifier.status()[0].failed)
    assert [row[2] for row in rows(tmp_path)] == ["waiting", "waiting"]
    receiver.status = 200
    clock = Clock()
    clock.ahead = 60.0
    async with running_lab(tmp_path, notifications=to(target(receiver)), clock=clock):
        await until(lambda: len(receiver.messages) == 2)
        await until(lambda: {row[2] for row in rows(tmp_path)} == {"sent"})
    async with running_lab(tmp_path, notifications=to(target(receiver)), clock=clock) as bench:
        assert bench.lab.notifier.status()[0].waiting == 0


@fault(
    "Notifications",
    "A target is removed from the configuration while messages wait for it",
    outcome="they are given up",
    told="a warning in the log for each",
)
async def test_a_target_that_is_gone_from_the_configuration_gets_nothing(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    async with running_lab(tmp_path, notifications=to(target(receiver))) as bench:
        await ended(bench)
        await until(lambda: bench.lab.notifier.status()[0].failed)
    async with running_lab(tmp_path, notifications=to(target(receiver, "other"))) as bench:
        await bench.lab.lab_state.on_disk()
    assert {row[2] for row in rows(tmp_path)} == {"given up"}
    assert "notification for ops given up: run.ended: it is no target of the lab any more" in caplog.text


async def test_another_plan_tells_others(tmp_path: Path, receiver: Receiver, another: Receiver) -> None:
    receiver.status = 500
    async with running_lab(tmp_path, notifications=to(target(receiver), target(receiver, "gone"))) as bench:
        await ended(bench)
        await until(lambda: [each.failed for each in bench.lab.notifier.status()].count("") == 0)
        bench.lab.notifier.replan(to(target(another)))
        await until(lambda: len(another.messages) == 2)  # what the first one did not take
        await until(
            lambda: sorted(row[1:3] for row in rows(tmp_path)) == [("gone", "given up")] * 2 + [("ops", "sent")] * 2
        )
        assert [each.name for each in bench.lab.notifier.status()] == ["ops"]
    assert receiver.messages == []


@fault(
    "Notifications",
    "The lab is killed as a run ends, before it has told anybody",
    outcome="the outcome and what is to be told are in the journal together, or neither is",
    told="the next lab on the journal tells it",
)
async def test_a_delivery_is_on_disk_with_what_it_tells_of(tmp_path: Path, receiver: Receiver) -> None:
    """Whatever moment a lab is killed at, a run that has its outcome has its delivery."""
    receiver.hangs = True

    class Watched(Journal):
        def write(self, rows: Any) -> Any:
            tables = [table.name for table, _ in rows]
            ends = any(table.name == "dispatch_runs" and row["outcome"] for table, row in rows)
            if ends:
                seen.append("dispatch_notifications" in tables)
            return super().write(rows)

    seen: list[bool] = []
    async with running_lab(tmp_path, notifications=to(target(receiver)), journal=Watched) as bench:
        await ended(bench)
        receiver.let_go()
    assert seen
    assert all(seen)


async def test_quiet_hours_of_a_lab_are_over_in_one_digest(tmp_path: Path, receiver: Receiver) -> None:
    utc = ZoneInfo("UTC")
    night = QuietHours(begin=time(22), end=time(7), zone=utc)
    clock = Clock()
    tonight = datetime.fromtimestamp(clock.now(), utc).replace(hour=23, minute=0) + timedelta(days=1)
    clock.ahead = tonight.timestamp() - clock.now()
    plan = to(target(receiver, quiet=night))
    async with running_lab(tmp_path, notifications=plan, clock=clock) as bench:
        await ended(bench)
        await until(lambda: bench.lab.notifier.status()[0].held == 2)
    clock.ahead += 6 * 3600.0
    async with running_lab(tmp_path, notifications=plan, clock=clock) as bench:  # they are held over a restart
        assert bench.lab.notifier.status()[0].held == 2
        assert receiver.asked == []
        clock.ahead += 2 * 3600.0
        await until(lambda: receiver.messages)
    [message] = receiver.messages
    assert message["title"] == "2 notifications held back"
    assert message["message"].splitlines() == ["a.efi: failed", "session w: 1 failed"]


# A session's own targets


async def opened(bench: LabBench, *urls: str) -> Any:
    return await bench.api("POST", "/sessions", {"source": "w", "policy": {}, "notify": urls})


async def test_a_session_names_who_is_told_of_its_end(tmp_path: Path, receiver: Receiver) -> None:
    url = receiver.url(SECRET)
    async with running_lab(tmp_path) as bench:
        session = (await opened(bench, url)).json["id"]
        await ended(bench)  # another session
        await bench.lab.lab_state.on_disk()
        assert rows(tmp_path) == []
        receiver.status = 500
        assert (await bench.api("DELETE", f"/sessions/{session}")).status == 204
        view = (await bench.api("GET", f"/sessions/{session}")).json
        assert [each["waiting"] for each in view["notifications"]] == [1]
        await until(lambda: bench.lab.notifier.status(session)[0].failed)
        assert SECRET not in (await bench.api("GET", f"/sessions/{session}")).text
    receiver.status = 200
    clock = Clock()
    clock.ahead = 60.0
    async with running_lab(tmp_path, clock=clock):  # which knows the URL from the journal alone
        await until(lambda: receiver.messages)
        await until(lambda: rows(tmp_path)[0][2] == "sent")
    assert receiver.titles == ["session w: no runs"]
    assert rows(tmp_path)[0][3] == ""  # the URL is gone


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        (["hunter2"], "got something else"),
        (["bogus://hunter2"], "got one that begins with bogus://"),
        ([f"json://127.0.0.1/{n}" for n in range(11)], "expected at most 10 URLs, got 11"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path, urls: list[str], problem: str) -> None:
    async with running_lab(tmp_path) as bench:
        answer = await opened(bench, *urls)
        assert answer.status == 400
        assert answer.json["error"].startswith("--dispatch-notify: expected ")
        assert problem in answer.json["error"]
        assert "hunter2" not in answer.text
        assert not bench.lab.lab_state.live_sessions


async def test_a_shared_lab_sends_only_to_schemes_that_it_allows(tmp_path: Path, receiver: Receiver) -> None:
    for allowed, status in ((frozenset[str](), 400), (frozenset({"mailtos"}), 400), (frozenset({"json"}), 201)):
        plan = NotificationPlan(session_schemes=allowed)
        async with running_lab(tmp_path, private=False, notifications=plan) as bench:
            answer = await opened(bench, receiver.url(SECRET))
            assert answer.status == status
            assert SECRET not in answer.text
            if status == 400:
                assert "notifications.session_schemes" in answer.json["error"]


async def test_who_names_nobody_loads_nothing(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        await ended(bench)
        assert bench.lab.notifier.status() == []
    assert rows(tmp_path) == []


async def test_deliveries_that_are_done_leave_the_journal_after_a_week(tmp_path: Path, receiver: Receiver) -> None:
    async with running_lab(tmp_path, notifications=to(target(receiver))) as bench:
        await ended(bench)
        await until(lambda: {row[2] for row in rows(tmp_path)} == {"sent"})
        bench.clock.ahead += 8 * 86_400.0
        await until(lambda: not rows(tmp_path))


async def test_check_gives_urls_back(tmp_path: Path, receiver: Receiver) -> None:
    async with running_lab(tmp_path) as bench:
        url = receiver.url()
        [found] = await bench.lab.notifier.check([url, url])
        assert found.reveal() == url
        with pytest.raises(ConfigError):
            await bench.lab.notifier.check(["nothing"])
