"""Troubles that a program has with GitHub's Actions: the fake can make each of them happen."""

from __future__ import annotations

import httpx
import pytest
from actions_client import REPO, ActionsClient

from pytest_dispatch.testing.actions import NEVER, FakeActions, Job, ScriptedClock, Timing, Workflow
from pytest_dispatch.testing.github import FakeGitHub

PATH = "/actions/workflows/test.yml/dispatches"


@pytest.fixture
def fake(clocked_github: FakeGitHub) -> FakeActions:
    """Actions with a workflow and a runner."""
    clocked_github.actions.add_workflow(REPO, Workflow(jobs=(Job(name="test", seconds=60),)))
    clocked_github.actions.add_runner("me", "rpi-01")
    return clocked_github.actions


def test_a_minute_of_503_starts_nothing(
    clocked_github: FakeGitHub, fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    clocked_github.fail_next("*", status=503, lasting=60)
    actions.post(PATH, 503, {"ref": "main"})
    github_clock.advance(60)
    assert (fake.runs(REPO), actions.run(actions.dispatch())) == ([], ("in_progress", None))


def test_github_is_away_for_a_while(
    clocked_github: FakeGitHub, fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    clocked_github.fail_next("*", drop=True, lasting=60)
    with pytest.raises(httpx.TransportError):
        actions.get("/actions/runs")
    github_clock.advance(60)
    assert actions.get("/actions/runs")["total_count"] == 0


def test_a_foreign_run_in_the_same_second_looks_like_ours(fake: FakeActions, actions: ActionsClient) -> None:
    foreign = fake.start(REPO, event="workflow_dispatch", actor="octocat")
    fake.server.details = "ignored"
    actions.post(PATH, 204, {"ref": "main"})
    runs = actions.get("/actions/runs", event="workflow_dispatch")["workflow_runs"]
    assert foreign.id in [run["id"] for run in runs]
    assert len({(run["display_title"], run["created_at"], run["head_sha"]) for run in runs}) == 1


def test_one_runner_is_sent_two_runs_while_it_seems_idle(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(busy_late=30)
    runs = []
    for _ in range(2):
        assert not actions.get("/orgs/me/actions/runners")["runners"][0]["busy"]
        runs.append(actions.dispatch())
        github_clock.advance(1)
    assert [actions.run(run)[0] for run in runs] == ["in_progress", "queued"]


def test_a_cancel_is_refused_though_it_is_carried_out(
    clocked_github: FakeGitHub, fake: FakeActions, actions: ActionsClient
) -> None:
    run = actions.dispatch()
    clocked_github.fail_next("POST */cancel", status=500, commits=True)
    actions.post(f"/actions/runs/{run}/cancel", 500)
    assert actions.run(run) == ("completed", "cancelled")


def test_a_run_is_deleted_while_it_runs(fake: FakeActions, actions: ActionsClient) -> None:
    run = actions.dispatch()
    fake.delete_run(fake.runs(REPO)[0])
    actions.get(f"/actions/runs/{run}", 404)
    assert actions.get("/orgs/me/actions/runners")["runners"][0]["busy"]


def test_a_runner_is_deregistered_while_it_runs(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    run = actions.dispatch()
    fake.deregister(fake.runners("me")[0])
    assert actions.get("/orgs/me/actions/runners")["total_count"] == 0
    github_clock.advance(599)
    assert actions.run(run) == ("in_progress", None)
    github_clock.advance(1)
    assert actions.run(run) == ("completed", "failure")


def test_a_job_that_no_runner_fits_waits_for_ever(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.add_workflow(REPO, Workflow(jobs=(Job(name="test", runs_on=("rpi", "lava"), seconds=NEVER),)))
    run = actions.dispatch()
    github_clock.advance(86400)
    [job] = actions.jobs(run)
    assert (actions.run(run), job["labels"], job["runner_id"]) == (("queued", None), ["rpi", "lava"], None)


def test_an_enterprise_server_has_its_own_paths() -> None:
    with FakeGitHub(prefix="/api/v3") as github:
        for number in range(3):
            github.actions.add_runner("me", str(number))
        client = ActionsClient(github)
        answer = client.answer("GET", f"{github.url}/orgs/me/actions/runners", params={"per_page": 2})
        assert client.answer("GET", answer.links["next"]["url"]).json()["runners"][0]["name"] == "2"
        assert github.calls == {"GET /orgs/{org}/actions/runners": 2}
        client.close()
