"""The pages of cycles: what they show of them and their rounds, what they ask before they steer, what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from labs import Reply
from rounds import PASSED, PlayedRounds, junit
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in
from waiting import until

from pytest_dispatch.core.cycle_plan import CyclePlan, Parameter, Schedule
from pytest_dispatch.core.cycle_state import CyclePhase, Round
from pytest_dispatch.core.groups import Group
from pytest_dispatch.lab.cycle_service import CycleService
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab.round_runner import RoundEnd
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.cycle_pages import PAGE, ROUNDS

pytestmark = pytest.mark.anyio

HOUR = 3600.0
HOSTILE = "<script>alert(1)</script>"
RACK = CyclePlan(
    name="rack-1",
    description=f"deploys {HOSTILE}",
    folder="/",
    schedule=Schedule(every=6 * HOUR),
    parameters=(
        Parameter(name="distro", choices=("noble", "jammy"), default="noble"),
        Parameter(name="k", pattern="a*"),
    ),
)
FIRST = RoundEnd(code=1, junit=junit(a="failure", b="passed"), output=f"1 failed {HOSTILE}\x1b[31m\u202e\n")
SECOND = RoundEnd(code=1, junit=junit(a="passed", b="error"), output="1 error\n")


@asynccontextmanager
async def a_lab(folder: Path, played: PlayedRounds, *plans: CyclePlan) -> AsyncIterator[ServiceBench]:
    roster = Roster(cycles=plans or (RACK,), groups=(Group(id="lab"), Group(id="arm")))
    async with service(folder, pages=True, roster=roster, launcher=played) as running:
        for name, role in (("bob", Role.OPERATOR), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
        yield running


def cycles_of(lab: ServiceBench) -> CycleService:
    assert lab.bench.lab.cycle_service is not None
    return lab.bench.lab.cycle_service


async def over(lab: ServiceBench, count: int, cycle: str = "rack-1") -> Round:
    """Ask for a round, and return it once so many are over."""
    await cycles_of(lab).run_now(cycle, "ada", {})
    while not (found := await cycles_of(lab).rounds(cycle, None, 100)) or found[0].number < count or not found[0].ended:
        await lab.bench.lab.lab_state.moved(0.05)
    return found[0]


async def press(visitor: Visitor, *fields: tuple[str, str]) -> Reply:
    """Send a form of the page as its script does."""
    csrf = (await visitor.see("/cycles")).field("csrf")
    return await visitor.post("/cycles", ("csrf", csrf), *fields, Dispatch_Page="1")


async def test_each_cycle_says_how_it_stands_and_how_its_rounds_ended(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([FIRST, SECOND])) as lab:
        visitor = await signed_in(lab, "bob")
        page = await visitor.see("/cycles")
        assert "1 cycle: 1 stopped" in page.words
        assert f"rack-1 deploys {HOSTILE} stopped none yet 6h after the last Start … Now …" in page.words
        await over(lab, 1)
        await over(lab, 2)
        page = await visitor.see("/cycles")
        assert "1 new error, 1 fixed 6h after the last" in page.words
        assert "the last 2 rounds: 1 failed, 1 error" in [each.get("aria-label") for each in page.all("svg")]
        assert "/cycles/rack-1/rounds/2" in page.links
        assert not page.all("script")[1:]


async def test_a_cycle_shows_its_rounds_and_what_changed_by_name(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([FIRST, SECOND])) as lab:
        await over(lab, 1)
        await over(lab, 2)
        page = await (await signed_in(lab, "eve")).see("/cycles/rack-1")
        assert [each["id"] for each in page.all("tr") if each.get("id", "").startswith("r-")] == ["r-2", "r-1"]
        assert "What changed in round 2" in page.words
        assert "is a fault of the lab now racks::b is fixed racks::a" in page.words
        assert "error 1 new error, 1 fixed 1 passed, 1 error 1 error; ada asked for it" in page.words
        assert [each.get("class") for each in page.all("svg")][-1] == "chart low"
        assert not [each for each in page.all("button") if each.get("value") == "start"], "a reader starts nothing"


async def test_rounds_are_paged_from_the_newest_back(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([PASSED] * (ROUNDS + 1))) as lab:
        for number in range(1, ROUNDS + 2):
            await over(lab, number)
        visitor, path, seen = await signed_in(lab, "eve"), "/cycles/rack-1", list[str]()
        while path:
            page = await visitor.see(path)
            seen += [each["id"] for each in page.all("tr") if each.get("id", "").startswith("r-")]
            path = next((each["href"] for each in page.all("a") if each.get("rel") == "next"), "")
        assert seen == [f"r-{number}" for number in range(ROUNDS + 1, 0, -1)]
        back = next(each["href"] for each in page.all("a") if each.get("rel") == "prev")
        newest = await visitor.see(back)
        assert "r-21" in [each.get("id") for each in newest.all("tr")]


async def test_a_round_shows_its_output_and_gives_its_files(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([FIRST])) as lab:
        await over(lab, 1)
        visitor = await signed_in(lab, "eve")
        page = await visitor.see("/cycles/rack-1/rounds/1")
        assert f"1 failed {HOSTILE}" in page.words
        assert not {"\x1b", "\u202e"} & set(page.text)
        assert "fails now racks::a" in page.words
        assert "What did not pass Outcome Case failed racks::a" in page.words
        for name, content in (("output.txt", FIRST.output), ("junit.xml", FIRST.junit)):
            reply = await visitor.ask("GET", f"/cycles/rack-1/rounds/1/{name}")
            assert (reply.status, reply.text) == (200, content)
            assert reply.headers["content-disposition"].startswith('attachment; filename="rack-1-round-1.')
            assert reply.headers["x-content-type-options"] == "nosniff"
        assert (await visitor.ask("GET", "/cycles/rack-1/rounds/2")).status == 404
        assert (await visitor.ask("GET", "/cycles/rack-2")).status == 404


async def test_a_round_under_way_shows_its_output_so_far(tmp_path: Path) -> None:
    played = PlayedRounds()
    async with a_lab(tmp_path, played) as lab:
        await cycles_of(lab).run_now("rack-1", "ada", {})
        await until(lambda: len(played.running) == 1)
        visitor = await signed_in(lab, "bob")
        page = await visitor.see("/cycles/rack-1/rounds/1")
        assert "so far" in page.words
        assert [each for each in page.all("pre") if "data-growing" in each]
        assert "1 cycle: 1 running" in (await visitor.see("/cycles")).words


async def test_starting_says_what_happens_and_takes_the_values_of_the_form(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([PASSED])) as lab:
        visitor = await signed_in(lab, "bob")
        page = await visitor.see("/cycles/rack-1")
        assert [each["name"] for each in page.all("select")] == ["value.distro"]
        assert "noble jammy" in page.words
        fields = [("do", "start"), ("cycle", "rack-1"), ("value.distro", "jammy"), ("value.k", "aa")]
        asked = (await press(visitor, *fields)).json
        assert asked["ask"] == "Start rack-1?"
        expected = (
            "The first round begins at once, each further one 6h after the end of the last. With distro=jammy, k=aa."
        )
        assert asked["text"] == expected
        assert cycles_of(lab).cycles.phase("rack-1") is CyclePhase.STOPPED
        done = (await press(visitor, *map(tuple, asked["fields"]), ("sure", "1"))).json
        assert (done["said"], done["failed"]) == ("rack-1: started.", False)
        started = cycles_of(lab).cycles.state("rack-1").started
        assert started is not None
        assert (started.who, started.values) == ("bob", {"distro": "jammy", "k": "aa"})
        assert [entry["who"] for entry in await lab.audit(action="cycle.start")] == ["bob"]


@pytest.mark.parametrize("sure", ["", "1"])
async def test_what_cannot_be_is_refused_before_anything_is_asked(tmp_path: Path, sure: str) -> None:
    async with a_lab(tmp_path, PlayedRounds()) as lab:
        visitor = await signed_in(lab, "bob")
        refused = await press(visitor, ("start", "rack-1"), ("value.distro", "plucky"), ("sure", sure))
        assert (refused.status, refused.json["error"]) == (409, "distro: expected noble or jammy, got 'plucky'")
        assert (await press(visitor, ("start", "rack-2"), ("sure", sure))).status == 404
        idle = (await press(visitor, ("stop", "rack-1"), ("sure", sure))).json
        assert (idle["said"], idle["failed"]) == ("rack-1 is stopped already.", False)
        assert not cycles_of(lab).cycles.under_way


async def test_pausing_can_be_undone_and_stopping_says_what_ends(tmp_path: Path) -> None:
    played = PlayedRounds()
    async with a_lab(tmp_path, played) as lab:
        visitor = await signed_in(lab, "bob")
        await press(visitor, ("start", "rack-1"), ("sure", "1"))
        await until(lambda: len(played.running) == 1)
        asked = (await press(visitor, ("pause", "rack-1"))).json
        assert asked["reason"]
        assert asked["text"].endswith("Round 1, which is under way, goes on.")
        done = (await press(visitor, ("pause", "rack-1"), ("reason", "the fans"), ("sure", "1"))).json
        assert "the fans" in (await visitor.see("/cycles")).words
        await press(visitor, *map(tuple, done["undo"]["fields"]))
        assert cycles_of(lab).cycles.state("rack-1").hold is None
        asked = (await press(visitor, ("stop", "rack-1"))).json
        assert "Round 1 is interrupted now, and its runs are cancelled" in asked["text"]
        await press(visitor, ("stop", "rack-1"), ("sure", "1"))
        await until(lambda: played.running[0].interrupted)


async def test_a_page_without_scripts_asks_and_steers(tmp_path: Path) -> None:
    async with a_lab(tmp_path, PlayedRounds([PASSED])) as lab:
        visitor = await signed_in(lab, "bob")
        page = await visitor.see("/cycles/rack-1")
        fields = [("csrf", page.field("csrf")), ("next", "/cycles/rack-1"), ("cycle", "rack-1"), ("do", "now")]
        question = SeenPage((await visitor.post("/cycles", *fields)).text)
        assert "One round begins at once. It stays stopped otherwise. With distro=noble." in question.words
        sent = {each["name"]: each["value"] for each in question.all("input") if "name" in each}
        reply = await visitor.post("/cycles", *sent.items())
        assert (reply.status, reply.headers["location"]) == (303, "/cycles/rack-1")
        assert "a round begins as soon as it can" in (await visitor.see("/cycles/rack-1")).words


async def test_a_token_for_one_group_sees_and_steers_its_cycles(tmp_path: Path) -> None:
    plans = (replace(RACK, name="a", group="arm"), replace(RACK, name="b", group="lab"))
    async with a_lab(tmp_path, PlayedRounds(), *plans) as lab:
        visitor = Visitor(lab, token=await lab.token("bob", groups=("arm",)))
        page = await visitor.see("/cycles")
        assert [each["id"] for each in page.all("tr") if "id" in each] == ["c-a"]
        assert (await visitor.ask("GET", "/cycles/b")).status == 403
        for name, status in (("b", 403), ("a", 200)):
            reply = await visitor.post("/cycles", ("start", name), ("sure", "1"), Dispatch_Page="1")
            assert reply.status == status, reply.text
        assert cycles_of(lab).cycles.state("b").started is None


async def test_many_cycles_are_paged_and_no_page_is_long(tmp_path: Path) -> None:
    plans = [replace(RACK, name=f"rack-{number}") for number in range(PAGE + 2)]
    async with a_lab(tmp_path, PlayedRounds([FIRST, SECOND] * PAGE), *plans) as lab:
        for plan in plans[:PAGE]:
            await over(lab, 1, plan.name)
        visitor = await signed_in(lab, "bob")
        reply = await visitor.ask("GET", "/cycles")
        assert len(reply.body) < 50_000
        page = SeenPage(reply.text)
        assert [each["id"] for each in page.all("tr") if "id" in each] == [f"c-{plan.name}" for plan in plans[:PAGE]]
        assert f"/cycles?first={PAGE}" in page.links


async def test_a_lab_without_cycles_says_how_one_is_made(tmp_path: Path) -> None:
    async with service(tmp_path, pages=True, roster=Roster()) as running:
        await running.added("eve", Role.READER, password=PASSWORD)
        assert (
            "This lab has none: write one into lab.yaml"
            in (await (await signed_in(running, "eve")).see("/cycles")).words
        )
