"""The page of a run: whose fault its end is, what it said, and what is done with it."""

from __future__ import annotations

from typing import Any

import pytest
from labs import Reply
from service_bench import ServiceBench
from visitors import Visitor, signed_in
from waiting import until

from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Policy, Run

pytestmark = pytest.mark.anyio


async def done(visitor: Visitor, run: Run, *fields: tuple[str, str]) -> Reply:
    """Send a form of the page as its script does."""
    csrf = (await visitor.see(f"/runs/{run.id}")).field("csrf")
    return await visitor.post("/runs", ("run", run.id), *fields, Dispatch_Page="1", Dispatch_CSRF=csrf)


async def ended(lab: ServiceBench, **report: Any) -> Run:
    """Let a machine run something to its end, with this report."""
    run = await lab.bench.booted()
    assert (await lab.bench.report(**report)).status == 200
    await lab.bench.call("HEAD")
    await until(lambda: lab.bench.now(run).outcome is not None)
    return run


async def test_a_run_that_waits_says_why_and_how_each_machine_is_seen(lab: ServiceBench) -> None:
    lab.bench.lab.queue.machines.declare("m-1", labels={"arch": "arm64"})
    opened = await lab.session(lab.secrets["bob"])
    page = await (await signed_in(lab, "eve")).see(f"/runs/{opened.run}")
    assert "It waits" in page.words
    assert "Place 1 in lab" in page.words
    assert "m-1 yes m-1 has never asked for work" in page.words


async def test_what_keeps_the_run_itself_keeps_each_machine(lab: ServiceBench) -> None:
    lab.bench.lab.queue.machines.declare("m-1", labels={"arch": "arm64"})
    opened = await lab.session(lab.secrets["bob"])
    lab.bench.lab.queue.groups.pause("lab", Hold(reason="it is night", owner="ada"), 0.0)
    page = await (await signed_in(lab, "eve")).see(f"/runs/{opened.run}")
    assert "m-1 yes group lab is paused by ada: it is night; m-1 has never asked for work" in page.words


async def test_the_run_that_goes_first_is_named_by_its_id_and_linked(lab: ServiceBench) -> None:
    lab.bench.lab.queue.machines.declare("m-1", labels={"arch": "arm64"})
    first = await lab.session(lab.secrets["bob"], "a.efi")
    second = await lab.session(lab.secrets["bob"], "b.efi")
    page = await (await signed_in(lab, "eve")).see(f"/runs/{second.run}")
    assert f"Goes first a.efi {first.run}" in page.words
    assert f"/runs/{first.run}" in page.links


async def test_a_run_under_way_has_its_console_followed(lab: ServiceBench) -> None:
    run = await lab.bench.booted()
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "It is booting on 127.0.0.2." in page.words
    [console] = [each for each in page.all("pre") if each.get("id") == "console"]
    assert console["data-follow"] == run.id
    assert page.all("body")[0]["data-live"] == f"run:{run.id} ended:{run.id}"


async def tried(lab: ServiceBench, *reports: dict[str, Any], name: str = "a.efi") -> Run:
    """Let a machine try something until it may not be tried again, with one of these reports each time."""
    bench = lab.bench
    [run] = await bench.submit(bench.workload(name), policy=Policy(retry_failures=len(reports) - 1))
    for number, report in enumerate(reports, 1):
        await bench.call("HEAD")
        await bench.download(run)
        assert (await bench.call("POST")).status == 200
        bench.lab.console.shown("127.0.0.2", f"this is try {number}")
        assert (await bench.report(**report)).status == 200
        await bench.call("HEAD")
        await until(lambda: bench.now(run).attempts[number - 1].outcome is not None)  # noqa: B023 - at once
    return bench.now(run)


async def test_attempts_stand_side_by_side_each_with_its_console(lab: ServiceBench) -> None:
    run = await tried(
        lab, {"result": "failed", "title": "one"}, {"result": "failed", "title": "two"}, {"result": "passed"}
    )
    visitor = await signed_in(lab, "eve")
    page = await visitor.see(f"/runs/{run.id}")
    assert "It passed, at attempt 3." in page.words
    [columns] = [each for each in page.all("ol") if each.get("class") == "attempts"]
    assert columns
    assert (
        page.words.index("Attempt 1 failed")
        < page.words.index("Attempt 2 failed")
        < page.words.index("Attempt 3 passed")
    )
    assert "it reported failed: one" in page.words
    assert "this is try 3" in page.words
    first = await visitor.see(f"/runs/{run.id}?attempt=1")
    assert "Console of attempt 1" in first.words
    assert "this is try 1" in first.words
    assert "this is try 3" not in first.words


