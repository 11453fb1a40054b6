"""What each status and each conclusion of GitHub means: a table, and the ends that need more than a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from actions_bench import REPO, actions_lab, dispatch, job, workflow
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.testing.actions import NEVER
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.actions.conclusion import Evidence, concluded, standing
from pytest_dispatch.workloads.actions.lifecycle import CONCLUSIONS, Event
from pytest_dispatch.workloads.actions.shapes import WorkflowJob, WorkflowRun

pytestmark = pytest.mark.anyio
PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED

LATE = "The job running on runner rpi has exceeded the maximum execution time of 5 minutes."
LOST = "The self-hosted runner: rpi lost communication with the server."
SUPERSEDED = "Canceling since a higher priority waiting request for one exists"


def run(status: str | None, conclusion: str | None = None) -> WorkflowRun:
    return WorkflowRun(id=1, status=status, conclusion=conclusion)


def a_job(status: str = "completed", conclusion: str | None = None, runner: int = 7, number: int = 1) -> WorkflowJob:
    name = f"job-{number}"
    return WorkflowJob(
        id=number, name=name, status=status, conclusion=conclusion, runner_id=runner, runner_name="rpi" * bool(runner)
    )


@pytest.mark.parametrize(
    ("told", "jobs", "event"),
    [
        (run("requested"), [], Event.OPEN),
        (run("queued"), [], Event.OPEN),
        (run("pending"), [], Event.GATE),
        (run("waiting"), [], Event.GATE),
        (run("action_required"), [], Event.GATE),
        (run("in_progress"), [], Event.BEGIN),
        (run("completed", "action_required"), [], Event.GATE),
        (run("a word of tomorrow"), [], None),
        (run(None), [], None),
        (None, [a_job("a word of tomorrow")], None),
        (None, [a_job("queued"), a_job("in_progress", number=2)], Event.BEGIN),
        (None, [a_job("waiting"), a_job("queued", number=2)], Event.OPEN),
        (None, [a_job("waiting"), a_job("pending", number=2)], Event.GATE),
        (run("in_progress"), [a_job(conclusion="success")], None),  # between two jobs: nothing runs just now
        (run("waiting"), [a_job(conclusion="success")], Event.GATE),
    ],
)
def test_each_status_means_something_and_an_unknown_one_what_the_last_did(
    told: WorkflowRun | None, jobs: list[WorkflowJob], event: Event | None
) -> None:
    assert standing(told, jobs) is event


FAILURE, TIMED_OUT, STOPPED = (a_job(conclusion=each) for each in ("failure", "timed_out", "cancelled"))
UNPLACED = a_job(conclusion="failure", runner=0)


@pytest.mark.parametrize(
    ("conclusion", "jobs", "remark", "event"),
    [
        ("failure", [FAILURE], "", Event.FAILURE),
        ("failure", [FAILURE], LATE, Event.TIMED_OUT),
        ("cancelled", [STOPPED], LATE, Event.TIMED_OUT),
        ("timed_out", [TIMED_OUT], "", Event.TIMED_OUT),
        ("failure", [FAILURE], LOST, Event.RUNNER_LOST),
        ("failure", [FAILURE, a_job(conclusion="failure", number=2)], LOST, Event.FAILURE),  # the other did fail
        ("failure", [UNPLACED], "", Event.NOT_RUN),
        ("failure", [UNPLACED, a_job(conclusion="failure", number=2)], "", Event.FAILURE),
        ("failure", [], "", Event.FAILURE),
        ("cancelled", [STOPPED], SUPERSEDED, Event.CANCELLED),
        ("stale", [], "", Event.STALE),
        ("startup_failure", [], "", Event.STARTUP_FAILURE),
        ("a word of tomorrow", [], "", Event.UNKNOWN),
        ("", [], "", Event.UNKNOWN),
    ],
)
def test_each_conclusion_means_something_and_none_by_chance_a_pass(
    conclusion: str, jobs: list[WorkflowJob], remark: str, event: Event
) -> None:
    evidence = Evidence(run=run("completed", conclusion), jobs=jobs, remarks={1: [remark]} if remark else {})
    assert concluded(evidence)[0] is event


def test_success_alone_is_a_pass() -> None:
    assert [each for each, event in CONCLUSIONS.items() if event is Event.SUCCESS] == ["success"]


async def test_an_action_that_is_required_for_too_long_is_an_error(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(conclusion="action_required"))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        gated = await lab.one(limits={"gate": 60.0})
        await lab.enters(gated, "gated")
        lab.bench.clock.ahead += 100
        why = "it waited at GitHub for longer than 1m, for an approval or another run of its concurrency group"
        assert await lab.over(gated) == [(ERROR, why)]
        await until(lambda: lab.attempt(gated).counts.get("released"))  # GitHub has nothing of it that goes on


async def test_an_environment_that_is_refused_is_no_failure_of_the_workload(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(environment="prod")))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        gated = await lab.one()
        await lab.enters(gated, "gated")
        github.actions.approve(lab.runs()[0], rejected=True)
        why = "no runner ever had what failed: job boot: failure, without a runner"
        assert await lab.over(gated) == [(ERROR, why)]


async def test_a_run_that_waits_is_superseded_by_a_later_one(tmp_path: Path, github: FakeGitHub) -> None:
    """It had no job yet that GitHub could remark on."""
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER), concurrency="one"))
    for number in range(3):
        github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))
    github.actions.start(REPO)
    async with actions_lab(tmp_path, github) as lab:
        gated = await lab.one()
        await lab.enters(gated, "gated")
        github.actions.start(REPO)
        assert await lab.over(gated) == [(ERROR, "it was cancelled at GitHub: GitHub does not say by whom")]


async def test_a_person_of_the_lab_who_cancels_is_named(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github) as lab:
        one, other = await lab.submit(dispatch("a"), dispatch("b"))
        await lab.enters(one, "running")
        lab.cancel(other)
        lab.cancel(one)
        assert await lab.over(one, other) == [
            (SKIPPED, "cancelled by us"),
            (SKIPPED, "cancelled before it was sent"),
        ]
        assert len(lab.runs()) == 1
