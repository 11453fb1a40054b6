"""Dispatches to the fake GitHub: what they answer, what they refuse, and what runs they make."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from actions_client import REPO, ActionsClient

from pytest_dispatch.testing.actions import Input, Job, ScriptedClock, Timing, Workflow
from pytest_dispatch.testing.github import FakeGitHub

PATH = "/actions/workflows/test.yml/dispatches"
INPUTS = {
    "board": Input(required=True),
    "kind": Input(default="quick", options=("quick", "full")),
    "runs_on": Input(default='["self-hosted", "rpi"]'),
}
WORKFLOW = Workflow(
    jobs=(Job(name="test", runs_on=("${{ fromJSON(inputs.runs_on) }}", "${{ inputs.kind }}")),),
    inputs=INPUTS,
    run_name="${{ inputs.kind }} on ${{ inputs.board }}",
)


@pytest.fixture(autouse=True)
def _workflow(clocked_github: FakeGitHub) -> None:
    clocked_github.actions.add_workflow(REPO, WORKFLOW)


def test_a_dispatch_answers_with_its_run_when_asked(actions: ActionsClient) -> None:
    body = {"ref": "refs/heads/main", "inputs": {"board": "b1"}, "return_run_details": True}
    told = actions.post(PATH, 200, body)
    run = actions.get(f"/actions/runs/{told['workflow_run_id']}")
    assert (run["display_title"], run["event"], run["head_branch"]) == ("quick on b1", "workflow_dispatch", "main")
    assert (told["run_url"], told["html_url"]) == (run["url"], run["html_url"])
    assert actions.jobs(run["id"])[0]["labels"] == ["self-hosted", "rpi", "quick"]


def test_a_dispatch_answers_nothing_when_not_asked(actions: ActionsClient) -> None:
    actions.post(PATH, 204, {"ref": "main", "inputs": {"board": "b1"}})
    assert actions.get("/actions/workflows/test.yml/runs")["total_count"] == 1


def test_the_version_of_2026_always_answers_with_the_run(actions: ActionsClient) -> None:
    body = {"ref": "main", "inputs": {"board": "b1"}}
    answer = actions.answer("POST", PATH, json=body, headers={"X-GitHub-Api-Version": "2026-03-10"})
    assert answer.status_code == 200


@pytest.mark.parametrize("status", [400, 422])
def test_an_older_server_refuses_the_field_and_starts_nothing(
    clocked_github: FakeGitHub, actions: ActionsClient, status: int
) -> None:
    clocked_github.actions.server.details = "refused"
    clocked_github.actions.server.refused_with = status
    body = {"ref": "main", "inputs": {"board": "b1"}}
    assert "return_run_details" in actions.post(PATH, status, {**body, "return_run_details": True})["message"]
    assert clocked_github.actions.runs(REPO) == []
    actions.post(PATH, 204, body)
    assert len(clocked_github.actions.runs(REPO)) == 1


def test_another_older_server_overlooks_the_field(clocked_github: FakeGitHub, actions: ActionsClient) -> None:
    clocked_github.actions.server.details = "ignored"
    actions.post(PATH, 204, {"ref": "main", "inputs": {"board": "b1"}, "return_run_details": True})
    assert len(clocked_github.actions.runs(REPO)) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"ref": "gone", "inputs": {"board": "b1"}}, "No ref found for: gone"),
        ({"ref": "main"}, "Required input 'board' not provided"),
        ({"ref": "main", "inputs": {"board": "b1", "x": "y"}}, 'Unexpected inputs provided: ["x"]'),
        (
            {"ref": "main", "inputs": {"board": "b1", "kind": "slow"}},
            "Provided value 'slow' for input 'kind' not in the list of allowed values",
        ),
    ],
)
def test_a_dispatch_that_makes_no_sense_is_refused(actions: ActionsClient, body: Any, told: str) -> None:
    assert actions.post(PATH, 422, body)["message"] == told


def test_what_lacks_a_field_is_refused() -> None:
    with FakeGitHub() as github:  # unjudged: it is the request that is wrong
        github.actions.add_workflow(REPO, WORKFLOW)
        run = github.actions.start(REPO)
        url, headers = f"{github.url}/repos/{REPO}", {"Authorization": f"Bearer {github.token}"}
        for path in (PATH, f"/actions/runs/{run.id}/pending_deployments"):
            answer = httpx.post(f"{url}{path}", json={}, headers=headers, verify=False)
            assert (answer.status_code, "wasn't supplied" in answer.text) == (422, True)


def test_a_workflow_that_cannot_be_dispatched_refuses(clocked_github: FakeGitHub, actions: ActionsClient) -> None:
    pushed = Workflow(jobs=(Job(name="test"),), path=".github/workflows/push.yml", dispatchable=False)
    off = clocked_github.actions.add_workflow(REPO, Workflow(jobs=(), path=".github/workflows/off.yml"))
    off.state = "disabled_manually"
    clocked_github.actions.add_workflow(REPO, pushed)
    for file, told in (("push.yml", "does not have 'workflow_dispatch' trigger"), ("off.yml", "disabled workflow")):
        assert told in actions.post(f"/actions/workflows/{file}/dispatches", 422, {"ref": "main"})["message"]
    actions.post("/actions/workflows/none.yml/dispatches", 404, {"ref": "main"})


def test_workflows_are_listed_and_found_by_id(actions: ActionsClient) -> None:
    [workflow] = actions.get("/actions/workflows")["workflows"]
    assert actions.get(f"/actions/workflows/{workflow['id']}") == workflow
    assert (workflow["path"], workflow["state"]) == (".github/workflows/test.yml", "active")


def test_a_run_is_unknown_until_it_appears(
    clocked_github: FakeGitHub, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    clocked_github.actions.timing = Timing(appears=2)
    run = actions.dispatch(board="b1")
    actions.get(f"/actions/runs/{run}", 404)
    assert actions.get("/actions/runs")["total_count"] == 0
    github_clock.advance(2)
    assert actions.run(run) == ("queued", None)


def test_labels_that_are_not_json_end_the_run_before_it_has_jobs(actions: ActionsClient) -> None:
    run = actions.dispatch(board="b1", runs_on="rpi")
    assert (actions.run(run), actions.jobs(run)) == (("completed", "startup_failure"), [])


def test_a_run_whose_answer_is_lost_is_there(clocked_github: FakeGitHub, actions: ActionsClient) -> None:
    clocked_github.fail_next("POST */dispatches", drop_after_commit=True)
    body = {"ref": "main", "inputs": {"board": "b1"}}
    with pytest.raises(Exception, match="disconnected"):
        actions.post(PATH, 204, body)
    clocked_github.fail_next("POST */dispatches", status=500, commits=True)
    actions.post(PATH, 500, body)
    assert len(clocked_github.actions.runs(REPO)) == 2
