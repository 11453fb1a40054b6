"""Groups, queues, templates, moves and holds over HTTP, and what a lab that is started again makes of them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from databases import KINDS, Place, place, postgres_programs, postgres_server
from forks import Piped, dispatching
from labs import LabBench, running_lab, workload
from waiting import PATIENCE, until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.model import Outcome, Phase, Policy, Priority, Run, Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio

DETACHED = Lease(kind=LeaseKind.DETACHED, owner="ada")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    programs = postgres_programs()
    if programs is None:
        yield ""
        return
    with postgres_server(programs) as url:
        yield url


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> Iterator[Place]:
    with place(request.param, tmp_path, server) as found:
        yield found


@asynccontextmanager
async def a_lab(folder: Path, *groups: Group, where: str = "", **more: Any) -> AsyncIterator[LabBench]:
    """A shared lab with these groups, each with a template that is called as the group."""
    journal = (lambda _: Journal(where)) if where else Journal
    check = {group.id: boots_from(folder / f"{group.id}.efi") for group in groups}
    templates = [Template(id=f"{name}-check", group=name, workload=made) for name, made in check.items()]
    async with running_lab(folder, private=False, journal=journal, groups=groups, templates=templates, **more) as bench:
        yield bench


def boots_from(path: Path) -> Workload:
    return workload(path, location=f"folder:w/{path.name}")


async def ask(bench: LabBench, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    """Ask as somebody who holds no session."""
    headers = {"Authorization": "Bearer the-session's-token"}
    content = b"" if body is None else json.dumps(body).encode()
    reply = await bench.call(method, f"/api/v1{path}", source="127.0.0.1", headers=headers, body=content)
    assert reply.status == status, reply.text
    return reply.json if reply.body else None


async def three(bench: LabBench, **more: Any) -> list[Run]:
    """A session of ada that wants a, b and c."""
    wanted = [bench.workload(name, **more) for name in ("a.efi", "b.efi", "c.efi")]
    return await bench.submit(*wanted, lease=DETACHED)


async def queue(bench: LabBench, group: str = "lab", query: str = "") -> list[str]:
    page = await ask(bench, "GET", f"/groups/{group}/queue{query}")
    return [run["name"] for run in page["runs"]]


# Groups


async def test_groups_with_their_numbers(tmp_path: Path) -> None:
    rack = Group(id="rack", name="The rack", description="old ones", labels={"site": "fra"}, max_running=2)
    async with a_lab(tmp_path, rack) as bench:
        await bench.call("HEAD", source="127.0.0.9")
        bench.lab.queue.machines.declare("lathe", labels={"site": "fra"})
        await three(bench, group="rack")
        seen = await ask(bench, "GET", "/groups")
        assert [each["id"] for each in seen] == ["rack", "lab"]
        told = {"name": "The rack", "description": "old ones", "labels": {"site": "fra"}, "max_running": 2}
        assert seen[0] == {
            "id": "rack",
            **told,
            "machines": 1,
            "queued": 3,
            "running": 0,
            "paused": None,
            "leaving": False,
        }
        assert (seen[1]["machines"], seen[1]["queued"]) == (2, 0)
        assert await ask(bench, "GET", "/groups/rack") == seen[0]
        refused = await ask(bench, "GET", "/groups/rak", status=404)
        assert refused == {"error": "the lab has no group 'rak': did you mean rack?"}


async def test_a_workload_that_names_a_group_that_there_is_not(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        await bench.one()
        (session,) = bench.lab.lab_state.live_sessions
        payload = {"media": "efi", "location": "folder:w/a.efi", "size": 3000}
        wanted = [{"key": "k", "workload": {"name": "b.efi", "kind": "boot", "group": "rakc", "payload": payload}}]
        reply = await bench.api("POST", f"/sessions/{session}/runs", wanted)
        assert (reply.status, reply.json["error"]) == (400, "b.efi: the lab has no group 'rakc': did you mean rack?")


async def test_a_pause_and_its_end(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        await three(bench)
        until_then = bench.clock.now() + 60.0
        body = {"reason": "new fans", "owner": "ada", "until": until_then}
        paused = await ask(bench, "POST", "/groups/rack/hold", body)
        since = paused["paused"].pop("since")
        assert (paused["paused"], bench.clock.now() - since < 60.0) == (body, True)
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
        assert (await ask(bench, "DELETE", "/groups/rack/hold"))["paused"] is None
        assert "dispatch-workload" in (await bench.call("HEAD")).headers
        await ask(bench, "POST", "/groups/rack/hold", body)
        bench.clock.ahead += 61.0
        await until(lambda: not bench.lab.queue.groups.pauses)
        assert "dispatch-workload" in (await bench.call("HEAD", source="127.0.0.3")).headers
        assert (await ask(bench, "GET", "/groups/rack"))["paused"] is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"reason": " "}, "reason: expected some words for other people, got none"),
        ({"reason": "x" * 1001}, "reason: expected at most 1000 characters, got 1001"),
        ({"reason": "x", "until": 5.0}, "until: expected a time to come, in seconds since 1970, got 5"),
    ],
)
async def test_a_hold_that_cannot_be(tmp_path: Path, body: dict[str, Any], told: str) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        assert told in (await ask(bench, "POST", "/groups/rack/hold", body, status=400))["error"]
        assert (await ask(bench, "GET", "/groups/rack"))["paused"] is None


# Queues


async def test_a_queue_in_pages(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack", labels={"arch": "x86"})) as bench:
        needed = bench.workload("d.efi", requires=read_requirements(["gpu"], ""), group="rack")
        runs = [*await three(bench), *await bench.submit(needed, lease=DETACHED)]
        page = await ask(bench, "GET", "/groups/rack/queue?first=1&most=2")
        assert (page["total"], page["first"], [run["name"] for run in page["runs"]]) == (4, 1, ["d.efi", "b.efi"])
        seen = page["runs"][0]
        assert (seen["id"], seen["place"], seen["owner"], seen["source"], seen["kind"]) == (
            runs[3].id,
            2,
            "ada",
            "w",
            "boot",
        )
        assert (seen["requires"], seen["priority"], seen["moved"], seen["hold"]) == (
            ["arch=x86", "gpu"],
            2,
            False,
            None,
        )
        assert await queue(bench, "rack", "?first=9") == []
        refused = await ask(bench, "GET", "/groups/rack/queue?most=-1", status=400)
        assert refused == {"error": "query parameter most: expected a whole number, got -1.0"}


async def test_a_run_is_moved_held_released_and_cancelled(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        a, b, c = await three(bench)
        moved = await ask(bench, "POST", f"/runs/{c.id}/move", {"before": a.id})
        assert (moved["place"], moved["moved"]) == (1, True)
        assert await queue(bench) == ["c.efi", "a.efi", "b.efi"]
        held = await ask(bench, "POST", f"/runs/{c.id}/hold", {"reason": "not yet", "owner": "ada"})
        assert (held["hold"]["reason"], held["hold"]["owner"], held["place"]) == ("not yet", "ada", 1)
        assert (await bench.call("HEAD")).headers["dispatch-workload"] == "a.efi"
        refused = await ask(bench, "POST", f"/runs/{b.id}/move", {"after": a.id}, status=409)
        assert refused["error"] == f"expected a run that waits in a queue, got {a.id}, which is starting"
        assert (await ask(bench, "DELETE", f"/runs/{c.id}/hold"))["hold"] is None
        assert (await bench.call("HEAD", source="127.0.0.3")).headers["dispatch-workload"] == "c.efi"
        await ask(bench, "DELETE", f"/groups/lab/queue/{b.id}", status=204)
        assert (bench.now(b).outcome, bench.now(b).cancelled) == (Outcome.ERROR, True)
        await ask(bench, "DELETE", f"/groups/lab/queue/{b.id}", status=204)  # the first answer may have been lost
        await ask(bench, "POST", "/runs/nope/move", {"top": True}, status=404)
        both = await ask(bench, "POST", f"/runs/{b.id}/move", {"top": True, "after": a.id}, status=400)
        assert "expected one of before, after, up, down, top and bottom, got after, top" in both["error"]


async def test_runs_of_different_sessions_are_moved_past_each_other(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        first = await bench.submit(bench.workload("x.efi", priority=Priority.HIGH), lease=DETACHED)
        a, _, c = await three(bench)
        assert await queue(bench) == ["x.efi", "a.efi", "b.efi", "c.efi"]
        top = await ask(bench, "POST", f"/runs/{c.id}/move", {"top": True})
        assert (top["place"], top["priority"]) == (1, Priority.HIGH)
        await ask(bench, "POST", f"/runs/{first[0].id}/move", {"bottom": True})
        await ask(bench, "POST", f"/runs/{a.id}/move", {"after": c.id})
        assert await queue(bench) == ["c.efi", "a.efi", "b.efi", "x.efi"]
        got = [(await bench.call("HEAD", source=f"127.0.0.{n}")).headers["dispatch-workload"] for n in range(2, 6)]
        assert got == ["c.efi", "a.efi", "b.efi", "x.efi"]


# Templates


async def test_a_template_is_queued_and_its_session_closed_in_the_end(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack"), Group(id="gpu")) as bench:
        (template,) = await ask(bench, "GET", "/groups/rack/templates")
        assert (template["id"], template["workload"]["name"]) == ("rack-check", "rack.efi")
        wanted = {"template": "rack-check", "owner": "ada", "priority": 1}
        queued = await ask(bench, "POST", "/groups/rack/queue", wanted, status=201)
        again = await ask(bench, "POST", "/groups/rack/queue", wanted, status=201)
        other = await ask(bench, "POST", "/groups/gpu/queue", {"template": "gpu-check", "owner": "bob"}, status=201)
        assert (queued["group"], queued["place"], queued["priority"]) == ("rack", 1, Priority.HIGH)
        assert queued["session"] == again["session"] != other["session"]
        await until(lambda: len(bench.boot.assets) == 3)
        for number, run in enumerate((queued, again), 2):
            source = f"127.0.0.{number}"
            await bench.call("GET", source=source)
            await until(lambda run=run: bench.lab.queue.runs[run["id"]].attempt.state == State.DOWNLOADED)  # type: ignore[misc]
            await bench.call("POST", source=source)
            await bench.report(source, result="passed")
        bench.clock.ahead += 61.0
        await until(lambda: bench.lab.queue.table.is_over(queued["session"]))
        assert not bench.lab.queue.table.is_over(other["session"])
        third = await ask(bench, "POST", "/groups/rack/queue", wanted, status=201)
        assert third["session"] != queued["session"]


async def test_a_workload_is_queued_without_a_template(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        workload(tmp_path / "z.efi")
        payload = {"media": "efi", "location": "folder:w/none.efi", "size": 3000}
        body = {
            "workload": {"name": "z", "kind": "boot", "payload": payload},
            "payload": {"location": "folder:w/z.efi"},
        }
        queued = await ask(bench, "POST", "/groups/rack/queue", body, status=201)
        run = bench.lab.queue.runs[queued["id"]]
        assert (run.workload.payload["location"], run.workload.group) == ("folder:w/z.efi", "rack")


@pytest.mark.parametrize(
    ("group", "body", "status", "told"),
    [
        ("rack", {"template": "rak-check"}, 404, "group rack has no template 'rak-check': did you mean rack-check?"),
        ("gpu", {"template": "rack-check"}, 404, "group gpu has no template 'rack-check': expected one of gpu-check"),
        ("zoo", {"template": "rack-check"}, 404, "the lab has no group 'zoo': expected one of rack, gpu, lab"),
        ("rack", {}, 400, "expected a template or a workload, got neither"),
        (
            "rack",
            {"template": "rack-check", "payload": {"location": "/etc/passwd"}},
            400,
            "expected",
        ),
    ],
)
async def test_what_cannot_be_queued(tmp_path: Path, group: str, body: dict[str, Any], status: int, told: str) -> None:
    async with a_lab(tmp_path, Group(id="rack"), Group(id="gpu")) as bench:
        refused = await ask(bench, "POST", f"/groups/{group}/queue", body, status=status)
        assert told in refused["error"]
        assert not bench.lab.queue.runs


async def test_a_template_of_a_group_that_there_is_not_changes_nothing(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        template = Template(id="t", group="gpu", workload=bench.workload())
        with pytest.raises(Exception, match="template t: expected a group of the lab, got 'gpu'"):
            await bench.lab.group_service.configure([], [template])
        assert [*bench.lab.queue.groups] == ["rack", "lab"]
        assert [*bench.lab.group_service.templates] == ["rack-check"]


# Machines


async def test_machines_with_their_states(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack", labels={"arch": "x86"})) as bench:
        run = await bench.one(group="lab")
        await bench.call("HEAD")
        bench.lab.queue.machines.declare("lathe", labels={"arch": "x86"})
        seen = await ask(bench, "GET", "/machines")
        assert [(each["id"], each["state"], each["runs"], each["groups"]) for each in seen] == [
            ("127.0.0.2", "reserved", [run.id], ["lab"]),
            ("lathe", "unknown", [], ["rack", "lab"]),
        ]
        assert seen[0]["identities"] == [{"known_by": "address", "value": "127.0.0.2"}]
        held = await ask(bench, "POST", "/machines/127.0.0.2/hold", {"reason": "loud fan"})
        assert (held["state"], held["reason"], held["runs"]) == ("held", "loud fan", [run.id])
        assert await ask(bench, "GET", "/machines/127.0.0.2") == held
        assert (await ask(bench, "DELETE", "/machines/127.0.0.2/hold"))["state"] == "reserved"
        refused = await ask(bench, "GET", "/machines/127.0.0.7", status=404)
        assert refused["error"].startswith("no machine '127.0.0.7'; GET /api/v1/machines lists")
        await ask(bench, "POST", "/machines/127.0.0.7/hold", {"reason": "x"}, status=404)


async def test_a_private_lab_has_none_of_this(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        assert (await bench.api("GET", "/groups")).status == 404


# A lab that is started again


async def test_pauses_holds_places_and_queues_outlive_a_lab(tmp_path: Path, where: Place) -> None:
    rack = Group(id="rack")
    async with a_lab(tmp_path, rack, where=where.where) as bench:
        names = ("a.efi", "b.efi", "c.efi")
        bodies = [{"workload": json.loads(as_json(bench, name)), "owner": "ada"} for name in names]
        a, b, c = [await ask(bench, "POST", "/groups/rack/queue", body, status=201) for body in bodies]
        await ask(bench, "POST", f"/runs/{c['id']}/move", {"top": True})
        await ask(bench, "POST", f"/runs/{a['id']}/hold", {"reason": "not yet"})
        await ask(bench, "POST", "/groups/rack/hold", {"reason": "new fans", "owner": "ada"})
        before = await ask(bench, "GET", "/groups/rack/queue")
    async with a_lab(tmp_path, rack, where=where.where) as bench:
        await until(lambda: len(bench.boot.assets) == 3)
        after = await ask(bench, "GET", "/groups/rack/queue")
        assert after == before
        assert (await ask(bench, "GET", "/groups/rack"))["paused"]["reason"] == "new fans"
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
        await ask(bench, "DELETE", "/groups/rack/hold")
        got = [(await bench.call("HEAD", source=f"127.0.0.{n}")).headers for n in (2, 3, 4)]
        assert [each.get("dispatch-workload") for each in got] == ["c.efi", "b.efi", None]
        await ask(bench, "DELETE", f"/runs/{a['id']}/hold")
        await ask(bench, "POST", "/groups/rack/queue", bodies[0], status=201)
        assert len(bench.lab.lab_state.live_sessions) == 1, "it is in the session that ada has"
    assert where.all("SELECT what, name FROM dispatch_holds WHERE active ORDER BY name") == []
    assert b["group"] == "rack"


def as_json(bench: LabBench, name: str) -> str:
    made = bench.workload(name)
    return json.dumps({"name": made.name, "kind": made.kind, "payload": dict(made.payload)})


async def test_a_pause_that_ended_while_no_lab_was_there(tmp_path: Path) -> None:
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        body = {"reason": "new fans", "until": bench.clock.now() + 30.0}
        await ask(bench, "POST", "/groups/rack/hold", body)
    async with a_lab(tmp_path, Group(id="rack")) as bench:
        bench.clock.ahead += 31.0
        await three(bench)
        await until(lambda: not bench.lab.queue.groups.pauses)
        assert "dispatch-workload" in (await bench.call("HEAD")).headers


async def test_a_resumed_session_has_its_runs_where_they_were_put(tmp_path: Path) -> None:
    attached = Lease(owner="pytest of ada")
    async with a_lab(tmp_path, Group(id="rack"), Group(id="gpu", labels={"gpu": ""})) as bench:
        wanted = [bench.workload(name) for name in ("a.efi", "b.efi", "c.efi")]
        runs = await bench.submit(*wanted, lease=attached)
        await ask(bench, "POST", f"/runs/{runs[2].id}/move", {"before": runs[0].id})
    async with a_lab(tmp_path, Group(id="gpu", labels={"gpu": ""})) as bench:
        service = bench.lab.session_service
        resumed = await bench.lab.resumption.resume("w", Policy(), IssueRule(), attached)
        assert resumed is not None
        assert await queue(bench, "gpu") == [], "they wait to be submitted again"
        await service.submit(resumed.id, [(run.key, run.workload) for run in runs])
        assert await queue(bench, "gpu") == ["a.efi", "b.efi", "c.efi"], "their group is gone, and with it their places"
        run = bench.now(runs[0])
        assert (run.group, run.attempt.phase) == ("gpu", Phase.QUEUED)


# A lab that is killed


@contextmanager
def served(folder: Path, api: str) -> Iterator[tuple[Piped, httpx.Client]]:
    """`dispatch serve` with its journal in a folder; the process, and a client of its API."""
    here = ["--bind=127.0.0.1:0", "--no-mdns", f"--db={folder}/journal.db", f"--token-file={folder}/token"]
    environ = {**os.environ, "HOME": str(folder)}
    with dispatching().piped(folder, "serve", *here, f"--api-url={api}", environ=environ) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        url = re.fullmatch(r"dispatch: serving (http://\S+)\n", lines[0])
        assert url is not None, (lines, process.communicate(PATIENCE))
        headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
        with httpx.Client(base_url=f"{url[1]}/api/v1", headers=headers, timeout=PATIENCE, trust_env=False) as client:
            yield process, client


def answer(client: httpx.Client, method: str, path: str, body: object = None) -> Any:
    reply = client.request(method, path, json=body)
    assert reply.is_success, reply.text
    return reply.json()


def test_what_was_answered_is_there_after_sigkill(tmp_path: Path, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a.efi": ("application/vnd.dispatch+efi", b"MZ" * 99)})
    listed = list_release("me/lab", "v1", None, github.url).workloads[0]
    asked = {"kind": listed.kind, "payload": dict(listed.payload), "digest": listed.digest}
    with served(tmp_path, github.url) as (process, client):
        paused = answer(client, "POST", "/groups/lab/hold", {"reason": "new fans", "until": time.time() + 3600.0})
        bodies = [{"workload": {**asked, "name": name}, "owner": "ada"} for name in "abc"]
        runs = [answer(client, "POST", "/groups/lab/queue", body) for body in bodies]
        answer(client, "POST", f"/runs/{runs[0]['id']}/hold", {"reason": "not yet"})
        answer(client, "POST", f"/runs/{runs[1]['id']}/move", {"bottom": True})
        answer(client, "POST", f"/runs/{runs[2]['id']}/move", {"top": True})
        held = answer(client, "POST", "/hold", {"reason": "the air conditioning", "owner": "ada"})
        before = answer(client, "GET", "/groups/lab/queue")["runs"]
        process.kill()
    with served(tmp_path, github.url) as (_, client):
        assert answer(client, "GET", "/hold") == held
        ready = client.get(str(client.base_url).removesuffix("/api/v1/") + "/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "held": True})
        group = answer(client, "GET", "/groups/lab")
        assert (group["paused"], group["queued"]) == (paused["paused"], 3)
        after = answer(client, "GET", "/groups/lab/queue")["runs"]
        assert [run["name"] for run in before] == ["c", "a", "b"]
        assert lasting(after) == lasting(before)
        assert answer(client, "DELETE", "/groups/lab/hold")["paused"] is None


def lasting(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What there is to know of runs, without what the lab lacks at the moment."""
    return [{key: value for key, value in run.items() if key != "needs"} for run in runs]
