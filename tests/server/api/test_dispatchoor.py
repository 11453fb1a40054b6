"""Scripts for dispatchoor, with the requests of its README and its pages, at a service of this project."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from bakery.lifecycle import RULES
from labs import TOKEN, LabBench, running_lab, workload
from service_bench import PASSWORD, ServiceBench
from waiting import until

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import AccessSettings, GitHubSignIn
from pytest_dispatch.workloads.boot.lifecycle import GRACE

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
FLOW = Workload(
    name="Sync Test geth/prysm",
    kind="actions",
    payload={"owner": "o", "repo": "r", "workflow": "sync.yaml", "ref": "master", "inputs": {"el": "geth", "cl": "x"}},
    labels=("el=geth",),
)
GITHUB = GitHubSignIn(client_id="id", client_secret="secret", url="http://127.0.0.1:9", logins={"x": Role.READER})


@dataclass
class Script:
    """A script for dispatchoor, and the service that it asks."""

    service: ServiceBench
    http: httpx.AsyncClient

    @property
    def bench(self) -> LabBench:
        return self.service.bench

    async def login(self, name: str) -> str:
        """`TOKEN=$(curl -s -X POST .../auth/login -d '{"username": ..., "password": ...}' | jq -r .token)`."""
        answer = await self.http.post("/api/v1/auth/login", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        self.http.cookies.clear()  # as a program without a jar for them
        self.http.headers["Authorization"] = f"Bearer {token}"
        return token

    async def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self.http.request(method, f"/api/v1{path}", content=content)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def add(self, *names: str, group: str = "rack") -> list[str]:
        """Queue runs of a template under other names, and return their ids."""
        wanted = [{"template_id": f"{group}-check", "name": name} for name in names]
        return [(await self.ask("POST", f"/groups/{group}/queue", body, status=201))["id"] for body in wanted]

    async def queue(self, group: str = "rack") -> list[tuple[str, str, int]]:
        return [
            (job["name"], job["status"], job["position"]) for job in await self.ask("GET", f"/groups/{group}/queue")
        ]


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    """A script of ada, an operator."""
    groups = Group(id="rack", name="The rack", description="old ones", labels={"self-hosted": ""}), Group(id="flows")
    check = workload(tmp_path / "check.efi", location="folder:w/check.efi")
    templates = [
        Template(id="rack-check", group="rack", workload=check),
        Template(id="sync-geth-prysm", group="flows", workload=FLOW),
    ]
    kinds, doors = [Kind(replace(RULES, name="actions"))], AccessSettings(github=GITHUB)
    async with running_lab(tmp_path, doors=doors, groups=groups, templates=templates, kinds=kinds) as bench:
        service = ServiceBench(bench)
        await service.added("ada", Role.OPERATOR, password=PASSWORD)
        await service.added("rita", Role.READER, password=PASSWORD)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.port}", headers=JSON) as http:
            made = Script(service, http)
            await made.login("ada")
            yield made


# Signing in


async def test_a_login_gives_a_token_a_user_and_a_cookie(script: Script) -> None:
    script.http.headers.pop("Authorization")
    answer = await script.http.post("/api/v1/auth/login", json={"username": "ada", "password": PASSWORD})
    said = answer.json()
    assert said["token"].startswith("dispatchoor.")
    assert {key: said["user"][key] for key in ("username", "role", "auth_provider")} == {
        "username": "ada",
        "role": "admin",
        "auth_provider": "basic",
    }
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"dispatch-session={said['token']};")
    assert "HttpOnly" in cookie
    assert answer.headers["cache-control"] == "no-store"
    assert await script.ask("GET", "/auth/me") == said["user"]
    await script.login("rita")
    assert (await script.ask("GET", "/auth/me"))["role"] == "readonly"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"username": "ada", "password": "wrong"}, 401, "expected a name and its password; one of them is wrong"),
        ({"username": "eve", "password": PASSWORD}, 401, "expected a name and its password; one of them is wrong"),
        ({"username": "ada"}, 400, "expected a username and a password"),
        ({}, 400, "expected a username and a password"),
    ],
)
async def test_a_login_that_is_refused(script: Script, body: dict[str, str], status: int, error: str) -> None:
    assert await script.ask("POST", "/auth/login", body, status=status) == {"error": error}


async def test_logins_are_limited_as_every_way_to_sign_in(script: Script) -> None:
    body = {"username": "ada", "password": "wrong"}
    answer = await script.http.post("/api/v1/auth/login", json=body)
    for _ in range(60):  # ten at once, and one more every six seconds
        if answer.status_code != 401:
            break
        answer = await script.http.post("/api/v1/auth/login", json=body)
    assert (answer.status_code, answer.headers.get("retry-after")) == (429, "6")


async def test_a_token_counts_without_the_word_bearer_too(script: Script) -> None:
    script.http.headers["Authorization"] = script.http.headers["Authorization"].removeprefix("Bearer ")
    assert [group["name"] for group in await script.ask("GET", "/groups")] == ["The rack", "flows", "lab"]


async def test_with_the_cookie_alone_a_script_reads_and_changes_nothing(script: Script) -> None:
    """A page of somebody else's could have a browser send it."""
    script.http.headers.pop("Authorization")
    await script.http.post("/api/v1/auth/login", json={"username": "ada", "password": PASSWORD})
    assert await script.ask("GET", "/groups/rack/queue") == []
    refused = await script.ask("POST", "/groups/rack/queue", {"template_id": "rack-check"}, status=403)
    assert "Dispatch-CSRF" in refused["error"]
    script.http.headers["Dispatch-CSRF"] = (await script.ask("GET", "/me"))["csrf"]
    await script.add("a")