async def test_a_failure_says_since_when_and_what_is_different(lab: ServiceBench) -> None:
    good = await tried(lab, {"result": "passed"})
    bad = [await tried(lab, {"result": "failed"}) for _ in range(2)]  # its bytes are others each time
    await tried(lab, {"result": "passed"})
    visitor = await signed_in(lab, "eve")
    page = await visitor.see(f"/runs/{bad[1].id}")
    assert f"First bad run {bad[0].id}" in page.words
    assert f"Last good run before {good.id}" in page.words
    assert "Another digest sha256:" in page.words
    assert "First bad run this one" in (await visitor.see(f"/runs/{bad[0].id}")).words
    assert "Since when" not in (await visitor.see(f"/runs/{good.id}")).words


async def test_who_cancelled_a_run_stands_in_its_reason_and_no_fault_with_it(lab: ServiceBench) -> None:
    run, visitor = await lab.bench.booted(), await signed_in(lab, "bob")
    await done(visitor, run, ("do", "cancel"), ("sure", "1"))
    await until(lambda: lab.bench.now(run).outcome is not None)
    assert lab.bench.now(run).reason == "cancelled by bob while booting"
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "It was cancelled by bob while booting." in page.words
    shown = [each["data-state"] for each in page.all("span") if each.get("class") == "state"]
    assert "cancelled" in shown
    assert not {"error", "failed"} & set(shown)
    assert "bob cancelled it" in page.words
    for path in ("/", "/history"):
        listed = await visitor.see(path)
        assert [each["data-state"] for each in listed.all("span") if each.get("class") == "state"].count(
            "cancelled"
        ) == 1
        assert "cancelled by bob while booting" in listed.words, path


