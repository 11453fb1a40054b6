"""The pages on which a run is queued by hand, and a run that waits is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labs import Reply
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in
from waiting import until

from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.kinds import KindRules, PayloadField, Shape
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Priority, Workload
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.server.api.group_schemas import QueueWanted
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.workloads.actions.lifecycle import LIFECYCLE

pytestmark = pytest.mark.anyio

LIFECYCLES = {"conclusion": LIFECYCLE}
FLASH = KindRules(
    name="flash",
    lifecycles=LIFECYCLES,
    by_hand=(
        PayloadField(name="board", needed=True, fixed=True),
        PayloadField(name="slot", choices=lambda: ("a", "b")),
        PayloadField(name="inputs", shape=Shape.TEXTS),
        PayloadField(name="times", shape=Shape.NUMBER),
    ),
)
PLAIN = KindRules(name="plain", lifecycles=LIFECYCLES)
INPUTS = {"x": "1", "y": "<b>two</b>"}
TEMPLATE = Template(
    id="flash-it",
    group="lab",
    workload=Workload(name="flash", kind="flash", payload={"board": "b-1", "inputs": INPUTS}, limits={"queue": 60.0}),
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True, kinds=[Kind(rules=FLASH), Kind(rules=PLAIN)]) as running:
        for name, role in (("bob", Role.OPERATOR), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
        arm = Group(id="arm", labels={"arch": "arm64"})
        await running.bench.lab.group_service.configure([Group(id="lab"), arm], [TEMPLATE])
        running.bench.lab.queue.machines.declare("m-1")
        yield running


async def queued(lab: ServiceBench, **wanted: object) -> str:
    reply = await lab.ask("POST", "/groups/lab/queue", wanted or {"template": "flash-it"}, token=lab.secrets["bob"])
    assert reply.status == 201, reply.text
    run: str = reply.json["id"]
    return run


def form_of(page: SeenPage) -> dict[str, str]:
    """What a browser sends of the form if nobody has changed anything."""
    fields = {each["name"]: each.get("value", "") for each in page.all("input") if "name" in each}
    names = [each.name for each in page.elements]
    for at, name in enumerate(names):
        if name == "select":
            options = [each for each in page.elements[at + 1 :] if each.name in {"option", "select"}]
            own = options[: next((n for n, each in enumerate(options) if each.name == "select"), len(options))]
            chosen = next((n for n, each in enumerate(own) if "selected" in each.attributes), 0)
            fields[page.elements[at].attributes["name"]] = page.options[at][chosen]
    return {**fields, **page.areas}


async def send(visitor: Visitor, address: str, fields: dict[str, str], **changed: str) -> Reply:
    given = {**fields, **{name.replace("__", "."): text for name, text in changed.items()}}
    return await visitor.post(address, *given.items(), Dispatch_Page="1")


async def test_a_form_that_says_nothing_new_changes_nothing(lab: ServiceBench) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "bob")
    before = lab.bench.lab.queue.runs[run]
    fields = form_of(await visitor.see(f"/queue/edit/{run}"))
    assert (fields["name"], fields["group"], fields["priority"]) == ("flash", "lab", "normal")
    assert fields["payload.inputs"] == "x=1\ny=<b>two</b>"
    reply = (await send(visitor, "/queue/edit", fields)).json
    assert (reply["said"], reply["failed"]) == ("Nothing is different, so nothing was changed.", False)
    assert lab.bench.lab.queue.runs[run] == before


async def test_what_is_changed_is_marked_and_undone(lab: ServiceBench) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "bob")
    before = lab.bench.lab.queue.runs[run]
    fields = form_of(await visitor.see(f"/queue/edit/{run}"))
    changes = {
        "name": "other",
        "priority": "high",
        "requires": "gpu\r\n memory>=4",
        "limits__queue": "",
        "payload__inputs": "x=1\r\nz=3=4",
        "payload__times": "7",
        "payload__slot": "b",
        "requeue": "2",
    }
    reply = (await send(visitor, "/queue/edit", fields, **changes)).json
    assert reply["said"] == (
        "other: name, priority, requeue, requires, payload.slot, payload.inputs and 2 more changed."
    )
    after = lab.bench.lab.queue.runs[run]
    expected = {"board": "b-1", "inputs": {"x": "1", "z": "3=4"}, "times": 7, "slot": "b"}
    assert (after.workload.payload, after.priority) == (expected, Priority.HIGH)
    assert [*map(str, after.workload.requires)] == ["gpu", "memory>=4"]
    page = await visitor.see(f"/queue/edit/{run}")
    assert "8 things are not as in its template flash-it" in page.words
    assert "Template: x=1 y=<b>two</b>" in page.words
    queue = await visitor.see("/queue")
    assert "edited name flash-it has flash" in queue.words
    assert not page.all("b")
    assert not queue.all("b")
    undo = reply["undo"]
    reply = (await send(visitor, undo["action"], {"csrf": fields["csrf"], **dict(undo["fields"])})).json
    assert not reply["failed"], reply
    back = lab.bench.lab.queue.runs[run]
    assert (back.workload, back.priority, back.limits) == (before.workload, before.priority, before.limits)
    assert "It is as its template flash-it has it." in (await visitor.see(f"/queue/edit/{run}")).words


async def test_what_another_person_changed_meanwhile_stays(lab: ServiceBench) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "bob")
    fields = form_of(await visitor.see(f"/queue/edit/{run}"))
    await lab.ask("PATCH", f"/runs/{run}", {"name": "theirs"})
    await send(visitor, "/queue/edit", fields, payload__times="3")
    now = lab.bench.lab.queue.runs[run].workload
    assert (now.name, now.payload["times"]) == ("theirs", 3)


async def test_one_part_or_all_is_set_back_to_the_template(lab: ServiceBench) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "bob")
    await lab.ask("PATCH", f"/runs/{run}", {"name": "other", "payload": {"times": 3}, "group": "arm"})
    page = await visitor.see(f"/queue/edit/{run}")
    assert [each["value"] for each in page.all("button") if each.get("name") == "reset"] == [
        "name",
        "payload.times",
        "group",
        "all",
    ]
    fields = {"csrf": page.field("csrf"), "run": run}
    await send(visitor, "/queue/edit", fields, reset="name")
    assert lab.bench.lab.queue.runs[run].workload.name == "flash"
    assert "times" in lab.bench.lab.queue.runs[run].workload.payload
    reply = (await send(visitor, "/queue/edit", fields, reset="all")).json
    assert reply["said"] == "flash: group and payload.times changed."
    assert lab.bench.lab.run_editing.differences(lab.bench.lab.queue.runs[run]) == {}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"priority": "now"}, "priority: expected one of urgent"),
        ({"requeue": "-1"}, "requeue: expected a whole number, got '-1'"),
        ({"requeue": "1001"}, "most: expected a number from 0 to 1000"),
        ({"payload__inputs": "x"}, "payload.inputs: expected lines NAME=VALUE, got 'x'"),
        ({"payload__times": "two"}, "payload.times: expected a whole number, got 'two'"),
        ({"limits__queue": "soon"}, "limits.queue: expected a duration such as 30s"),
        ({"requires": "a b c"}, "expected a requirement such as"),
        ({"name": ""}, "name: expected one line of 1 to 200 characters"),
        ({"group": "none"}, "expected a group"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_form_that_cannot_be_read_is_answered(lab: ServiceBench, changed: dict[str, str], told: str) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "bob")
    before = lab.bench.lab.queue.runs[run]
    fields = form_of(await visitor.see(f"/queue/edit/{run}"))
    reply = await send(visitor, "/queue/edit", fields, **changed)
    assert reply.status == 400 or changed.get("group")
    assert told in reply.json["error"] or "group 'none'" in reply.json["error"]
    assert lab.bench.lab.queue.runs[run] == before


async def test_a_run_that_a_machine_has_says_that_it_stays(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    workload = lab.bench.workload("a.efi", group="lab")
    reply = await lab.ask("POST", "/groups/lab/queue", QueueWanted(workload=workload), token=lab.secrets["bob"])
    run = reply.json["id"]
    fields = form_of(await visitor.see(f"/queue/edit/{run}"))
    await until(lambda: run in lab.bench.boot.assets)
    await lab.bench.call("HEAD")
    assert (
        "It stays as it is: expected a run that no machine has had" in (await visitor.see(f"/queue/edit/{run}")).words
    )
    assert (await send(visitor, "/queue/edit", fields, name="other")).status == 409


async def test_who_only_reads_is_offered_no_edit(lab: ServiceBench) -> None:
    run, visitor = await queued(lab), await signed_in(lab, "eve")
    assert f"/queue/edit/{run}" not in (await visitor.see("/queue")).links
    assert "/queue/add" not in (await visitor.see("/queue")).links
    assert (await visitor.ask("GET", f"/queue/edit/{run}")).status == 403
    for page in ("/queue", f"/runs/{run}"):
        assert f"/queue/edit/{run}" in (await (await signed_in(lab, "bob")).see(page)).links
        assert f"/queue/edit/{run}" not in (await visitor.see(page)).links


# By hand


async def test_a_run_is_queued_by_hand_once_it_was_said_what_fits(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    page = await visitor.see("/queue/add?kind=boot")
    assert "kind=flash" in " ".join(page.links)
    assert "its folders w" in page.words
    fields = form_of(page)
    lab.bench.workload("a.efi")
    size = str((lab.bench.folder / "a.efi").stat().st_size)
    given = {"name": "a.efi", "payload__location": "folder:w/a.efi", "payload__size": size, "limits__boot": "5m"}
    asked = (await send(visitor, "/queue/add", fields, **given)).json
    assert asked["ask"] == "Queue 1 run?"
    assert asked["text"] == "a.efi: 1 machine fits, starts at once."
    assert not lab.bench.lab.queue.runs
    repeated = dict(asked["fields"])
    reply = (await send(visitor, asked["action"], {**repeated, "csrf": fields["csrf"], "sure": "1"})).json
    assert reply["said"] == "a.efi is 1 in the queue of lab."
    [run] = lab.bench.lab.queue.runs.values()
    assert reply["made"] == f"/runs/{run.id}"
    assert run.limits["boot"] == 300.0
    asked = (await send(visitor, "/queue/add", fields, **given)).json
    assert asked["text"].startswith("1 run of that name waiting or under way already in lab. a.efi: 1 machine fits")
    asked = (await send(visitor, "/queue/add", fields, **{**given, "name": "b.efi"})).json
    assert asked["text"].startswith("1 run of the same payload, by another name, likewise.")
    undo = reply["undo"]
    await send(visitor, undo["action"], {**dict(undo["fields"]), "csrf": fields["csrf"]})
    assert [each.cancelled for each in lab.bench.lab.queue.runs.values()] == [True]
    assert [entry["action"] for entry in await lab.audit(who="bob", action="run")] == ["run.cancel", "run.queue"]


async def test_a_kind_of_which_only_json_is_known_takes_json(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    fields = form_of(await visitor.see("/queue/add?kind=plain"))
    for text, told in (("", "Payload: expected JSON, got nothing"), ("[1]", "expected values by name"), ("{", "JSON")):
        reply = await send(visitor, "/queue/add", fields, name="p", payload=text, sure="1")
        assert reply.status == 400
        assert told in reply.json["error"]
    reply = await send(visitor, "/queue/add", fields, name="p", payload='{"a": [1]}', sure="1", requeue="3")
    assert reply.json["said"] == "p is 1 in the queue of lab."
    [run] = lab.bench.lab.queue.runs.values()
    assert (run.workload.payload, run.requeue.most if run.requeue else 0) == ({"a": [1]}, 3)
    page = await visitor.see(f"/queue/edit/{run.id}")
    assert "It was queued without a template." in page.words
    assert next(each for each in page.all("textarea") if each["name"] == "payload").get("readonly") == ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": ""}, "Name: expected one line"),
        ({"payload__location": "/etc/passwd"}, "Location: expected folder:NAME/FILE"),
        ({"payload__location": "folder:x/a.efi"}, "one of the lab's folders"),
        ({"payload__location": f"sha256:{'0' * 64}"}, "upload them first"),
        ({"payload__size": "0"}, "Size: expected a number of bytes"),
        ({"payload__media": "tape"}, "Media: expected one of"),
        ({"priority": "soon"}, "Priority: expected one of"),
        ({"requires": "a b"}, "expected a requirement such as"),
        ({"requeue": "5000"}, "expected a number from 0 to 1000"),
        ({"kind": "none"}, "kind: expected one of"),
        ({"group": "none"}, "the lab has no group 'none'"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_nobody_could_run_is_refused_before_anything_is_asked(
    lab: ServiceBench, given: dict[str, str], told: str
) -> None:
    visitor = await signed_in(lab, "bob")
    fields = form_of(await visitor.see("/queue/add?kind=boot"))
    usual = {"name": "a.efi", "payload__location": "folder:w/a.efi", "payload__size": "10"}
    reply = await send(visitor, "/queue/add", fields, **{**usual, **given})
    assert reply.status in {400, 404}
    assert told in reply.json["error"]
    assert not lab.bench.lab.queue.runs


async def test_what_no_machine_fits_is_refused(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    fields = form_of(await visitor.see("/queue/add?kind=boot&group=arm"))
    assert fields["group"] == "arm"
    given = {"name": "a.efi", "payload__location": "folder:w/a.efi", "payload__size": "10"}
    reply = (await send(visitor, "/queue/add", fields, sure="1", **given)).json
    assert reply["failed"]
    assert reply["said"] == "Nothing was queued: a.efi needs a machine with arch=arm64, and this lab has none."


async def test_without_a_script_the_page_asks_and_the_page_says_it(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    fields = {**form_of(await visitor.see("/queue/add?kind=flash")), "name": "f", "payload.board": "b"}
    asked = SeenPage((await visitor.post("/queue/add", *fields.items())).text)
    assert "Queue 1 run? f: another system assigns its machine." in asked.words
    reply = await visitor.post("/queue/add", *form_of(asked).items())
    assert (reply.status, reply.headers["location"]) == (303, "/queue/add?kind=flash")
    assert "f is 1 in the queue of lab." in (await visitor.see("/queue/add?kind=flash")).words


async def test_who_queues_into_what_is_held_is_told_by_whom_and_why_before(lab: ServiceBench) -> None:
    visitor, groups = await signed_in(lab, "bob"), lab.bench.lab.queue.groups
    groups.pause("lab", Hold(reason="it is night", owner="ada"), 0.0)
    fields = form_of(await visitor.see("/queue/add?kind=flash"))
    asked = (await send(visitor, "/queue/add", fields, name="n", payload__board="b-1")).json["text"]
    assert "Group lab is paused by ada (it is night): nothing that is queued now begins before that ends." in asked
    assert "at once" not in asked
    groups.pause(EVERY, Hold(reason="power", owner="eve"), 0.0)
    asked = (await send(visitor, "/templates", {"csrf": fields["csrf"]}, one="flash-it")).json["text"]
    assert asked.startswith("The whole lab is held by eve (power): nothing")
    assert "Group lab is paused by ada" in asked
