"""The pages of machines: what they show, and what is done with a machine."""

from __future__ import annotations

import pytest
from labs import Reply
from past_runs import runs_through
from service_bench import ServiceBench
from visitors import Visitor, signed_in
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.machine import Hold, Identity
from pytest_dispatch.core.model import KnownBy

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lab(lab: ServiceBench) -> ServiceBench:
    """With two machines."""
    machines = lab.bench.lab.queue.machines
    machines.declare("m-1", Identity(KnownBy.ADDRESS, "127.0.0.2"), labels={"arch": "arm64"})
    machines.declare("m-2", Identity(KnownBy.ADDRESS, "127.0.0.3"), labels={"arch": "x86_64"})
    return lab


async def done(visitor: Visitor, *fields: tuple[str, str]) -> Reply:
    """Send a form of the page as its script does."""
    csrf = (await visitor.see("/machines")).field("csrf")
    return await visitor.post("/machines", *fields, Dispatch_Page="1", Dispatch_CSRF=csrf)


async def test_a_machine_shows_what_it_runs_and_what_ended_on_it(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/machines/m-1")
    assert "unknown" in page.words
    assert "Nothing has." in page.words
    run = await lab.bench.booted()
    page = await visitor.see("/machines")
    assert "m-1 running a.efi never seen before arch=arm64" in page.words
    assert f"/runs/{run.id}" in page.links
    await lab.bench.report(result="passed")
    await lab.bench.call("HEAD")
    await until(lambda: lab.bench.now(run).outcome is not None)
    page = await visitor.see("/machines/m-1")
    assert "Ended here: 1 of the last 1 passed" in page.words
    assert "address 127.0.0.2" in page.words


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"m-1", "m-2"}),
        ("?named=ARM", {"m-1"}),
        ("?named=m-2", {"m-2"}),
        ("?state=unknown", {"m-1", "m-2"}),
        ("?state=held", set()),
        ("?group=none", set()),
        ("?group=lab&named=x86", {"m-2"}),
    ],
)
async def test_filters_are_in_the_address(lab: ServiceBench, query: str, shown: set[str]) -> None:
    page = await (await signed_in(lab, "eve")).see(f"/machines{query}")
    assert {each["id"].removeprefix("m-") for each in page.all("tr") if each.get("id", "").startswith("m-")} == shown