async def test_a_login_ends_with_its_logout_or_a_new_password(script: Script) -> None:
    first = script.http.headers["Authorization"]
    await script.login("ada")
    await script.ask("POST", "/auth/logout", status=204)
    await script.ask("GET", "/groups", status=401)
    script.http.headers["Authorization"] = first
    await script.ask("GET", "/groups")
    changed = await script.service.ask("PUT", "/users/ada", {"password": PASSWORD + "!"})
    assert changed.status == 200
    await script.ask("GET", "/groups", status=401)


async def test_a_secret_of_a_login_opens_nothing_without_its_mark(script: Script) -> None:
    """So that the cookie of a browser never counts as a token of one's own."""
    script.http.headers["Authorization"] = script.http.headers["Authorization"].replace("dispatchoor.", "")
    await script.ask("GET", "/groups", status=401)


async def test_github_is_a_redirect_if_there_is_one(script: Script) -> None:
    answer = await script.http.get("/api/v1/auth/github")
    assert answer.status_code == 307
    assert answer.headers["location"].startswith("http://127.0.0.1:9/login/oauth/authorize?")


async def test_health_says_how_to_sign_in(script: Script, tmp_path: Path) -> None:
    script.http.headers.pop("Authorization")
    answer = await script.http.get("/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "config": {"auth": {"basic": True, "github": True}}},
    )
    script.bench.lab.lab_state.fail(JournalError("the disk is full"))
    broken = await script.http.get("/health")
    assert (broken.status_code, broken.json()["status"]) == (503, "broken")
    (tmp_path / "other").mkdir()
    async with running_lab(tmp_path / "other", doors=AccessSettings()) as bench:
        said = (await bench.call("GET", "/health", source="127.0.0.1")).json
        assert said["config"]["auth"] == {"basic": True, "github": False}


# Groups and runners


