"""The page Queue: what it shows, what it does for whom, what it asks first, and what can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from labs import Reply
from service_bench import ServiceBench
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Policy, Priority
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.server.api.group_schemas import HoldWanted, QueueWanted
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunRequest
from pytest_dispatch.server.web.queue_page import PAGE

pytestmark = pytest.mark.anyio

MOST_BYTES, MOST_NODES = 50_000, 3_000


async def queued(lab: ServiceBench, names: Sequence[str], user: str = "bob", **fields: Any) -> list[str]:
    """Queue runs of a user, and return their ids."""
    wanted = OpenSession(source="w", policy=Policy(), lease=LeaseWanted(kind=LeaseKind.DETACHED))
    session = (await lab.ask("POST", "/sessions", wanted, token=lab.secrets[user])).json["id"]
    one = lab.bench.workload(f"{session}.efi", **fields)  # whose file no later call writes anew
    runs = [RunRequest(key=name, workload=replace(one, name=name)) for name in names]
    reply = await lab.ask(
        "POST", f"/sessions/{session}/runs", runs, token=lab.secrets[user], headers={"Dispatch-Epoch": "1"}
    )
    assert reply.status == 200, reply.text
    return [view["run"]["id"] for view in reply.json]


def order(page: SeenPage) -> list[str]:
    """The runs in the table, in their order."""
    return [each["data-run"] for each in page.all("tr") if "data-run" in each]


async def done(visitor: Visitor, *fields: tuple[str, str]) -> Reply:
    """Send the form of the page as its script does."""
    csrf = (await visitor.see("/queue")).field("csrf")
    return await visitor.post("/queue", *fields, Dispatch_Page="1", Dispatch_CSRF=csrf)


async def undone(visitor: Visitor, reply: Reply) -> Reply:
    undo = reply.json["undo"]
    assert undo["action"] == "/queue"
    return await done(visitor, *[(name, value) for name, value in undo["fields"]])


async def test_it_shows_what_waits_why_and_for_whom(lab: ServiceBench) -> None:
    await queued(lab, ["a.efi", "b.efi"])
    page = await (await signed_in(lab, "eve")).see("/queue")
    assert "2 runs wait" in page.words
    assert "normal" in page.words
    assert len(order(page)) == 2


async def test_a_reader_is_offered_nothing_and_refused(lab: ServiceBench) -> None:
    [run, other] = await queued(lab, ["a.efi", "b.efi"])
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/queue")
    assert not [each for each in page.all("button") if each.get("name") in {"do", "top", "cancel", "pause"}]
    reply = await done(visitor, ("do", "top"), ("run", other))
    assert reply.status == 403
    assert "expected the role operator" in reply.json["error"]
    assert order(await visitor.see("/queue")) == [run, other]


@pytest.mark.parametrize(
    ("deed", "named", "expected"),
    [
        ("top", "d", "dabce"),
        ("top", "ce", "ceabd"),
        ("up", "c", "acbde"),
        ("up", "cd", "acdbe"),
        ("down", "b", "acbde"),
        ("down", "bc", "adbce"),
    ],
)
async def test_runs_are_moved_together_and_back(lab: ServiceBench, deed: str, named: str, expected: str) -> None:
    runs = dict(zip("abcde", await queued(lab, list("abcde")), strict=True))
    visitor = await signed_in(lab, "bob")
    reply = await done(visitor, ("do", deed), *(("run", runs[name]) for name in named))
    assert not reply.json["failed"], reply.text
    assert order(await visitor.see("/queue")) == [runs[name] for name in expected]
    assert not (await undone(visitor, reply)).json["failed"]
    assert order(await visitor.see("/queue")) == list(runs.values())


@pytest.mark.parametrize(
    ("deed", "named", "anchor"), [("up", "a", ""), ("down", "c", ""), ("top", "a", ""), ("before", "b", "b")]
)
async def test_a_run_that_stays_where_it_is_is_not_said_to_be_moved(
    lab: ServiceBench, deed: str, named: str, anchor: str
) -> None:
    runs = dict(zip("abc", await queued(lab, list("abc")), strict=True))
    visitor = await signed_in(lab, "bob")
    anchors = [("anchor", runs[anchor])] if anchor else []
    reply = (await done(visitor, ("do", deed), ("run", runs[named]), *anchors)).json
    assert (reply["said"], reply["failed"], reply["undo"]) == (f"{named} stays where it is.", False, None)
    assert order(await visitor.see("/queue")) == list(runs.values())


async def test_what_is_not_held_is_not_said_to_be_released(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a", "b"])
    visitor = await signed_in(lab, "bob")
    for fields, said in (
        ((("do", "release"), ("run", a)), "a is not held."),
        ((("do", "resume"), ("group", "lab")), "lab is not paused."),
        ((("do", "go"),), "The whole lab is not held."),
    ):
        reply = (await done(visitor, *fields)).json
        assert (reply["said"], reply["failed"], reply["undo"]) == (said, False, None)
    await lab.ask("POST", f"/runs/{b}/hold", HoldWanted(reason="r"))
    reply = (await done(visitor, ("do", "release"), ("run", a), ("run", b))).json
    assert (reply["said"], reply["failed"]) == ("1 run released. 1 not: a is not held.", False)


async def test_a_run_that_is_over_is_neither_asked_about_nor_cancelled_again(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a", "b"])
    visitor = await signed_in(lab, "bob")
    await done(visitor, ("do", "cancel"), ("sure", "1"), ("run", a))
    for deed in ("cancel", "hold"):
        reply = (await done(visitor, ("do", deed), ("run", a))).json
        assert (reply["said"], reply["failed"]) == ("a is over already: cancelled.", False)
    both = (("do", "cancel"), ("run", a), ("run", b))
    asked = (await done(visitor, *both)).json
    assert asked["ask"] == "Cancel 1 run?"
    assert "under way" not in asked["text"]
    assert "1 not: a is over already: cancelled." in asked["text"]
    assert (await done(visitor, *both, ("sure", "1"))).json["said"] == (
        "1 run cancelled. 1 not: a is over already: cancelled."
    )


async def test_what_the_lab_does_not_know_is_told_at_once(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    for deed, of in (("cancel", "run"), ("hold", "run"), ("pause", "group")):
        reply = (await done(visitor, ("do", deed), (of, "nope"))).json
        assert "ask" not in reply
        assert reply["failed"]
        assert f"no {of} 'nope'" in reply["said"]


async def test_a_run_is_put_beside_another_one(lab: ServiceBench) -> None:
    a, b, c = await queued(lab, list("abc"))
    visitor = await signed_in(lab, "bob")
    await done(visitor, ("do", "before"), ("run", c), ("anchor", a))
    assert order(await visitor.see("/queue")) == [c, a, b]
    await done(visitor, ("do", "after"), ("run", c), ("anchor", b))
    assert order(await visitor.see("/queue")) == [a, b, c]
    assert [entry["action"] for entry in await lab.audit(who="bob", action="run")][:2] == ["run.move", "run.move"]


async def test_a_hold_needs_a_reason_and_is_undone(lab: ServiceBench) -> None:
    [run] = await queued(lab, ["a.efi"])
    visitor = await signed_in(lab, "bob")
    asked = (await done(visitor, ("do", "hold"), ("run", run))).json
    assert (asked["ask"], asked["reason"]) == ("Hold 1 run?", True)
    reply = await done(visitor, ("do", "hold"), ("run", run), ("sure", "1"), ("reason", "it is mended"))
    assert reply.json["said"] == "a.efi: held."
    assert "it is mended (bob)" in (await visitor.see("/queue")).words
    reply = await undone(visitor, reply)
    assert reply.json["said"] == "a.efi: released."
    assert "it is mended" not in (await visitor.see("/queue")).words
    assert (await undone(visitor, reply)).json["said"] == "a.efi: held."


async def test_what_cancels_says_whose_runs_they_are_before_it_does(lab: ServiceBench) -> None:
    mine, theirs = await queued(lab, ["a.efi"]), await queued(lab, ["b.efi", "c.efi"], user="ada")
    visitor = await signed_in(lab, "bob")
    fields = [("do", "cancel"), *(("run", run) for run in (*mine, *theirs))]
    asked = (await done(visitor, *fields)).json
    assert asked["ask"] == "Cancel 3 runs?"
    assert "2 runs of another user's session (ada)." in asked["text"]
    assert len(order(await visitor.see("/queue"))) == 3
    reply = await done(visitor, *fields, ("sure", "1"))
    assert (reply.json["said"], reply.json["undo"]) == ("3 runs cancelled.", None)
    assert "Nothing waits" in (await visitor.see("/queue")).words
    assert len(await lab.audit(who="bob", action="run.cancel")) == 3


async def test_own_runs_that_a_token_queued_are_not_called_those_of_others(lab: ServiceBench) -> None:
    runs = []
    for user in ("bob", "ada"):
        wanted = QueueWanted(workload=replace(lab.bench.workload(f"{user}.efi"), name=user))
        reply = await lab.ask("POST", "/groups/lab/queue", wanted, token=lab.secrets[user])
        assert reply.status == 201, reply.text
        runs.append(("run", reply.json["id"]))
    visitor = await signed_in(lab, "bob")
    assert "another user" not in (await done(visitor, ("do", "cancel"), runs[0])).json["text"]
    assert "1 run of another user's session (ada)." in (await done(visitor, ("do", "cancel"), *runs)).json["text"]


async def test_a_priority_and_a_place_that_a_run_has_are_not_said_to_be_given(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a", "b"])
    visitor = await signed_in(lab, "bob")
    reply = (await done(visitor, ("do", "priority"), ("priority", "normal"), ("run", a))).json
    assert (reply["said"], reply["failed"], reply["undo"]) == (
        "a has that priority, and its place, already.",
        False,
        None,
    )
    reply = (await done(visitor, ("do", "back"), ("run", b), ("anchor", a))).json
    assert (reply["said"], reply["failed"]) == ("b is where it was.", False)


async def test_a_priority_is_given_and_taken_back(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a", "b"])
    visitor = await signed_in(lab, "bob")
    reply = await done(visitor, ("do", "priority"), ("priority", "urgent"), ("run", b))
    assert order(await visitor.see("/queue")) == [b, a]
    assert not (await undone(visitor, reply)).json["failed"]
    assert order(await visitor.see("/queue")) == [a, b]


async def test_a_group_and_the_lab_are_paused_and_resumed(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    asked = (await done(visitor, ("pause", "lab"))).json["text"]
    assert asked == "No run waits; those that are queued later do not begin until somebody resumes it."
    reply = await done(visitor, ("do", "pause"), ("group", "lab"), ("sure", "1"), ("reason", "it is night"))
    assert reply.json["said"] == "lab: paused."
    assert "it is night (bob, since" in (await visitor.see("/queue")).words
    await undone(visitor, reply)
    assert "it is night" not in (await visitor.see("/queue")).words
    reply = await done(visitor, ("do", "stop"), ("sure", "1"), ("reason", "power"))
    assert reply.json["said"] == "The whole lab is held."
    assert "The whole lab is held: power (bob" in (await visitor.see("/queue")).words
    await undone(visitor, reply)
    assert "power" not in (await visitor.see("/queue")).words


@pytest.mark.parametrize(("deed", "named"), [("hold", "run"), ("pause", "group"), ("stop", "")])
async def test_undoing_a_second_hold_brings_the_first_one_back(lab: ServiceBench, deed: str, named: str) -> None:
    visitor, ids = await signed_in(lab, "bob"), {"run": (await queued(lab, ["a.efi"]))[0], "group": "lab"}
    fields = [("do", deed), ("sure", "1"), *([(named, ids[named])] if named else [])]
    await done(visitor, *fields, ("reason", "first"))
    second = await done(visitor, *fields, ("reason", "second"))
    assert "second (bob" in (await visitor.see("/queue")).words
    assert not (await undone(visitor, second)).json["failed"]
    words = (await visitor.see("/queue")).words
    assert "first (bob" in words
    assert "second (bob" not in words


@pytest.mark.parametrize("path", ["/hold", "/groups/lab/hold", "/machines/m-1/hold"])
async def test_a_hold_until_no_date_is_refused_and_one_of_before_is_shown(lab: ServiceBench, path: str) -> None:
    queue = lab.bench.lab.queue
    queue.machines.declare("m-1")
    for until in (253_402_300_800, 1e12, 1e300):
        reply = await lab.ask("POST", path, {"reason": "r", "until": until}, token=lab.secrets["bob"])
        assert reply.status == 400
        assert "until: expected seconds since 1970, before the year 9999" in reply.json["error"]
        hold = Hold(reason="for ever", until=until)
        for group in ("", "lab"):
            queue.groups.pause(group, hold, 0.0)
        queue.machines.withhold("m-1", hold)
        visitor = await signed_in(lab, "bob")
        for page in ("/queue", "/", "/machines/m-1"):
            assert "for ever" in (await visitor.see(page)).words


async def test_several_groups_are_asked_about_paused_and_resumed_together(lab: ServiceBench) -> None:
    await lab.bench.lab.group_service.configure([Group(id="lab"), Group(id="arm")], ())
    await queued(lab, ["a.efi"])
    await queued(lab, ["b.efi"], group="arm")
    visitor, fields = await signed_in(lab, "bob"), [("do", "pause"), ("group", "lab"), ("group", "arm")]
    asked = (await done(visitor, *fields)).json
    assert asked["ask"] == "Pause lab and arm?"
    assert asked["text"] == "2 runs that wait do not begin until somebody resumes them."
    reply = await done(visitor, *fields, ("sure", "1"), ("reason", "it is night"))
    assert reply.json["said"] == "2 groups paused."
    assert (await undone(visitor, reply)).json["said"] == "2 groups resumed."


async def test_what_is_refused_is_told_and_the_rest_is_done(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a", "b"])
    visitor = await signed_in(lab, "bob")
    reply = (await done(visitor, ("do", "top"), ("run", a), ("run", "no-such-run"), ("run", b))).json
    assert reply["failed"]
    assert reply["said"].startswith("2 runs moved to the top. 1 not: no run")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([("do", "explode")], "do: expected one of top, up"),
        ([("do", "top")], "expected at least one run, got none"),
        ([("do", "priority"), ("priority", "now"), ("run", "{run}")], "priority: expected one of urgent"),
        ([("do", "hold"), ("sure", "1"), ("run", "{run}")], "reason: expected some words"),
        ([("do", "after"), ("anchor", ""), ("run", "{run}")], "expected one of before, after"),
    ],
    ids=["another deed", "no run", "another priority", "no reason", "no anchor"],
)
async def test_a_form_that_says_nothing_useful_is_answered(
    lab: ServiceBench, fields: list[tuple[str, str]], told: str
) -> None:
    [run] = await queued(lab, ["a"])
    reply = await done(await signed_in(lab, "bob"), *((name, value.format(run=run)) for name, value in fields))
    assert told in reply.json.get("error", "") + reply.json.get("said", "")


async def test_without_a_script_a_deed_ends_on_the_page_which_says_it_once(lab: ServiceBench) -> None:
    a, b = await queued(lab, ["a.efi", "b.efi"])
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/queue")).field("csrf")
    asked = await visitor.post("/queue", ("csrf", csrf), ("next", "/queue?view=mine"), ("cancel", a))
    question = SeenPage(asked.text)
    assert "Cancel 1 run?" in question.words
    fields = {each["name"]: each["value"] for each in question.all("input") if each.get("type") == "hidden"}
    reply = await visitor.post("/queue", *fields.items())
    assert (reply.status, reply.headers["location"]) == (303, "/queue?view=mine")
    assert "a.efi: cancelled." in (await visitor.see("/queue?view=mine")).words
    assert "a.efi: cancelled." not in (await visitor.see("/queue?view=mine")).words
    await visitor.post(
        "/queue", ("csrf", csrf), ("next", "/queue"), ("do", "hold"), ("run", b), ("sure", "1"), ("reason", "r")
    )
    page = await visitor.see("/queue")
    assert {"name": "do", "type": "hidden", "value": "release"} in page.all("input")


async def test_a_message_that_the_lab_did_not_make_is_not_shown(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    for value in ("no-base64!", "bm8ganNvbg==", "eyJzYWlkIjogN30="):
        visitor.cookies["dispatch-said"] = value
        assert not [
            each for each in (await visitor.see("/queue")).all("div") if each.get("class", "").startswith("note")
        ]


# What of it


async def test_views_and_filters_are_in_the_address(lab: ServiceBench) -> None:
    await lab.bench.lab.group_service.configure([Group(id="lab"), Group(id="arm")], ())
    [mine] = await queued(lab, ["mine.efi"])
    [theirs] = await queued(lab, ["theirs.efi"], user="ada")
    [arm] = await queued(lab, ["arm.efi"], user="ada", group="arm")
    [nowhere] = await queued(lab, ["gpu.efi"], user="ada", requires=read_requirements(["gpu"], "requires"))
    lab.bench.lab.queue.machines.declare("m-1")
    await lab.ask("POST", f"/runs/{theirs}/hold", HoldWanted(reason="later"))
    visitor = await signed_in(lab, "bob")
    for query, expected in (
        ("", {mine, theirs, arm, nowhere}),
        ("?view=mine", {mine}),
        ("?view=stuck", {theirs, nowhere}),
        ("?group=arm", {arm}),
        ("?named=EIR", {theirs}),
        ("?view=mine&named=theirs", set()),
        ("?view=unknown", {mine, theirs, arm, nowhere}),
    ):
        assert set(order(await visitor.see(f"/queue{query}"))) == expected, query
    assert (await visitor.ask("GET", "/queue?group=none")).status == 404
    assert (await visitor.ask("GET", "/queue?first=x")).status == 400


async def test_runs_whose_machines_are_held_or_broken_are_stuck_and_counted(lab: ServiceBench) -> None:
    machines = lab.bench.lab.queue.machines
    for name in ("m-1", "m-2", "m-3"):
        machines.declare(name, labels={"rack": name[-1]})
    runs = []
    for name in ("1", "2", "3"):
        runs += await queued(lab, [f"{name}.efi"], requires=read_requirements([f"rack={name}"], "requires"))
    machines.withhold("m-1", Hold(reason="mended"))
    machines.withhold("m-2", Hold(reason="for a while", until=lab.bench.clock.now() + 1e6))
    machines["m-3"].broken = "no power"
    visitor = await signed_in(lab, "bob")
    page = await visitor.see("/queue?view=stuck")
    assert order(page) == [runs[0], runs[2]]
    assert "2 runs are stuck" in page.words
    await lab.ask("POST", "/hold", HoldWanted(reason="power"))
    page = await visitor.see("/queue?view=stuck")
    assert len(order(page)) == 3
    assert "3 runs are stuck" in page.words


async def test_two_thousand_runs_are_a_small_page_with_more(lab: ServiceBench) -> None:
    runs = await queued(lab, [f"a-workload-with-a-name-{number}.efi" for number in range(2000)])
    visitor = await signed_in(lab, "bob")
    reply = await visitor.ask("GET", "/queue")
    page = SeenPage(reply.text)
    assert len(reply.body) < MOST_BYTES
    assert len(page.elements) < MOST_NODES
    assert order(page) == runs[:PAGE]
    assert "2,000 runs wait" in page.words
    [more] = [link for link in page.links if "first=" in link]
    assert order(await visitor.see(more)) == runs[PAGE : 2 * PAGE]


async def test_behind_its_end_the_queue_shows_its_last_page(lab: ServiceBench) -> None:
    runs = await queued(lab, [f"{number}.efi" for number in range(PAGE + 2)])
    visitor = await signed_in(lab, "bob")
    for first in (PAGE + 2, 5000):
        page = await visitor.see(f"/queue?first={first}")
        assert order(page) == runs[PAGE:]
        assert "/queue" in [each["href"] for each in page.all("a") if each.get("class") == "button"]
    assert order(await visitor.see("/queue?named=1.efi&first=5000"))


async def test_a_confined_token_sees_and_steers_its_groups_alone(lab: ServiceBench) -> None:
    await lab.bench.lab.group_service.configure([Group(id="lab"), Group(id="arm")], ())
    [run] = await queued(lab, ["a.efi"])
    visitor = Visitor(lab, token=await lab.token("bob", groups=("arm",)))
    assert order(await visitor.see("/queue")) == []
    assert (await visitor.ask("GET", "/queue?group=lab")).status == 403
    reply = await visitor.post("/queue", ("do", "top"), ("run", run), Dispatch_Page="1")
    assert reply.json["failed"]
    assert "expected a group that this token is for" in reply.json["said"]
    assert Priority.NORMAL.name.lower() in (await (await signed_in(lab, "bob")).see("/queue")).words


async def test_a_question_tells_a_confined_token_nothing_of_other_groups(lab: ServiceBench) -> None:
    await lab.bench.lab.group_service.configure([Group(id="lab"), Group(id="arm")], ())
    [run] = await queued(lab, ["secret.efi"], user="ada")
    [own] = await queued(lab, ["own.efi"], group="arm")
    lab.bench.lab.queue.machines.declare("m-1")
    visitor = Visitor(lab, token=await lab.token("bob", groups=("arm",)))
    for path, fields in (
        ("/queue", (("do", "cancel"), ("run", run))),
        ("/queue", (("do", "hold"), ("run", run))),
        ("/queue", (("do", "pause"), ("group", "lab"))),
        ("/queue", (("do", "stop"),)),
        ("/runs", (("do", "cancel"), ("run", run))),
        ("/machines", (("do", "hold"), ("machine", "m-1"))),
    ):
        reply = (await visitor.post(path, *fields, Dispatch_Page="1")).json
        if path != "/machines":
            assert reply["failed"], fields
            assert "expected a" in reply["said"]
        assert "secret.efi" not in str(reply)
        assert "ada" not in str(reply)
    asked = (await visitor.post("/queue", ("do", "cancel"), ("run", run), ("run", own), Dispatch_Page="1")).json
    assert asked["ask"] == "Cancel 1 run?"
    assert "secret.efi" not in str(asked)


async def test_each_row_says_what_keeps_its_run(lab: ServiceBench) -> None:
    lab.bench.lab.queue.machines.declare("m-1", labels={"arch": "arm64"})
    await queued(lab, ["a.efi", "b.efi"])
    [held] = await queued(lab, ["c.efi"])
    await queued(lab, ["d.efi"], requires=read_requirements(["gpu"], "requires"))
    await lab.ask("POST", f"/runs/{held}/hold", HoldWanted(reason="it is mended"))
    page = await (await signed_in(lab, "eve")).see("/queue")
    for row in ("a.efi lab 1 machine fits: 1 never seen", "b.efi lab 1 machine fits: 1 never seen"):
        assert row in page.words
    assert "c.efi lab held it is mended (lab)" in page.words
    assert "d.efi lab no machine fits: it requires gpu" in page.words
