"""A service of GitHub Actions in a process of its own: templates, manual runs, and what outlasts SIGKILL."""

from __future__ import annotations

import hashlib
import hmac
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from actions_bench import REPO, job, workflow
from services import Service, configured, seen

from pytest_dispatch.testing.actions import NEVER
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

LAB = """
github:
  api_url: {url}
  tokens: {{"*": {token}}}
  polling: {{interval: 1s}}
groups:
  - id: boards
    labels: [self-hosted, RPI]
    template_files: [templates.yaml]
    templates:
      - {{id: own, kind: actions, payload: {{owner: me, repo: lab, workflow: test.yml, correlation: ticket}}}}
"""
TEMPLATES = "[{id: theirs, owner: me, repo: lab, workflow_id: test.yml, inputs: {ticket: of dispatchoor}}]"


@contextmanager
def served(folder: Path, github: FakeGitHub) -> Iterator[tuple[Service, httpx.Client]]:
    (folder / "templates.yaml").write_text(TEMPLATES)
    more = LAB.format(url=github.url, token=github.token)
    with (
        configured(folder, more=more) as service,
        httpx.Client(base_url=f"{service.api}/api/v1", headers=service.bearer(), timeout=60) as api,
    ):
        yield service, api


def queued(api: httpx.Client, wanted: dict[str, Any]) -> str:
    answer = api.post("/groups/boards/queue", json=wanted)
    assert answer.status_code == 201, answer.text
    run: str = answer.json()["id"]
    return run


def told(api: httpx.Client, run: str) -> dict[str, Any]:
    answer: dict[str, Any] = api.get(f"/runs/{run}").json().get("run", {})  # none while the lab restores it
    return answer


def over(api: httpx.Client, run: str) -> str | None:
    seen(lambda: told(api, run).get("outcome"))
    outcome: str | None = told(api, run)["outcome"]
    return outcome


@pytest.fixture
def ready(github: FakeGitHub) -> FakeGitHub:
    github.actions.add_workflow(REPO, workflow())
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    return github


def test_templates_and_manual_runs_are_sent_in_their_group(tmp_path: Path, ready: FakeGitHub) -> None:
    manual = {"name": "by hand", "kind": "actions", "payload": {"owner": "me", "repo": "lab", "workflow": "test.yml"}}
    with served(tmp_path, ready) as (_, api):
        runs = [queued(api, each) for each in ({"template": "own"}, {"template": "theirs"}, {"workload": manual})]
        assert [over(api, run) for run in runs] == ["passed"] * 3
        assert {each.inputs["ticket"] for each in ready.actions.runs(REPO)} == {f"{runs[0]}.1", "of dispatchoor", ""}
        refused = api.post("/groups/boards/queue", json={"workload": {**manual, "payload": {"owner": "me"}}})
        assert refused.status_code == 400
        assert "payload: repo: expected the name of a repository" in refused.json()["error"]


def test_a_reload_changes_how_the_lab_learns_what_changes_at_github(tmp_path: Path, ready: FakeGitHub) -> None:
    """Webhooks and looks begin with a reload, and the new secret alone counts."""
    (tmp_path / "templates.yaml").write_text(TEMPLATES)
    off = LAB.format(url=ready.url, token=ready.token).replace("{interval: 1s}", "{enabled: false}")
    with configured(tmp_path, more=off) as service, httpx.Client(base_url=f"{service.api}/api/v1", timeout=60) as api:
        api.headers.update(service.bearer())
        run, file = queued(api, {"template": "own"}), tmp_path / "lab.yaml"

        def hooked(secret: str) -> int:
            signature = hmac.new(secret.encode(), b"{}", hashlib.sha256).hexdigest()
            headers = {"X-GitHub-Event": "ping", "X-Hub-Signature-256": f"sha256={signature}"}
            return api.post("/github/webhooks", content=b"{}", headers=headers).status_code

        assert hooked("one-secret") == 404
        on = file.read_text().replace("{enabled: false}", "{interval: 1s}\n  webhook_secret: one-secret")
        file.write_text(on)
        assert api.post("/reload").json()["keys"] == ["github.polling", "github.webhook_secret"]
        assert over(api, run) == "passed"
        assert hooked("one-secret") == 204
        file.write_text(on.replace("one-secret", "another-secret"))
        assert api.post("/reload").json()["keys"] == ["github.webhook_secret"]
        assert (hooked("one-secret"), hooked("another-secret")) == (401, 204)
        assert "another-secret" not in service.log.read_text()


def test_a_dispatch_whose_answer_the_lab_did_not_live_to_see_is_found(tmp_path: Path, ready: FakeGitHub) -> None:
    ready.fail_next("POST /repos/*/dispatches", drop_after_commit=True)
    search = ready.hold_next("GET /repos/*/workflows/*/runs")
    with served(tmp_path, ready) as (service, api):
        run = queued(api, {"template": "own"})
        search.wait(60)
        service.end(signal.SIGKILL)
    search.open()
    with served(tmp_path, ready) as (_, api):
        assert over(api, run) == "passed"
        assert len(ready.actions.runs(REPO)) == 1


def test_what_runs_at_sigkill_is_followed_and_cancelled_by_the_next(tmp_path: Path, ready: FakeGitHub) -> None:
    ready.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
    with served(tmp_path, ready) as (service, api):
        run = queued(api, {"template": "own"})
        seen(lambda: told(api, run)["attempts"][-1]["history"][-1]["state"] == "running")
        service.end(signal.SIGKILL)
    with served(tmp_path, ready) as (_, api):
        seen(lambda: api.get(f"/runs/{run}").status_code == 200)
        assert api.delete(f"/runs/{run}").status_code == 204
        assert over(api, run) == "skipped"
        assert [each.conclusion for each in ready.actions.runs(REPO)] == ["cancelled"]
