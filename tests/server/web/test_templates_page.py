"""The page Templates: what it shows, what it asks before it queues, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from labs import Reply
from past_runs import runs_through
from rounds import PlayedRounds
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.roster import Configuration, Roster
from pytest_dispatch.machines.base import DrivenMachine
from pytest_dispatch.server.auth.roles import Role

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    """A lab with a machine of each group, templates of both, and one that no machine can run."""
    async with service(tmp_path, pages=True) as running:
        for name, role in (("ada", Role.ADMIN), ("bob", Role.OPERATOR), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
        bench = running.bench
        made = [
            Template(id="boot", group="lab", workload=bench.workload("a.efi"), description=f"boots {HOSTILE}\u202e"),
            Template(id="smoke", group="arm", workload=bench.workload("b.efi"), source="more.yaml"),
            Template(id="vector", group="lab", workload=needs(bench.workload("c.efi"), "arch=riscv64")),
        ]
        arm = Group(id="arm", labels={"arch": "arm64"})
        await bench.lab.group_service.configure([Group(id="lab"), arm], made)
        bench.lab.queue.machines.declare("m-1")
        bench.lab.queue.machines.declare("m-2", labels={"arch": "arm64"})
        yield running


def needs(workload: Workload, *texts: str) -> Workload:
    return replace(workload, requires=read_requirements(texts, "requires"))


async def queue(visitor: Visitor, *names: str, sure: bool = False) -> Reply:
    fields = [("csrf", (await visitor.see("/templates")).field("csrf")), *(("template", name) for name in names)]
    return await visitor.post("/templates", *fields, *([("sure", "1")] if sure else []), Dispatch_Page="1")


def waiting(lab: ServiceBench) -> list[tuple[str, str]]:
    runs = lab.bench.lab.queue.runs.values()
    return [(run.group, run.workload.name) for run in runs if run.outcome is None]


async def test_each_template_says_what_fits_it(lab: ServiceBench) -> None:
    page = await (await signed_in(lab, "bob")).see("/templates")
    assert [each["id"] for each in page.all("tr") if "id" in each] == ["t-boot", "t-smoke", "t-vector"]
    assert f"boots {HOSTILE} a.efi boot lab 2 never run lab file Queue …" in page.words
    assert "smoke b.efi boot arm arch=arm64 1 never run more.yaml Queue …" in page.words
    assert "vector c.efi boot lab arch=riscv64 none never run lab file Queue …" in page.words
    assert not page.all("img")
    assert "\u202e" not in page.text


async def test_filters_are_in_the_address(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    for query, expected in (("group=arm", ["t-smoke"]), ("named=A.EFI", ["t-boot"]), ("named=vec", ["t-vector"])):
        page = await visitor.see(f"/templates?{query}")
        assert [each["id"] for each in page.all("tr") if "id" in each] == expected
    assert "No template is like that." in (await visitor.see("/templates?named=none")).words


async def test_a_reader_is_offered_nothing_to_queue_and_refused_it(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/templates")
    assert not [each for each in page.all("button") if each.get("name") == "one"]
    assert (await queue(visitor, "boot", sure=True)).status == 403
    assert not waiting(lab)


async def test_what_fits_and_when_it_starts_is_said_before_it_is_queued(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    asked = (await queue(visitor, "boot", "smoke")).json
    assert asked["ask"] == "Queue 2 runs?"
    assert "boot: 2 machines fit" in asked["text"]
    assert "smoke: 1 machine fits" in asked["text"]
    assert not waiting(lab)
    done = (await queue(visitor, "boot", "smoke", sure=True)).json
    assert (done["said"], done["failed"]) == ("2 runs queued.", False)
    assert waiting(lab) == [("lab", "a.efi"), ("arm", "b.efi")]
    assert [entry["who"] for entry in await lab.audit(action="run.queue")] == ["bob"] * 2


async def test_what_waits_already_is_said(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    await queue(visitor, "boot", sure=True)
    await queue(visitor, "boot", sure=True)
    asked = (await queue(visitor, "boot", "smoke")).json
    assert asked["text"].startswith("Waiting or under way already: boot (2).")


async def test_queueing_can_be_undone(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    undo = (await queue(visitor, "boot", "smoke", sure=True)).json["undo"]
    csrf = (await visitor.see("/templates")).field("csrf")
    reply = await visitor.post(undo["action"], ("csrf", csrf), *map(tuple, undo["fields"]), Dispatch_Page="1")
    assert reply.status == 200, reply.text
    assert not waiting(lab)


@pytest.mark.parametrize("sure", [False, True])
async def test_what_no_machine_can_ever_run_is_refused(lab: ServiceBench, *, sure: bool) -> None:
    done = (await queue(await signed_in(lab, "bob"), "boot", "vector", sure=sure)).json
    assert done["failed"]
    expected = "Nothing was queued: vector needs a machine with arch=riscv64, and this lab has none."
    assert done["said"] == expected
    assert not waiting(lab)


async def test_a_template_that_is_not_known_is_refused(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    reply = await queue(visitor, "boot", "gone", sure=True)
    assert reply.status == 400
    assert reply.json["error"] == "expected a template of this lab, got 'gone'; load the page again"
    assert (await queue(visitor)).status == 400
    assert not waiting(lab)


async def test_a_token_for_one_group_queues_in_it_alone(lab: ServiceBench) -> None:
    visitor = Visitor(lab, token=await lab.token("bob", groups=("arm",)))
    page = await visitor.see("/templates")
    assert [each["id"] for each in page.all("tr") if "id" in each] == ["t-smoke"]
    for name, status in (("boot", 403), ("smoke", 200)):
        reply = await visitor.post("/templates", ("template", name), ("sure", "1"), Dispatch_Page="1")
        assert reply.status == status, reply.text
    assert waiting(lab) == [("arm", "b.efi")]


async def test_without_a_script_a_page_asks(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/templates")).field("csrf")
    reply = await visitor.post("/templates", ("csrf", csrf), ("one", "boot"), ("next", "/templates"))
    asked = SeenPage(reply.text)
    assert "boot: 2 machines fit" in asked.words
    sent = [(each["name"], each["value"]) for each in asked.all("input") if "name" in each]
    reply = await visitor.post("/templates", *sent)
    assert (reply.status, reply.headers["location"]) == (303, "/templates")
    assert waiting(lab) == [("lab", "a.efi")]


async def test_how_it_ended_last_leads_to_the_run(lab: ServiceBench) -> None:
    [run] = await runs_through(lab.bench, "a.efi")
    page = await (await signed_in(lab, "eve")).see("/templates?named=boot")
    assert f"/runs/{run.id}" in page.links
    assert "passed" in page.words


async def test_how_its_runs_ended_in_the_last_days_is_counted(lab: ServiceBench) -> None:
    await runs_through(lab.bench, "a.efi")
    await runs_through(lab.bench, "a.efi")
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/templates?named=boot")
    assert "a.efi boot lab 3 2 passed passed" in page.words
    [recent] = [each["href"] for each in page.all("a") if each.get("class") == "cell"]
    assert len([each for each in (await visitor.see(recent)).all("tr") if each.get("id", "").startswith("h-")]) == 2
    lab.bench.clock.ahead += 31 * 86_400
    visitor = await signed_in(lab, "eve")
    assert "2 passed" not in (await visitor.see("/templates?named=boot")).words


async def reload(visitor: Visitor, *fields: tuple[str, str]) -> Reply:
    csrf = (await visitor.see("/templates")).field("csrf")
    return await visitor.post("/templates", ("csrf", csrf), ("do", "reload"), *fields, Dispatch_Page="1")


async def test_the_file_is_read_again_once_it_was_said_what_is_different(lab: ServiceBench) -> None:
    boot, smoke = (lab.bench.lab.group_service.templates[name] for name in ("boot", "smoke"))
    arm = Group(id="arm", labels={"arch": "arm64"})
    before = Roster(groups=(Group(id="lab"), arm), templates=(boot, smoke))
    file = {"now": Configuration(roster=before)}
    await lab.bench.lab.configure(before, lambda: file["now"], lambda _machine: DrivenMachine(), PlayedRounds())
    visitor = await signed_in(lab, "ada")
    assert [each for each in (await visitor.see("/templates")).all("button") if each.get("value") == "reload"]
    same = "The file says what the lab has already, so nothing was changed."
    assert (await reload(visitor)).json["said"] == same
    after = replace(before, templates=(replace(boot, description="other"), replace(smoke, id=f"new{HOSTILE[0]}")))
    file["now"] = Configuration(roster=after, restart=("server.boot",))
    asked = (await reload(visitor)).json
    different = "Templates: added new<; changed boot; removed smoke. After a restart: server.boot."
    assert asked["ask"] == "Read the lab's file again?"
    assert asked["text"] == f"{different} Runs go on; what is gone takes no more of them."
    assert set(lab.bench.lab.group_service.templates) == {"boot", "smoke"}
    assert (await lab.ask("GET", "/reload")).json["templates"] == {
        "added": ["new<"],
        "changed": ["boot"],
        "gone": ["smoke"],
    }
    assert (await reload(visitor, ("sure", "1"))).json["said"] == different
    assert set(lab.bench.lab.group_service.templates) == {"boot", "new<"}
    assert [entry["action"] for entry in await lab.audit(who="ada", action="lab.reload")] == ["lab.reload"]
    operator = await signed_in(lab, "bob")
    assert not [each for each in (await operator.see("/templates")).all("button") if each.get("value") == "reload"]
    for fields in ((), (("sure", "1"),)):
        assert (await reload(operator, *fields)).status == 403


async def test_a_lab_without_templates_says_how_one_is_made(tmp_path: Path) -> None:
    async with service(tmp_path, pages=True) as running:
        await running.added("eve", Role.READER, password=PASSWORD)
        assert "This lab has no templates." in (await (await signed_in(running, "eve")).see("/templates")).words
