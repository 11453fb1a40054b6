"""What people are told of rounds of cycles: once, whatever becomes of the lab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from labs import LabBench, running_lab
from receivers import Receiver, receiving
from rounds import PASSED, PlayedRounds, junit
from waiting import until

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.cycle_state import Round
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.notifications import (
    NotificationKind,
    NotificationPlan,
    Severity,
    Subscription,
    Target,
)
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab.round_runner import RoundEnd
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio

BAD = RoundEnd(code=1, junit=junit(a="failure", b="failure", c="error", d="passed"))
BETTER = RoundEnd(code=1, junit=junit(a="passed", b="failure", c="passed", d="passed"))
HOSTILE = RoundEnd(code=1, junit=junit(**{"@everyone": "failure"}))
BLIND = RoundEnd(code=4, output="no such option")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def target(receiver: Receiver, name: str, **wanted: object) -> Target:
    subscription = Subscription(kinds=frozenset({NotificationKind.CYCLE_CHANGED}), **wanted)  # type: ignore[arg-type]
    return Target(name=name, url=SecretUrl(receiver.url("secret"), name), subscription=subscription)


@asynccontextmanager
async def a_lab(folder: Path, *ends: RoundEnd, to: Target, group: str = "") -> AsyncIterator[LabBench]:
    where = Journal(folder / "lab.db")
    plan = CyclePlan(name="rack", folder=str(folder), schedule=Schedule(every=3600.0), group=group)
    async with running_lab(
        folder,
        private=False,
        journal=lambda _: where,
        roster=Roster(cycles=(plan,), groups=(Group(id="arm"), Group(id="x86"))),
        launcher=PlayedRounds(list(ends)),
        notifications=NotificationPlan(targets=(to,)),
    ) as bench:
        yield bench


async def over(bench: LabBench, number: int) -> Round:
    """Ask for a round, and return it once it is over."""
    service = bench.lab.cycle_service
    assert service is not None
    await service.run_now("rack", "ada", {})
    while not (found := await service.rounds("rack", None, 1)) or found[0].number < number or not found[0].ended:
        await bench.lab.lab_state.moved(0.05)
    return found[0]


async def test_what_changed_is_told_with_names_and_what_is_as_before_is_not(tmp_path: Path, receiver: Receiver) -> None:
    ends = (BAD, BAD, BETTER, PASSED)
    async with a_lab(tmp_path, *ends, to=target(receiver, "ops", severity=Severity.INFO)) as bench:
        for number in range(1, len(ends) + 1):
            await over(bench, number)
        await until(lambda: len(receiver.messages) == 2)
    assert receiver.titles == ["cycle rack, round 1: 2 new failures, 1 new error", "cycle rack, round 3: 2 fixed"]
    first, second = receiver.messages
    assert (first["type"], second["type"]) == ("warning", "info")
    assert "racks::a fails now" in first["message"]
    assert "racks::c is a fault of the lab now" in first["message"]
    assert "racks::a is fixed" in second["message"]


async def test_what_is_only_fixed_is_no_warning(tmp_path: Path, receiver: Receiver) -> None:
    async with a_lab(tmp_path, BAD, BETTER, BLIND, to=target(receiver, "ops")) as bench:
        for number in (1, 2, 3):
            await over(bench, number)
        await until(lambda: len(receiver.messages) == 2)
    assert receiver.titles[1] == "cycle rack, round 3: error", "a round without results is no silence"
    assert receiver.messages[1]["message"] == "pytest was called wrongly: look at its output"


async def test_names_of_cases_are_harmless(tmp_path: Path, receiver: Receiver) -> None:
    async with a_lab(tmp_path, HOSTILE, to=target(receiver, "ops")) as bench:
        await over(bench, 1)
        await until(lambda: receiver.messages)
    assert "@everyone" not in receiver.messages[0]["message"]


@pytest.mark.parametrize(("group", "told"), [("arm", 0), ("x86", 1), ("", 1)])
async def test_a_target_of_a_group_is_told_of_its_cycles(
    tmp_path: Path, receiver: Receiver, group: str, told: int
) -> None:
    to = target(receiver, "ops", groups=frozenset({"x86"}))
    async with a_lab(tmp_path, BAD, BAD, to=to, group=group) as bench:
        await over(bench, 1)
        await until(lambda: len(receiver.messages) >= told and not bench.lab.notifier.status()[0].waiting)
    assert len(receiver.messages) == told


async def test_what_a_lab_could_not_send_the_next_one_sends_once(tmp_path: Path, receiver: Receiver) -> None:
    to = target(receiver, "ops")
    receiver.status = 503
    async with a_lab(tmp_path, BAD, to=to) as bench:
        await over(bench, 1)
        [kept] = await bench.lab.lab_state.journal.background.unsent_notifications(10)
        assert kept.id == "cycle:rack:1"
    receiver.status = 200
    receiver.messages.clear()
    async with a_lab(tmp_path, BAD, to=to) as bench:
        bench.clock.ahead += 3600.0
        await until(lambda: receiver.messages)
        await over(bench, 2)
    assert receiver.titles == ["cycle rack, round 1: 2 new failures, 1 new error"]
