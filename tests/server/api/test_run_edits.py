"""What people change of runs that wait: what they run, where, for how long; set back to what their template has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import Place
from labs import LabBench, running_lab, workload
from service_bench import ServiceBench, service
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.kinds import KindRules, PayloadField, Shape
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Outcome, Phase, Run, Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.templates import Template, key_of, template_of
from pytest_dispatch.lab.kind_services import Kind, Service
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.workloads.actions.lifecycle import LIFECYCLE

pytestmark = pytest.mark.anyio

DETACHED = Lease(kind=LeaseKind.DETACHED, owner="ada")
RACK, GPU = Group(id="rack"), Group(id="gpu", labels={"gpu": ""})
FLASH = KindRules(
    name="flash",
    lifecycles={"conclusion": LIFECYCLE},
    by_hand=(
        PayloadField(name="board", needed=True, fixed=True),
        PayloadField(name="slot"),
        PayloadField(name="inputs", shape=Shape.TEXTS),
    ),
)


class Flashing(Service):
    """Notes what it is to prepare."""

    def __init__(self, resources: Any) -> None:
        super().__init__(resources)
        self.prepared: list[dict[str, Any]] = []

    def wanted(self, runs: list[Run]) -> None:
        self.prepared += [dict(run.workload.payload) for run in runs]


TEMPLATE = Template(
    id="flash-it",
    group="rack",
    workload=Workload(
        name="flash",
        kind="flash",
        payload={"board": "b-1", "slot": "a", "inputs": {"x": "1"}},
        requires=read_requirements(["arch=arm64"], "requires"),
        labels=("nightly",),
        limits={"queue": 60.0},
    ),
    requeue=2,
)


@asynccontextmanager
async def a_lab(folder: Path, where: str = "", templates: Sequence[Template] = (TEMPLATE,)) -> AsyncIterator[LabBench]:
    journal = (lambda _: Journal(where)) if where else Journal
    boots = Template(id="boot", group="rack", workload=workload(folder / "a.efi", location="folder:w/a.efi"))
    async with running_lab(
        folder,
        private=False,
        journal=journal,
        groups=(RACK, GPU),
        templates=(*templates, boots),
        kinds=[Kind(rules=FLASH, service=Flashing)],
    ) as bench:
        yield bench


async def ask(bench: LabBench, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    headers = {"Authorization": "Bearer the-session's-token"}
    content = b"" if body is None else json.dumps(body).encode()
    reply = await bench.call(method, f"/api/v1{path}", source="127.0.0.1", headers=headers, body=content)
    assert reply.status == status, reply.text
    return reply.json if reply.body else None


async def queued(bench: LabBench, template: str = "flash-it") -> str:
    run = await ask(bench, "POST", "/groups/rack/queue", {"template": template}, status=201)
    assert (run["template"], run["differs"]) == (template, {})
    found: str = run["id"]
    return found


async def edit(bench: LabBench, run: str, *, status: int = 200, **changes: Any) -> Any:
    return await ask(bench, "PATCH", f"/runs/{run}", changes, status=status)


async def waiting(bench: LabBench) -> dict[str, Any]:
    """What waits, by id; without why, which a list alone says."""
    return {each["id"]: {**each, "why": ""} for each in (await ask(bench, "GET", "/queue"))["runs"]}


CHANGES: dict[str, Any] = {
    "name": "flash two",
    "requires": ["arch=x86_64", "memory>=4"],
    "labels": ["weekly"],
    "limits": {"queue": 90.0, "send": 5.0},
    "payload": {"slot": "b", "inputs": {"x": "2"}},
    "priority": 1,
    "requeue": {"most": 5},
}
DIFFERS = {
    "name": "flash",
    "requires": ["arch=arm64"],
    "labels": ["nightly"],
    "limits.queue": 60.0,
    "limits.send": None,
    "payload.slot": "a",
    "payload.inputs": {"x": "1"},
    "priority": 2,
    "requeue": 2,
}


async def test_what_a_run_is_to_run_is_changed_and_what_its_template_has_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run, service = await queued(bench), bench.lab.service("flash")
        assert isinstance(service, Flashing)
        changed = await edit(bench, run, **CHANGES)
        assert changed["differs"] == DIFFERS
        assert (changed["name"], changed["priority"], changed["requeue"]["most"]) == ("flash two", 1, 5)
        now = bench.lab.queue.runs[run]
        assert (now.limits["queue"], now.limits["send"]) == (90.0, 5.0)
        assert now.workload.payload == {"board": "b-1", "slot": "b", "inputs": {"x": "2"}}
        assert service.prepared == [TEMPLATE.workload.payload, now.workload.payload]
        assert await waiting(bench) == {run: changed}


async def test_it_is_changed_for_good_also_if_the_lab_starts_again(tmp_path: Path, where: Place) -> None:
    async with a_lab(tmp_path, where.where) as bench:
        run = await queued(bench)
        changed = await edit(bench, run, **CHANGES)
        gpu = await edit(bench, await queued(bench), group="gpu")
    async with a_lab(tmp_path, where.where) as bench:
        assert await waiting(bench) == {run: changed, gpu["id"]: gpu}
        assert bench.lab.queue.runs[run].limits["queue"] == 90.0


@pytest.mark.parametrize("names", [["all"], ["payload", "limits", *(n for n in DIFFERS if "." not in n)], [*DIFFERS]])
async def test_it_is_set_back_to_what_the_template_has(tmp_path: Path, names: list[str]) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench)
        before = bench.lab.queue.runs[run]
        await edit(bench, run, **CHANGES)
        part = await edit(bench, run, reset=["payload.slot"])
        assert part["differs"] == {name: has for name, has in DIFFERS.items() if name != "payload.slot"}
        assert (await edit(bench, run, reset=names))["differs"] == {}
        after = bench.lab.queue.runs[run]
        assert (after.workload, after.limits, after.requeue) == (before.workload, before.limits, before.requeue)


async def test_it_is_set_back_and_changed_at_once(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench)
        await edit(bench, run, **CHANGES)
        assert (await edit(bench, run, reset=["all"], name="other"))["differs"] == {"name": "flash"}
        told = await edit(bench, run, reset=["colour"], status=400)
        assert told["error"].startswith("reset: expected all, or some of name, group, requires")


async def test_a_run_goes_to_another_group_behind_those_of_its_kind_and_keeps_its_priority(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        first, run = await queued(bench), await queued(bench)
        await edit(bench, run, priority=0)
        moved = await edit(bench, run, group="gpu")
        assert (moved["group"], moved["place"], moved["priority"]) == ("gpu", 1, 0)
        assert moved["requires"] == ["arch=arm64", "gpu"]
        assert moved["differs"] == {"group": "rack", "priority": 2}
        assert [each["id"] for each in (await ask(bench, "GET", "/groups/rack/queue"))["runs"]] == [first]
        assert (await edit(bench, run, reset=["group"]))["group"] == "rack"


async def test_what_repeats_a_run_has_the_same_template(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench)
        await edit(bench, run, name="other", payload={"slot": "c"})
        again = await ask(bench, "POST", f"/runs/{run}/again", {}, status=201)
        assert (again["template"], again["differs"]["name"]) == ("flash-it", "flash")
        queue = bench.lab.queue
        queue.transitions.move(run, CoreEvent.FAULT, bench.clock.now())
        bench.lab.lab_state.commit()
        await until(lambda: any(each.again == run and each.requeue is not None for each in queue.runs.values()))
        [follower] = [each for each in queue.runs.values() if each.again == run and each.requeue is not None]
        assert bench.lab.run_editing.template_of(follower) == "flash-it"
        assert follower.workload.payload["slot"] == "c"


async def test_a_run_whose_template_is_gone_says_so(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench)
        await bench.lab.group_service.configure([RACK, GPU], ())
        changed = await edit(bench, run, name="other")
        assert (changed["template"], changed["differs"]) == ("flash-it", {})
        told = await edit(bench, run, reset=["name"], status=400)
        assert told["error"] == f"reset: expected a run of a template, got {run}, of flash-it, which is gone"


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"payload": {"board": "b-2"}}, 400, "payload: expected one of slot, inputs, got 'board'"),
        ({"payload": {"colour": 1}}, 400, "payload: expected one of slot, inputs, got 'colour'"),
        ({"name": " "}, 400, "name: expected one line of 1 to 200 characters"),
        ({"name": "a\u202eb"}, 400, "name: expected one line of 1 to 200 characters"),
        ({"group": "rak"}, 400, "the lab has no group 'rak': did you mean rack?"),
        ({"requires": ["a b"]}, 400, "requires: expected a requirement such as"),
        ({"limits": {"nap": 3}}, 400, "limits of the kind flash: expected queue"),
        ({"limits": {"queue": 0}}, 400, "limits: queue: expected 1 to 315360000 seconds, got 0"),
        ({"limits": {"queue": 1e-300}}, 400, "limits: queue: expected 1 to 315360000 seconds, got 1e-300"),
        ({"limits": {"queue": 1e12}}, 400, "limits: queue: expected 1 to 315360000 seconds, got 1e+12"),
        ({"requires": [f"a{n}" for n in range(65)]}, 400, "expected at most 64 requirements"),
        ({}, 400, "expected something to change"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], status: int, told: str
) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench)
        before = bench.lab.queue.runs[run]
        assert told in (await edit(bench, run, status=status, **changes))["error"]
        assert bench.lab.queue.runs[run] == before


async def test_what_boots_keeps_its_bytes_and_can_be_called_otherwise(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench, "boot")
        told = await edit(bench, run, status=400, payload={"size": 3})
        assert "payload: expected none, as the payload of the kind boot stays as it is, got 'size'" in told["error"]
        await until(lambda: run in bench.boot.assets)
        await edit(bench, run, name="other.efi", limits={"boot": 7.0})
        reply = await bench.call("HEAD")
        assert reply.headers["dispatch-workload"] == "other.efi"


async def test_once_a_machine_has_it_it_stays_as_it_is(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await queued(bench, "boot")
        await until(lambda: run in bench.boot.assets)
        await bench.call("HEAD")
        assert bench.lab.queue.runs[run].attempt.phase is not Phase.QUEUED
        told = await edit(bench, run, status=409, name="other")
        assert told["error"] == f"expected a run that no machine has had, got {run}, which is under way"
        assert (await edit(bench, run, requeue={"most": 3}))["requeue"]["most"] == 3
        await ask(bench, "DELETE", f"/runs/{run}", status=204)
        assert bench.lab.queue.runs[run].outcome is Outcome.ERROR
        assert "expected a run that waits" in (await edit(bench, run, status=409, name="other"))["error"]


async def test_what_a_session_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        [run] = await bench.submit(bench.workload("b.efi", group="rack"), lease=DETACHED)
        told = await edit(bench, run.id, status=400, name="other")
        assert told["error"] == f"expected a run that a person has queued, got {run.id}, which a session asked for"
        assert (await edit(bench, run.id, priority=1))["priority"] == 1


async def test_runs_of_a_chain_stay_as_they_are(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        body = {"workload": {"name": "a", "kind": "flash", "payload": {"board": "b"}, "chain": "c"}}
        run = (await ask(bench, "POST", "/groups/rack/queue", body, status=201))["id"]
        assert "expected a run without a chain" in (await edit(bench, run, status=400, name="b"))["error"]


async def test_it_is_told_in_the_audit_log_without_values_of_the_payload(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        run = await _by_bob(running)
        assert (await running.ask("PATCH", f"/runs/{run}", {"name": "b"}, token=running.secrets["bob"])).status == 200
        [entry] = await running.audit(action="run.change")
        assert (entry["who"], entry["target"]) == ("bob", run)
        assert (entry["before"], entry["after"]) == ({"name": "a.efi"}, {"name": "b"})


async def test_a_token_for_some_groups_edits_in_them_alone(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        await running.bench.lab.group_service.configure([RACK, GPU])
        run = await _by_bob(running)
        confined = await running.token("bob", groups=("lab",))
        refused = await running.ask("PATCH", f"/runs/{run}", {"group": "rack"}, token=confined)
        assert (refused.status, refused.json["error"]) == (
            403,
            "expected a group that this token is for (lab), got 'rack'",
        )
        assert (await running.ask("PATCH", f"/runs/{run}", {"name": "b"}, token=confined)).status == 200
        elsewhere = await running.token("bob", groups=("gpu",))
        assert (await running.ask("PATCH", f"/runs/{run}", {"name": "c"}, token=elsewhere)).status == 403


async def _by_bob(running: ServiceBench) -> str:
    await running.added("bob", Role.OPERATOR)
    body = {"workload": replace(running.bench.workload("a.efi"), group="lab")}
    reply = await running.ask("POST", "/groups/lab/queue", body, token=running.secrets["bob"])
    assert reply.status == 201, reply.text
    run: str = reply.json["id"]
    return run


@pytest.mark.parametrize(
    ("key", "template"),
    [
        (key_of("a.efi#0a1b2c3d", "smoke"), "smoke"),
        (key_of("a@b#1#0a1b2c3d", "smoke-2.x_y"), "smoke-2.x_y"),
        (key_of("again 0123456789ab.7", "smoke"), "smoke"),
        (key_of("a.efi#0a1b2c3d", ""), ""),
        ("again 0123456789ab.7", ""),
        ("tests/a.py::test@smoke", ""),
        ("a#b@smoke", ""),
        ("a#0a1b2c3d@x#0a1b2c3d", ""),
        ("", ""),
    ],
)
def test_the_key_of_a_run_says_of_which_template_it_is(key: str, template: str) -> None:
    assert template_of(key) == template