async def test_groups_and_runners_have_dispatchoors_fields(script: Script) -> None:
    bench = script.bench
    bench.lab.queue.machines.declare("m1", labels={"self-hosted": "", "os": "linux"})
    await script.add("a", "b")
    await bench.call("HEAD", source="127.0.0.9")
    rack = next(group for group in await script.ask("GET", "/groups") if group["id"] == "rack")
    never = "0001-01-01T00:00:00Z"
    assert rack == {
        "id": "rack",
        "name": "The rack",
        "description": "old ones",
        "runner_labels": ["self-hosted"],
        "enabled": True,
        "paused": False,
        "created_at": never,
        "updated_at": never,
        "queued_jobs": 2,
        "running_jobs": 0,
        "idle_runners": 0,
        "busy_runners": 0,
        "total_runners": 1,
        "template_count": 1,
    }
    assert await script.ask("GET", "/groups/rack") == rack
    assert (await script.ask("GET", "/groups/rak", status=404))["error"].endswith("did you mean rack?")
    seen = {runner["name"]: runner for runner in await script.ask("GET", "/runners")}
    assert list(seen) == ["127.0.0.9", "m1"]
    declared, asked = seen["m1"], seen["127.0.0.9"]
    assert (declared["status"], declared["busy"], declared["os"]) == ("offline", False, "linux")
    assert (declared["labels"], declared["last_seen_at"]) == (["self-hosted", "os=linux"], never)
    assert (asked["status"], asked["last_seen_at"] > "2020") == ("online", True)
    assert isinstance(declared["id"], int)
    assert declared["id"] != asked["id"]


async def test_a_paused_group_is_paused_there_too(script: Script) -> None:
    assert (await script.service.ask("POST", "/groups/rack/hold", {"reason": "new fans"})).status == 200
    assert (await script.ask("GET", "/groups/rack"))["paused"] is True


async def test_the_same_path_is_answered_as_the_secret_says(script: Script) -> None:
    """Any token of the lab gets the lab's own shape, and dispatchoor's with the mark before it."""
    for path in ("/groups", "/groups/rack", "/groups/rack/queue"):
        theirs = await script.ask("GET", path)
        ours = (await script.service.ask("GET", path)).json
        marked = await script.service.ask("GET", path, token=f"dispatchoor.{TOKEN}")
        assert theirs == marked.json
        assert theirs != ours
    body = {"template": "rack-check", "payload": {}}
    assert (await script.service.ask("POST", "/groups/rack/queue", body)).json["place"] == 1


# Queues and jobs


async def test_a_run_of_a_template_is_a_job(script: Script) -> None:
    job = await script.ask("POST", "/groups/rack/queue", {"template_id": "rack-check", "inputs": {}}, status=201)
    assert {key: job[key] for key in ("group_id", "template_id", "status", "position", "name", "created_by")} == {
        "group_id": "rack",
        "template_id": "rack-check",
        "status": "pending",
        "position": 0,
        "name": "check.efi",
        "created_by": "ada",
    }
    assert (job["paused"], job["auto_requeue"], job["requeue_limit"], job["run_id"]) == (False, False, None, None)
    assert (job["triggered_at"], job["completed_at"], "owner" in job) == (None, None, False)
    assert await script.ask("GET", f"/jobs/{job['id']}") == job
    assert await script.ask("GET", "/groups/rack/queue") == [job]
    (entry,) = await script.service.audit(action="run.queue")
    assert (entry["who"], entry["target"]) == ("ada", "rack")


async def test_a_job_that_is_queued_again_until_that_is_switched_off(script: Script) -> None:
    body = {"template_id": "rack-check", "auto_requeue": True, "requeue_limit": 3}
    job = await script.ask("POST", "/groups/rack/queue", body, status=201)
    assert (job["auto_requeue"], job["requeue_limit"], job["requeue_count"]) == (True, 3, 0)
    path = f"/jobs/{job['id']}/auto-requeue"
    job = await script.ask("PUT", path, {"auto_requeue": True, "requeue_limit": None})
    assert (job["auto_requeue"], job["requeue_limit"]) == (True, 1000)
    job = await script.ask("PUT", path, {"auto_requeue": False})
    assert (job["auto_requeue"], job["requeue_limit"]) == (False, None)
    await script.ask("PUT", path, {"auto_requeue": True, "requeue_limit": 5})
    for _ in range(2):
        job = await script.ask("POST", f"/jobs/{job['id']}/disable-requeue")
        assert (job["auto_requeue"], job["requeue_count"]) == (False, 0)
    await script.ask("DELETE", f"/jobs/{job['id']}", status=204)
    assert (await script.ask("POST", f"/jobs/{job['id']}/disable-requeue"))["status"] == "cancelled"
    refused = await script.ask("PUT", path, {"auto_requeue": True}, status=400)
    told = f"expected a job that is pending, triggered or running, got {job['id']}, which is cancelled"
    assert refused == {"error": told}


