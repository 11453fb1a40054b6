"""Runs of the fake GitHub: jobs, needs, gates, ends, cancels, attempts, and all that is shown of them."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from actions_client import REPO, ActionsClient

from pytest_dispatch.testing.actions import (
    NEVER,
    Annotation,
    FakeActions,
    Input,
    Job,
    ScriptedClock,
    Timing,
    Workflow,
)
from pytest_dispatch.testing.github import FakeGitHub

INPUTS = {"group": Input(default="")}


@pytest.fixture
def fake(clocked_github: FakeGitHub) -> FakeActions:
    """Actions with two runners."""
    for name in ("one", "two"):
        clocked_github.actions.add_runner("me", name)
    return clocked_github.actions


def declare(fake: FakeActions, *jobs: Job, **options: Any) -> None:
    fake.add_workflow(REPO, Workflow(jobs=jobs, inputs=INPUTS, **options))


def test_a_run_goes_from_queued_to_its_end(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(assigns=1)
    declare(fake, Job(name="test", seconds=5, steps=("Set up job", "Boot", "Test"), conclusion="failure"))
    run = actions.dispatch()
    assert (actions.run(run), actions.jobs(run)[0]["runner_name"]) == (("queued", None), None)
    github_clock.advance(1)
    [job] = actions.jobs(run)
    assert (actions.run(run)[0], job["status"], job["runner_name"] in ("one", "two")) == (
        "in_progress",
        "in_progress",
        True,
    )
    assert [step["status"] for step in job["steps"]] == ["completed", "completed", "in_progress"]
    github_clock.advance(5)
    assert actions.run(run) == ("completed", "failure")
    job = actions.get(f"/actions/jobs/{job['id']}")
    assert [step["conclusion"] for step in job["steps"]] == ["success", "success", "failure"]
    times = [datetime.fromisoformat(job[name]) for name in ("created_at", "started_at", "completed_at")]
    assert [(later - times[0]).total_seconds() for later in times[1:]] == [1, 6]


def test_events_happen_in_their_order_however_long_nobody_looked(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", seconds=10))
    runs = [actions.dispatch() for _ in range(6)]
    github_clock.advance(1000)
    ended = sorted(job.ended - job.run.created for run in fake.runs(REPO) for job in run.jobs if job.ended)
    assert ended == pytest.approx([10, 10, 20, 20, 30, 30])
    assert {actions.run(run) for run in runs} == {("completed", "success")}


def test_a_matrix_makes_jobs_and_needs_hold_others_back(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    test = Job(name="test", matrix=("a", "b"), seconds=5)
    declare(fake, test, Job(name="report", needs=("test",)))
    run = actions.dispatch()
    assert [job["name"] for job in actions.jobs(run)] == ["test (a)", "test (b)"]
    assert len({job["runner_id"] for job in actions.jobs(run)}) == 2
    github_clock.advance(5)
    assert [job["status"] for job in actions.jobs(run)] == ["completed", "completed", "in_progress"]
    github_clock.advance(1)
    assert actions.run(run) == ("completed", "success")


def test_a_job_whose_needs_have_failed_is_skipped(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", conclusion="failure"), Job(name="report", needs=("test",)))
    run = actions.dispatch()
    github_clock.advance(1)
    assert [job["conclusion"] for job in actions.jobs(run)] == ["failure", "skipped"]
    assert actions.run(run) == ("completed", "failure")


@pytest.mark.parametrize(
    "conclusion", ["success", "failure", "cancelled", "neutral", "skipped", "timed_out", "action_required"]
)
def test_a_job_ends_as_declared(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock, conclusion: str
) -> None:
    declare(fake, Job(name="test", conclusion=conclusion))
    run = actions.dispatch()
    github_clock.advance(1)
    assert (actions.run(run), actions.jobs(run)[0]["conclusion"]) == (("completed", conclusion), conclusion)


@pytest.mark.parametrize("conclusion", ["stale", "startup_failure", "a_word_of_tomorrow"])
def test_a_run_ends_as_declared_whatever_its_jobs_do(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock, conclusion: str
) -> None:
    declare(fake, Job(name="test"), conclusion=conclusion)
    run = actions.dispatch()
    github_clock.advance(1)
    assert actions.run(run) == ("completed", conclusion)
    assert len(actions.jobs(run)) == (conclusion != "startup_failure")


def test_a_job_may_end_with_a_word_that_nobody_knows(github_clock: ScriptedClock) -> None:
    with FakeGitHub(clock=github_clock) as github:  # no description knows it, so nothing is held against one
        github.actions.add_runner("me", "one")
        declare(github.actions, Job(name="test", conclusion="a_word_of_tomorrow"), Job(name="other"))
        run = github.actions.start(REPO)
        github_clock.advance(2)
        assert (run.conclusion, run.jobs[0].conclusion) == ("a_word_of_tomorrow", "a_word_of_tomorrow")


def test_a_job_that_takes_too_long_is_ended_with_an_annotation(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    own = Annotation(message="No voltage", level="warning")
    declare(fake, Job(name="test", seconds=NEVER, timeout=120, annotations=(own,)))
    run = actions.dispatch()
    github_clock.advance(120)
    [job] = actions.jobs(run)
    path = job["check_run_url"].partition(REPO)[2]
    told = [each["message"] for each in actions.get(f"{path}/annotations")]
    name = job["runner_name"]
    assert told == [
        "No voltage",
        f"The job running on runner {name} has exceeded the maximum execution time of 2 minutes.",
    ]
    assert job["conclusion"] == "cancelled"


def test_logs_and_artifacts_are_in_storage(
    clocked_github: FakeGitHub, fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", log="one\ntwo", artifacts={"junit": b"<x/>"}))
    run = actions.dispatch()
    [job] = actions.jobs(run)
    actions.get(f"/actions/jobs/{job['id']}/logs", 404)
    github_clock.advance(1)
    place = actions.answer("GET", f"/actions/jobs/{job['id']}/logs").headers["Location"]
    assert place.startswith(clocked_github.storage_url)
    assert [line.partition(" ")[2] for line in httpx.get(place, verify=False).text.splitlines()] == ["one", "two"]
    assert httpx.get(place, headers={"Authorization": "Bearer x"}, verify=False).status_code == 400
    assert httpx.get(place.replace("/blobs/", "/blobs/0"), verify=False).status_code == 403
    assert unzipped(actions, f"/actions/runs/{run}/logs").keys() == {"0_test.txt"}
    [artifact] = actions.get(f"/actions/runs/{run}/artifacts")["artifacts"]
    assert actions.get(f"/actions/artifacts/{artifact['id']}") == artifact
    assert unzipped(actions, f"/actions/artifacts/{artifact['id']}/zip") == {"junit": b"<x/>"}
    fake.runs(REPO)[0].artifacts[0].expired = True
    actions.get(f"/actions/artifacts/{artifact['id']}/zip", 410)


def unzipped(actions: ActionsClient, path: str) -> dict[str, bytes]:
    content = httpx.get(actions.answer("GET", path).headers["Location"], verify=False).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_job_that_is_skipped_has_those_after_it_skipped(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    jobs = [
        Job(name="a", conclusion="failure"),
        Job(name="b", needs=("a",), matrix=("x", "y")),
        Job(name="c", needs=("b",)),
    ]
    declare(fake, *jobs)
    run = actions.dispatch()
    github_clock.advance(1)
    assert {job["name"]: job["conclusion"] for job in actions.jobs(run)} == {
        "a": "failure",
        "b (x)": "skipped",
        "b (y)": "skipped",
        "c": "skipped",
    }
    assert actions.run(run) == ("completed", "failure")


def test_a_need_that_is_no_job_is_refused() -> None:
    with pytest.raises(ValueError, match="expected jobs to need a of this workflow, got b"):
        Workflow(jobs=(Job(name="a", needs=("b",)),))


# --- gates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "end"), [("approved", "success"), ("rejected", "failure")])
def test_an_environment_holds_a_job_until_a_reviewer_speaks(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock, state: str, end: str
) -> None:
    declare(fake, Job(name="test", environment="lab"))
    run = actions.dispatch()
    github_clock.advance(100)
    assert (actions.run(run)[0], actions.jobs(run)[0]["status"]) == ("waiting", "waiting")
    path = f"/actions/runs/{run}/pending_deployments"
    [pending] = actions.get(path)
    body = {"environment_ids": [pending["environment"]["id"]], "state": state, "comment": "as agreed"}
    assert [each["environment"] for each in actions.post(path, 200, body)] == ["lab"]
    github_clock.advance(1)
    assert actions.run(run) == ("completed", end)
    assert [(each["state"], each["comment"]) for each in actions.get(f"/actions/runs/{run}/approvals")] == [
        (state, "as agreed")
    ]
    actions.post(path, 422, body)


def test_a_run_that_needs_approval_has_no_jobs_until_then(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test"), conclusion="action_required")
    run = actions.dispatch()
    assert (actions.run(run), actions.jobs(run)) == (("completed", "action_required"), [])
    actions.post(f"/actions/runs/{run}/approve", 201)
    assert actions.run(run)[0] == "in_progress"
    actions.post(f"/actions/runs/{run}/approve", 403)
    github_clock.advance(1)
    assert actions.run(run) == ("completed", "success")


def test_a_concurrency_group_runs_one_keeps_one_and_supersedes_the_rest(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", seconds=5), concurrency="lab-${{ inputs.group }}")
    first, second, third = (actions.dispatch(group="a") for _ in range(3))
    other = actions.dispatch(group="b")
    found = [actions.run(run) for run in (first, second, third, other)]
    assert found == [("in_progress", None), ("completed", "cancelled"), ("pending", None), ("in_progress", None)]
    github_clock.advance(5)
    assert [actions.run(run)[0] for run in (first, third)] == ["completed", "in_progress"]


def test_a_concurrency_group_may_cancel_what_runs(fake: FakeActions, actions: ActionsClient) -> None:
    declare(fake, Job(name="test", seconds=5), concurrency="lab", cancel_in_progress=True)
    first, second = actions.dispatch(), actions.dispatch()
    assert [actions.run(run) for run in (first, second)] == [("completed", "cancelled"), ("in_progress", None)]


def test_a_concurrency_group_that_cancels_never_starts_what_it_supersedes(
    fake: FakeActions, actions: ActionsClient
) -> None:
    job = Job(name="test", seconds=5)
    declare(fake, job, concurrency="lab")
    first, second = actions.dispatch(), actions.dispatch()
    declare(fake, job, concurrency="lab", cancel_in_progress=True)
    third = actions.dispatch()
    found = [actions.run(run) for run in (first, second, third)]
    assert found == [("completed", "cancelled"), ("completed", "cancelled"), ("in_progress", None)]
    assert actions.jobs(second) == []


def test_an_attempt_that_waits_for_its_group_can_be_cancelled(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="good"), Job(name="bad", conclusion="failure"), concurrency="lab")
    first = actions.dispatch()
    github_clock.advance(1)
    actions.dispatch()
    actions.post(f"/actions/runs/{first}/rerun-failed-jobs", 201)
    assert actions.run(first) == ("pending", None)
    actions.post(f"/actions/runs/{first}/cancel", 202)
    assert actions.run(first) == ("completed", "cancelled")


# --- cancels and attempts --------------------------------------------------------------------------------------


def test_a_cancel_takes_effect_later_and_only_once(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(cancels=3)
    declare(fake, Job(name="test", matrix=("a", "b", "c"), seconds=60))
    run = actions.dispatch()
    actions.post(f"/actions/runs/{run}/cancel", 202)
    assert actions.run(run) == ("in_progress", None)
    github_clock.advance(3)
    assert actions.run(run) == ("completed", "cancelled")
    assert [job["runner_id"] is None for job in actions.jobs(run)] == [False, False, True]
    actions.post(f"/actions/runs/{run}/cancel", 409)
    actions.post(f"/actions/runs/{run}/force-cancel", 409)


def test_a_job_that_heeds_no_cancel_needs_force(fake: FakeActions, actions: ActionsClient) -> None:
    declare(fake, Job(name="test", seconds=NEVER, heeds_cancel=False))
    run = actions.dispatch()
    actions.post(f"/actions/runs/{run}/cancel", 202)
    assert actions.run(run) == ("in_progress", None)
    actions.post(f"/actions/runs/{run}/force-cancel", 202)
    assert actions.run(run) == ("completed", "cancelled")


def test_a_run_is_run_again_in_whole_or_its_failed_jobs_only(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="good"), Job(name="bad", conclusion="failure"))
    run = actions.dispatch()
    actions.post(f"/actions/runs/{run}/rerun", 403)
    github_clock.advance(1)
    actions.post(f"/actions/runs/{run}/rerun-failed-jobs", 201)
    assert [(job["name"], job["status"]) for job in actions.jobs(run)] == [
        ("good", "completed"),
        ("bad", "in_progress"),
    ]
    assert actions.get(f"/actions/runs/{run}")["run_attempt"] == 2
    github_clock.advance(1)
    actions.post(f"/actions/runs/{run}/rerun", 201)
    assert [job["status"] for job in actions.jobs(run)] == ["in_progress", "in_progress"]
    assert len(actions.jobs(run, filter="all")) == 6
    assert actions.get(f"/actions/runs/{run}/attempts/1")["conclusion"] == "failure"
    assert actions.get(f"/actions/runs/{run}/attempts/2/jobs")["total_count"] == 2
    actions.get(f"/actions/runs/{run}/attempts/9", 404)


def test_failed_jobs_run_again_before_those_that_need_them(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", matrix=("a", "b"), seconds=9), Job(name="report", needs=("test",)))
    run = actions.dispatch()
    fake.take_offline(next(each for each in fake.runners("me") if each.job and each.job.name == "test (b)"))
    github_clock.advance(600)
    assert [job["conclusion"] for job in actions.jobs(run)] == ["success", "failure", "skipped"]
    actions.post(f"/actions/runs/{run}/rerun-failed-jobs", 201)
    assert [job["name"] for job in actions.jobs(run)] == ["test (a)", "test (b)"]
    github_clock.advance(10)
    assert actions.run(run) == ("completed", "success")


def test_a_run_without_failed_jobs_has_none_to_run_again(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test"))
    run = actions.dispatch()
    github_clock.advance(1)
    actions.post(f"/actions/runs/{run}/rerun-failed-jobs", 403)


def test_what_others_do_to_a_run_is_seen(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test", environment="lab"))
    foreign = fake.start(REPO, event="workflow_dispatch", actor="stranger")
    fake.approve(foreign)
    github_clock.advance(1)
    fake.rerun(foreign, "stranger")
    fake.cancel(foreign, "stranger")
    shown = actions.get(f"/actions/runs/{foreign.id}")
    assert (shown["actor"]["login"], shown["run_attempt"], shown["conclusion"]) == ("stranger", 2, "cancelled")
    fake.delete_run(foreign)
    actions.get(f"/actions/runs/{foreign.id}", 404)


def test_a_run_may_be_cancelled_before_it_appears(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    fake.timing = Timing(appears=2)
    declare(fake, Job(name="test"))
    run = fake.start(REPO)
    fake.cancel(run)
    github_clock.advance(2)
    assert (actions.run(run.id), actions.jobs(run.id)) == (("completed", "cancelled"), [])


def test_a_workflow_without_jobs_ends_at_once(fake: FakeActions, actions: ActionsClient) -> None:
    declare(fake)
    assert actions.run(actions.dispatch()) == ("completed", "startup_failure")


def test_a_run_that_has_ended_can_be_deleted(
    fake: FakeActions, actions: ActionsClient, github_clock: ScriptedClock
) -> None:
    declare(fake, Job(name="test"))
    run = actions.dispatch()
    assert actions.answer("DELETE", f"/actions/runs/{run}").status_code == 403
    github_clock.advance(1)
    assert actions.answer("DELETE", f"/actions/runs/{run}").status_code == 204
    assert actions.get("/actions/runs")["workflow_runs"] == []


# --- lists -----------------------------------------------------------------------------------------------------


def test_runs_are_listed_by_pages_newest_first(fake: FakeActions, actions: ActionsClient) -> None:
    declare(fake, Job(name="test"))
    runs = [actions.dispatch() for _ in range(5)]
    answer = actions.answer("GET", "/actions/runs", params={"per_page": 2, "page": 2})
    assert answer.json()["total_count"] == 5
    assert [run["id"] for run in answer.json()["workflow_runs"]] == [runs[2], runs[1]]
    assert set(answer.links) == {"prev", "next", "last", "first"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"event": "push"}, {"pushed"}),
        ({"actor": "octocat"}, {"ours"}),
        ({"branch": "next"}, {"pushed"}),
        ({"head_sha": "0" * 40}, set()),
        ({"check_suite_id": "7"}, set()),
        ({"status": "success"}, {"pushed"}),
        ({"status": "in_progress"}, {"ours"}),
        ({"created": ">=2026-01-01T00:01:00Z"}, {"ours"}),
        ({"created": "<2026-01-01T00:01:00Z"}, {"pushed"}),
        ({"created": "<=2026-01-01T00:01:00Z"}, {"pushed", "ours"}),
        ({"created": ">2026-01-01"}, set()),
        ({"created": "2026-01-01"}, {"pushed", "ours"}),
        ({"created": "*..2026-01-01T00:00:30Z"}, {"pushed"}),
        ({"created": "2026-01-01T00:00:30+00:00..*"}, {"ours"}),
    ],
)
def test_runs_are_filtered(query: dict[str, str], found: set[str]) -> None:
    clock = ScriptedClock(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    with FakeGitHub(clock=clock) as github:
        github.actions.add_runner("me", "one")
        declare(github.actions, Job(name="test"))
        pushed = github.actions.start(REPO, ref="next")
        clock.advance(60)
        client = ActionsClient(github)
        names = {pushed.id: "pushed", client.dispatch(): "ours"}
        assert {names[run["id"]] for run in client.get("/actions/runs", **query)["workflow_runs"]} == found
        client.close()
