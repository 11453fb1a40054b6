"""The page Health: what it says of a lab that is well, one that is held, and what a GitHub's budget means."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from by_hand import ByHand
from labs import running_lab
from service_bench import PASSWORD, ServiceBench, service
from visitors import signed_in
from waiting import until

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.github.polling_api import GitHubStanding
from pytest_dispatch.github.rate_limits import HourlyLimit
from pytest_dispatch.lab.fresh_look import APART
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.app import ApiAddress
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import AccessSettings
from pytest_dispatch.server.web.health_page import budget

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        await running.added("ada", Role.ADMIN, password=PASSWORD)
        await running.added("eve", Role.READER, password=PASSWORD)
        yield running


async def test_a_lab_that_is_well_says_so(lab: ServiceBench) -> None:
    page = await (await signed_in(lab, "eve")).see("/lab")
    assert "All is well" in page.words
    assert "journal.db: answers, and all changes are on disk" in page.words
    assert "Open pages fine 0 are told of changes" in page.words


async def test_a_lab_that_is_held_says_by_whom_and_why(lab: ServiceBench) -> None:
    await lab.ask("POST", "/hold", HoldWanted(reason="the power is tested"), token=lab.secrets["ada"])
    page = await (await signed_in(lab, "eve")).see("/lab")
    assert "No run begins: the power is tested (ada)" in page.words


async def test_a_workload_whose_faults_count_against_no_machine_is_named_and_linked(lab: ServiceBench) -> None:
    lab.bench.lab.queue.health.recall({}, {Series("boot", "w", "a.efi"): 1.0}, 2.0)
    page = await (await signed_in(lab, "eve")).see("/lab")
    assert "Workload a.efi unknown The faults of a.efi count against no machine" in page.words
    assert "/history?q=workload%3Aa.efi" in page.links


async def test_a_broken_lab_still_says_why(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    lab.bench.lab.lab_state.fail(JournalError("journal lab.db: unplugged"))
    page = await visitor.see("/lab")
    assert "unplugged" in page.words


def limit_of(*, used: int, minutes: float, limit: int = 5000) -> HourlyLimit:
    """A limit of which so much is used after some minutes of its hour; the time is 0."""
    found = HourlyLimit()
    found.remaining, found.limit, found.resets = limit - used, limit, 3600.0 - 60.0 * minutes
    return found


@pytest.mark.parametrize(
    ("used", "minutes", "lasts"),
    [
        (100, 30, math.inf),
        (4000, 30, 450.0),
        (5000, 30, 0.0),
        (0, 30, math.inf),
        (2500, 30, math.inf),
        (10, 0, math.inf),
    ],
)
def test_a_limit_lasts_at_the_rate_of_its_hour(used: int, minutes: float, lasts: float) -> None:
    assert limit_of(used=used, minutes=minutes).lasts(0.0) == pytest.approx(lasts)


def test_nobody_knows_how_long_a_limit_lasts_that_was_never_told_or_counts_anew() -> None:
    assert HourlyLimit().lasts(0.0) is None
    assert limit_of(used=10, minutes=30).lasts(4000.0) is None


@pytest.mark.parametrize(
    ("lasts", "text"),
    [
        (math.inf, "1,000 of 5,000 requests of this hour are left, enough at this rate until it counts anew"),
        (450.0, "1,000 of 5,000 requests of this hour are left, for about 8m at this rate; the lab asks less often"),
        (None, "It answers, and counts anew by now"),
    ],
)
def test_a_budget_is_told_as_time(lasts: float | None, text: str) -> None:
    standing = GitHubStanding(
        host="x", remaining=1000, limit=5000, resets=9.0, lasts=lasts, answered=1.0, why="", until=0.0
    )
    assert budget(standing) == text


async def test_an_operator_has_what_the_lab_depends_on_asked_at_once(lab: ServiceBench) -> None:
    await lab.added("bob", Role.OPERATOR, password=PASSWORD)
    visitor = await signed_in(lab, "bob")
    assert (await visitor.submit("/lab", ("do", "look"), ("next", "/lab"))).status == 303
    assert "What the lab depends on is asked now." in (await visitor.see("/lab")).words
    assert (await visitor.submit("/lab", ("do", "look"))).status == 429
    lab.bench.clock.ahead += APART
    assert (await lab.ask("POST", "/lab/look", token=lab.secrets["bob"])).status == 204
    assert [entry["action"] for entry in await lab.audit(who="bob", action="lab")] == ["lab.look", "lab.look"]


@dataclass(eq=False)
class Refused(ByHand):
    """A machine that its MAAS does not power on, whose driver asks again and again."""

    trouble: str = ""

    async def on(self) -> None:
        self.trouble = "MAAS could not power it on (node-7): 503"
        await asyncio.Event().wait()


async def test_a_machine_that_cannot_be_powered_is_named_while_that_is_tried(tmp_path: Path) -> None:
    """Not only when it has been given up."""
    machine, api = Refused("node-7"), ApiAddress(host="127.0.0.1", port=0)
    async with running_lab(tmp_path, machines=[machine.driven()], doors=AccessSettings(), api=api) as bench:
        lab = ServiceBench(bench)
        await lab.added("eve", Role.READER, password=PASSWORD)
        visitor = await signed_in(lab, "eve")
        assert "node-7" not in (await visitor.see("/lab")).words
        await bench.one()
        await until(lambda: bool(machine.trouble))
        page = await visitor.see("/lab")
        assert f"Machine node-7 trouble {machine.trouble}" in page.words
        assert "/machines/node-7" in page.links
        assert "Poll now" not in page.words, "a reader may not"
        assert machine.trouble in (await visitor.see("/machines/node-7")).words
        assert f"node-7 trouble {machine.trouble}" in (await visitor.see("/")).words
        machine.trouble = ""
        assert "Machine node-7" not in (await visitor.see("/lab")).words