async def test_a_machine_is_held_with_a_reason_and_returned(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    run = await lab.bench.booted()
    asked = (await done(visitor, ("hold", "m-1"))).json
    assert asked["ask"] == "Hold m-1?"
    assert f"{run.workload.name}, which it runs, goes on." in asked["text"]
    fields = (("do", "hold"), ("machine", "m-1"), ("sure", "1"), ("reason", "its fan is loud"))
    reply = (await done(visitor, *fields)).json
    assert reply["said"] == "m-1: held."
    assert "its fan is loud (bob" in (await visitor.see("/machines/m-1")).words
    reply = (await done(visitor, *((name, value) for name, value in reply["undo"]["fields"]))).json
    assert reply["said"] == "m-1: returned."
    assert [entry["action"] for entry in await lab.audit(target="m-1")] == ["machine.release", "machine.hold"]


async def held(visitor: Visitor, reason: str, *machines: str) -> Reply:
    """Hold machines for a reason."""
    named = [("machine", each) for each in machines]
    return await done(visitor, ("do", "hold"), *named, ("sure", "1"), ("reason", reason))


async def test_undoing_the_hold_of_a_held_machine_brings_the_first_hold_back(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    await held(visitor, "its fan is loud", "m-1")
    reply = (await held(visitor, "it moves", "m-1")).json
    assert not (await done(visitor, *map(tuple, reply["undo"]["fields"]))).json["failed"]
    words = (await visitor.see("/machines/m-1")).words
    assert "its fan is loud (bob" in words
    assert "it moves" not in words
    assert (await held(visitor, "both", "m-1", "m-2")).json["undo"] is None, "one was held, and one was free"


async def test_the_hold_of_several_machines_is_undone_for_all(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    reply = (await held(visitor, "they move", "m-1", "m-2")).json
    await done(visitor, *map(tuple, reply["undo"]["fields"]))
    assert "they move" not in (await visitor.see("/machines")).words
    assert {seen.hold for seen in lab.bench.lab.queue.machines.values()} == {None}


@pytest.mark.parametrize("hold", [Hold(reason="broken", owner="lab"), Hold(reason="for an hour", until=2e9)])
async def test_what_no_form_brings_back_is_not_offered_to_be_undone(lab: ServiceBench, hold: Hold) -> None:
    await lab.bench.lab.group_service.hold_machine("m-1", hold)
    assert (await held(await signed_in(lab, "bob"), "mine", "m-1")).json["undo"] is None


async def test_several_machines_are_asked_about_held_and_returned_together(lab: ServiceBench) -> None:
    visitor, both = await signed_in(lab, "ada"), (("machine", "m-1"), ("machine", "m-2"))
    run = await lab.bench.booted()
    asked = (await done(visitor, ("do", "hold"), *both)).json
    assert asked["ask"] == "Hold m-1 and m-2?"
    assert f"{run.workload.name}" in asked["text"]
    assert (await done(visitor, ("do", "remove"), *both)).json["ask"] == "Remove m-1 and m-2?"
    reply = (await done(visitor, ("do", "hold"), *both, ("sure", "1"), ("reason", "r"))).json
    assert reply["said"] == "2 machines held."
    reply = (await done(visitor, *((name, value) for name, value in reply["undo"]["fields"]))).json
    assert reply["said"] == "2 machines returned."


async def test_a_reader_is_offered_nothing(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    for path in ("/machines", "/machines/m-1"):
        names = {each.get("name") for each in (await visitor.see(path)).all("button")}
        assert not names & {"do", "hold", "return"}
    assert (await done(visitor, ("do", "return"), ("machine", "m-1"))).status == 403


async def test_a_machine_that_cannot_be_held_or_removed_is_told_at_once(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    for deed in ("hold", "remove", "return"):
        reply = (await done(visitor, ("do", deed), ("machine", "nope"))).json
        assert "ask" not in reply
        assert (reply["failed"], "no machine 'nope'" in reply["said"]) == (True, True)
    reply = (await done(visitor, ("do", "return"), ("machine", "m-1"))).json
    assert (reply["said"], reply["failed"]) == ("m-1 is not held.", False)


async def test_a_token_of_other_groups_is_not_asked_about_a_machine(lab: ServiceBench) -> None:
    groups = [Group(id="arm", labels={"arch": "arm64"}), Group(id="x86", labels={"arch": "x86_64"})]
    await lab.bench.lab.group_service.configure(groups, ())
    visitor = Visitor(lab, token=await lab.token("bob", groups=("x86",)))
    reply = (await visitor.post("/machines", ("do", "hold"), ("machine", "m-1"), Dispatch_Page="1")).json
    assert (reply["failed"], "expected a group that this token is for" in reply["said"]) == (True, True)
    asked = (await visitor.post("/machines", ("do", "hold"), ("machine", "m-2"), Dispatch_Page="1")).json
    assert asked["ask"] == "Hold m-2?"


async def test_only_an_administrator_removes_a_machine(lab: ServiceBench) -> None:
    fields = (("do", "remove"), ("machine", "m-2"), ("sure", "1"))
    reply = (await done(await signed_in(lab, "bob"), *fields)).json
    assert reply["failed"]
    assert "expected the role admin" in reply["said"]
    reply = (await done(await signed_in(lab, "ada"), *fields)).json
    assert (reply["said"], reply["next"]) == ("m-2: removed.", "/machines")
    assert (await (await signed_in(lab, "ada")).ask("GET", "/machines/m-2")).status == 404


async def test_what_the_lab_does_not_know_has_no_page(lab: ServiceBench) -> None:
    reply = await (await signed_in(lab, "eve")).ask("GET", "/machines/none")
    assert reply.status == 404
    assert "no machine" in reply.text


async def test_its_last_day_is_drawn_and_told_in_a_table(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    await runs_through(lab.bench, "a.efi")
    await held(visitor, "its fan is loud", "m-1")
    lab.bench.lab.diary.look()
    page = await visitor.see("/machines/m-1")
    drawings = [each["aria-label"].partition(";")[0] for each in page.all("svg") if "aria-label" in each]
    assert drawings == ["Runs of m-1 over 24 hours", "State of m-1 over 24 hours"]
    assert {"passed", "held"} <= {each.get("class") for each in page.all("path")}
    assert "now held its fan is loud (ada)" in page.words
    assert "passed a.efi" in page.words
    assert "a.efi 1 1 " in page.words, "how long its workloads take there"
    assert "% of 24h" in page.words


async def test_administrators_see_what_people_did_to_it_and_others_do_not(lab: ServiceBench) -> None:
    ada, eve = await signed_in(lab, "ada"), await signed_in(lab, "eve")
    assert "What people did to it Nothing yet." in (await ada.see("/machines/m-1")).words
    await held(ada, "its fan is loud", "m-1")
    await held(ada, "not this one", "m-2")
    page = await ada.see("/machines/m-1")
    assert "machine.hold ada reason: its fan is loud" in page.words
    assert "not this one" not in page.words
    assert "/audit?action=machine&target=m-1" in page.links
    page = await eve.see("/machines/m-1")
    assert "What people did to it" not in page.words
    assert not [link for link in page.links if link.startswith("/audit")]


async def test_what_the_lab_noted_of_it_is_told_to_everybody(lab: ServiceBench) -> None:
    lab.bench.lab.notices.note("m-1", "stays on", "", "no power, it says")
    lab.bench.lab.notices.note("m-2", "stays on", "", "not of this one")
    words = (await (await signed_in(lab, "eve")).see("/machines/m-1")).words
    assert "Told by the lab" in words
    assert "stays on no power, it says 1" in words
    assert "not of this one" not in words