async def test_inputs_and_overrides_of_a_workflow(script: Script) -> None:
    body = {"template_id": "sync-geth-prysm", "inputs": {"cl": "prysm"}, "ref": "main", "labels": {"cl": "prysm"}}
    job = await script.ask("POST", "/groups/flows/queue", body, status=201)
    assert job["inputs"] == {"el": "geth", "cl": "prysm"}
    assert [job[key] for key in ("owner", "repo", "workflow_id", "ref")] == ["o", "r", "sync.yaml", "main"]
    assert (job["name"], job["labels"]) == (FLOW.name, {"cl": "prysm"})
    assert (job["template_id"], job["priority"]) == ("sync-geth-prysm", 2)


async def test_a_manual_job_is_a_workflow_of_its_own(script: Script) -> None:
    where = {"owner": "o", "repo": "r", "workflow_id": "w.yml", "ref": "main"}
    job = await script.ask("POST", "/groups/flows/queue", {**where, "inputs": {"a": "1"}}, status=201)
    assert {key: job[key] for key in where} == where
    assert (job["name"], job["template_id"], job["inputs"]) == ("o/r/w.yml", None, {"a": "1"})


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            {"owner": "o", "repo": "r", "ref": "main"},
            400,
            "expected a template_id, or owner, repo, workflow_id and ref",
        ),
        (
            {"template_id": "rack-check", "auto_requeue": True, "requeue_limit": 0},
            400,
            "requeue_limit: expected a number from 1 to 1000, or null, got 0",
        ),
        ({"template_id": "rack-chek"}, 404, "did you mean rack-check?"),
        ({"template_id": "sync-geth-prysm"}, 404, "no template"),
        ({"template_id": "rack-check", "inputs": {"speed": "fast"}}, 400, "speed"),
        ({"template_id": "rack-check", "inputs": ["fast"]}, 400, "inputs"),
    ],
)
async def test_jobs_that_are_refused(script: Script, body: dict[str, Any], status: int, error: str) -> None:
    assert error in (await script.ask("POST", "/groups/rack/queue", body, status=status))["error"]
    assert await script.queue() == []


async def test_a_queue_in_another_order(script: Script) -> None:
    a, _, c = await script.add("a", "b", "c")
    await script.ask("PUT", "/groups/rack/queue/reorder", {"job_ids": [c, a]}, status=204)
    assert await script.queue() == [("c", "pending", 0), ("a", "pending", 1), ("b", "pending", 2)]
    (entry,) = await script.service.audit(action="run.move")
    assert (entry["who"], entry["target"], entry["after"]) == ("ada", "rack", {"runs": 2, "first": c})


async def test_an_order_that_is_refused_changes_nothing(script: Script) -> None:
    a, b = await script.add("a", "b")
    other = (await script.ask("POST", "/groups/flows/queue", {"template_id": "sync-geth-prysm"}, status=201))["id"]
    for ids, error in (
        ([], "job_ids: expected the ids"),
        ([b, "nobody"], "got nobody, which is unknown or over"),
        ([b, other], f"got {other}, which waits in group flows"),
    ):
        refused = await script.ask("PUT", "/groups/rack/queue/reorder", {"job_ids": ids}, status=400)
        assert error in refused["error"]
    assert [name for name, *_ in await script.queue()] == ["a", "b"]
    await script.ask("DELETE", f"/jobs/{a}", status=204)
    refused = await script.ask("PUT", "/groups/rack/queue/reorder", {"job_ids": [a]}, status=400)
    assert refused["error"].endswith(f"got {a}, which is over")