async def test_who_held_moved_and_queued_a_run_again_is_told_to_every_reader(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    run, ada = lab.bench.lab.session_service.run(opened.run), await signed_in(lab, "ada")
    await done(ada, run, ("do", "hold"), ("reason", "for the night"), ("sure", "1"))
    await done(ada, run, ("do", "release"))
    await lab.ask("POST", f"/runs/{run.id}/move", {"top": True}, token=lab.secrets["bob"])
    await lab.ask("PATCH", f"/runs/{run.id}", {"priority": 1}, token=lab.secrets["bob"])
    words = (await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")).words
    told = words[words.index("What people did") :]
    deeds = (
        "ada held it: for the night",
        "ada ended its hold",
        "bob moved it in the queue",
        "bob changed how it waits: priority high",
    )
    assert [told.index(each) for each in deeds] == sorted(told.index(each) for each in deeds)
    assert "127.0.0.1" not in told, "addresses are for administrators"


async def test_a_run_that_had_no_machine_is_offered_no_same_one(lab: ServiceBench) -> None:
    visitor, ran = await signed_in(lab, "bob"), await ended(lab, result="passed")
    opened = await lab.session(lab.secrets["bob"], "b.efi")
    assert (await lab.ask("DELETE", f"/runs/{opened.run}", token=lab.secrets["bob"])).status == 204
    await until(lambda: lab.bench.lab.queue.runs[opened.run].outcome is not None)
    offered = {
        run: [each.get("value") for each in (await visitor.see(f"/runs/{run}")).all("option")]
        for run in (ran.id, opened.run)
    }
    assert {"same", "other"} <= set(offered[ran.id])
    assert not {"same", "other"} & set(offered[opened.run])


async def test_a_report_is_markdown_as_far_as_it_is_harmless(lab: ServiceBench) -> None:
    run = await ended(lab, result="failed", body="# Memory\n\n- **3** of 4\n\n<b>x</b> [log](https://a.example/x)")
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "<h4>Memory</h4>" in page.source
    assert "<strong>3</strong> of 4" in page.source
    assert "&lt;b&gt;x&lt;/b&gt;" in page.source
    assert [each["rel"] for each in page.all("a") if each["href"] == "https://a.example/x"] == [
        "noreferrer noopener nofollow"
    ]


async def test_a_long_report_is_shown_as_it_was_written_and_cut(lab: ServiceBench) -> None:
    run = await ended(lab, result="failed", body="**x** " * 5000)
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "**x** **x**" in page.text
    assert "Its first 20,000 characters" in page.words


async def test_a_failure_is_the_workloads_with_its_cases_and_text(lab: ServiceBench) -> None:
    cases = [{"name": "fine", "outcome": "passed"}, {"name": "bad", "outcome": "failed", "message": "3 of 4"}]
    run = await ended(lab, title="memory", body="two\nlines", cases=cases)
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "The workload failed: " in page.words
    assert page.words.index("bad") < page.words.index("fine")
    assert "two\nlines" in page.text
    assert "3 of 4" in page.words


async def test_a_run_that_ended_is_queued_again_noted_and_counted_otherwise(lab: ServiceBench) -> None:
    run, visitor = await ended(lab, result="failed"), await signed_in(lab, "bob")
    assert (await done(visitor, run, ("do", "again"), ("machine", "other"))).json["said"].endswith("queued again.")
    assert lab.bench.lab.queue.group_queue.queued("lab") == 1
    assert not (await done(visitor, run, ("do", "note"), ("text", "the fan again"))).json["failed"]
    reply = (await done(visitor, run, ("do", "override"), ("outcome", "passed"), ("reason", "a loose cable"))).json
    assert reply["said"].endswith("counts otherwise now.")
    page = await visitor.see(f"/runs/{run.id}")
    assert "It ended as failed. bob has it count as passed" in page.words
    assert "a loose cable" in page.words
    assert "the fan again bob" in page.words
    reply = (await done(visitor, run, *((name, value) for name, value in reply["undo"]["fields"]))).json
    assert reply["said"].endswith("counts as it ended.")
    words = (await visitor.see(f"/runs/{run.id}")).words
    assert "has it count" not in words
    assert "bob had it count as it ended: failed" in words


async def test_what_counts_as_it_ended_is_not_said_to_be_withdrawn(lab: ServiceBench) -> None:
    run, visitor = await ended(lab, result="failed"), await signed_in(lab, "bob")
    reply = (await done(visitor, run, ("do", "withdraw"))).json
    assert reply["said"].endswith("counts as it ended already.")
    assert not reply["failed"]


async def test_undoing_an_override_brings_the_one_before_back(lab: ServiceBench) -> None:
    run, visitor = await ended(lab, result="passed"), await signed_in(lab, "bob")
    for outcome, reason in (("failed", "it ran too hot"), ("skipped", "the wrong board")):
        reply = (await done(visitor, run, ("do", "override"), ("outcome", outcome), ("reason", reason))).json
    reply = (await done(visitor, run, *((name, value) for name, value in reply["undo"]["fields"]))).json
    assert not reply["failed"], reply
    words = (await visitor.see(f"/runs/{run.id}")).words
    assert "bob has it count as failed" in words
    assert "it ran too hot" in words


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([("do", "again"), ("machine", "mine")], "machine: expected one of same, other"),
        ([("do", "override"), ("outcome", "good")], "outcome: expected one of passed"),
        ([("do", "override"), ("outcome", "passed"), ("reason", " ")], "reason: expected some words"),
        ([("do", "note"), ("text", "")], "text: expected some words"),
    ],
    ids=["another machine", "another outcome", "no reason", "no text"],
)
async def test_what_says_nothing_useful_is_answered(
    lab: ServiceBench, fields: list[tuple[str, str]], told: str
) -> None:
    run = await ended(lab, result="failed")
    reply = (await done(await signed_in(lab, "bob"), run, *fields)).json
    assert reply["failed"]
    assert told in reply["said"]


async def test_a_reader_is_offered_nothing_to_do(lab: ServiceBench) -> None:
    run, visitor = await ended(lab, result="failed"), await signed_in(lab, "eve")
    assert "do" not in {each.get("name") for each in (await visitor.see(f"/runs/{run.id}")).all("button")}
    assert (await done(visitor, run, ("do", "again"))).status == 403


async def test_a_link_that_is_no_web_page_is_text(lab: ServiceBench) -> None:
    run, visitor = await ended(lab, result="failed"), await signed_in(lab, "ada")
    await lab.ask("POST", f"/runs/{run.id}/links", {"url": "https://github.com/me/lab/issues/7"})
    page = await visitor.see(f"/runs/{run.id}")
    assert "https://github.com/me/lab/issues/7" in page.links
    assert all(link.startswith(("/", "https://", "#")) for link in page.links)


async def test_a_run_that_nobody_knows_has_no_page(lab: ServiceBench) -> None:
    reply = await (await signed_in(lab, "eve")).ask("GET", "/runs/none")
    assert reply.status == 404