async def test_a_job_on_its_way(script: Script) -> None:
    """Pending, then on a machine, then ended; what is under way comes first in its queue."""
    bench = script.bench
    bench.lab.queue.machines.declare("127.0.0.2", labels={"self-hosted": ""})
    a, b = await script.add("a", "b")
    await script.ask("PUT", "/groups/rack/queue/reorder", {"job_ids": [b]}, status=204)
    await until(lambda: {a, b} <= set(bench.boot.assets))
    await bench.call("HEAD")
    assert await script.queue() == [("b", "triggered", 0), ("a", "pending", 0)]
    await bench.download(bench.lab.queue.runs[b])
    await bench.call("POST")
    (runner,) = await script.ask("GET", "/runners")
    job = await script.ask("GET", f"/jobs/{b}")
    assert (job["status"], job["runner_name"], job["runner_id"]) == ("running", "127.0.0.2", runner["id"])
    assert (runner["status"], runner["busy"]) == ("online", True)
    assert (await script.ask("GET", "/groups/rack"))["busy_runners"] == 1
    assert job["created_at"] <= job["triggered_at"] <= job["updated_at"]
    refused = await script.ask("DELETE", f"/jobs/{b}", status=400)
    assert refused["error"].endswith(f"got {b}, which is running: POST /api/v1/jobs/{b}/cancel ends it")
    assert (await script.ask("POST", f"/jobs/{a}/cancel", status=400))["error"].endswith(f"got {a}, which is pending")
    await script.ask("POST", f"/jobs/{b}/cancel")
    assert (await script.ask("GET", f"/jobs/{b}"))["status"] == "cancelled"
    assert await script.queue() == [("a", "pending", 0)]


@pytest.mark.parametrize(("result", "status"), [("passed", "completed"), ("failed", "failed")])
async def test_a_job_that_ended(script: Script, result: str, status: str) -> None:
    bench = script.bench
    bench.lab.queue.machines.declare("127.0.0.2", labels={"self-hosted": ""})
    (a,) = await script.add("a")
    await until(lambda: a in bench.boot.assets)
    await bench.call("HEAD")
    await bench.download(bench.lab.queue.runs[a])
    await bench.call("POST")
    await bench.report(result=result)
    bench.clock.ahead += GRACE
    await until(lambda: bench.lab.session_service.run(a).outcome)
    job = await script.ask("GET", f"/jobs/{a}")
    assert (job["status"], bool(job["error_message"])) == (status, status == "failed")
    assert job["completed_at"] >= job["triggered_at"]
    refused = await script.ask("DELETE", f"/jobs/{a}", status=400)
    assert refused["error"].endswith("what ended stays in the history")


async def test_a_job_is_removed_whoever_asked_for_it(script: Script) -> None:
    theirs = await script.service.session(script.service.secrets["ada"])
    await script.ask("DELETE", f"/jobs/{theirs.run}", status=204)
    assert (await script.ask("GET", f"/jobs/{theirs.run}"))["status"] == "cancelled"
    await script.ask("DELETE", "/jobs/nobody", status=404)
    assert {entry["target"] for entry in await script.service.audit(action="run.cancel")} == {theirs.run}


async def test_what_goes_on_after_its_session_is_in_the_queue(script: Script) -> None:
    bench, ada = script.bench, script.service.secrets["ada"]
    bench.lab.queue.machines.declare("127.0.0.2", labels={"self-hosted": ""})
    opened = await script.service.session(ada)
    await until(lambda: opened.run in bench.boot.assets)
    await bench.download(bench.lab.queue.runs[opened.run])
    await bench.call("POST")
    left = await script.service.ask(
        "DELETE", f"/sessions/{opened.session}?left=1", token=ada, headers={"Dispatch-Epoch": "1"}
    )
    assert left.status == 204
    assert await script.queue() == [("a.efi", "running", 0)]


async def test_a_long_queue_is_whole(script: Script) -> None:
    names = [f"j{number:03}" for number in range(260)]
    await script.add(*names)
    assert [name for name, *_ in await script.queue()] == names


# The rest of the API


async def test_other_methods_are_told_which_there_are(script: Script) -> None:
    answer = await script.http.patch("/api/v1/jobs/x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
    await script.ask("POST", "/runners/refresh", status=404)


async def test_a_private_lab_has_none_of_it(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        for path in ("/runners", "/groups", "/auth/me"):
            assert (await bench.api("GET", path)).status == 404
