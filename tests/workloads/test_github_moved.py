"""A lab that asks another GitHub than the one before: what that had sent is told, and nothing of others is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, dispatch, job, workflow
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Attempt, Moment, Outcome, Phase
from pytest_dispatch.testing.actions import NEVER, FakeRun
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.actions.sent_before import SentBefore, same_place, sent_before
from pytest_dispatch.workloads.actions.shapes import WorkflowRun

pytestmark = pytest.mark.anyio


@pytest.fixture
def moved() -> Iterator[FakeGitHub]:
    """Another GitHub, with the same repository, whose runs get the same numbers."""
    with FakeGitHub() as other:
        yield other


def ready(github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow(job(seconds=NEVER)))
    github.actions.add_runner("me", "rpi-01", ("rpi",))


def alike(github: FakeGitHub, moved: FakeGitHub) -> FakeRun:
    """Have the other GitHub run something of somebody else, by the number that a run of ours has at the first one."""
    [ours] = github.actions.runs(REPO)
    ready(moved)
    theirs = moved.actions.start(REPO)
    assert theirs.id == ours.id
    return theirs


async def running(lab: ActionsBench) -> str:
    """Have a person queue a run, which outlasts the lab."""
    [run] = await lab.bench.lab.queue_service.enqueue("lab", [(dispatch(), None)], "ada")
    await lab.enters(run, "running")
    return run.id


async def test_a_run_of_another_github_ends_by_a_fault_of_the_lab(
    tmp_path: Path, github: FakeGitHub, moved: FakeGitHub, caplog: pytest.LogCaptureFixture
) -> None:
    ready(github)
    async with actions_lab(tmp_path, github, private=False) as lab:
        run = await running(lab)
        name = lab.bench.lab.queue.runs[run].attempt.outside
    theirs = alike(github, moved)
    async with actions_lab(tmp_path, moved, private=False) as lab:
        await until(lambda: run in lab.bench.lab.queue.runs)
        [(outcome, reason)] = await lab.over(lab.bench.lab.queue.runs[run])
        assert outcome is Outcome.ERROR
        assert reason == (
            f"its run is {name}, and this lab asks {moved.url}, which has none or another one of that number;"
            " set github.api_url back to follow it"
        )
        await until(lambda: "is given up and not cancelled: it is of another system" in caplog.text)
        assert len(lab.bench.lab.queue.runs[run].attempts) == 1  # it is not sent again
    assert [each.status for each in moved.actions.runs(REPO)] == [theirs.status]
    assert not moved.calls.get("POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel")
    async with actions_lab(tmp_path, github, private=False):  # at the address of before, it is cancelled
        await until(lambda: github.actions.runs(REPO)[0].status == "completed")


async def test_what_was_cancelled_last_is_not_cancelled_at_another_github(
    tmp_path: Path, github: FakeGitHub, moved: FakeGitHub
) -> None:
    ready(github)
    async with actions_lab(tmp_path, github, private=False) as lab:
        run = await running(lab)
        github.fail_next("POST *", status=503, lasting=3600)
        lab.bench.lab.session_service.cancel(run)
        await until(lambda: lab.bench.lab.queue.runs[run].attempt.state == "cancelling")
    alike(github, moved)
    async with actions_lab(tmp_path, moved, private=False) as lab:
        await until(lambda: run in lab.bench.lab.queue.runs)
        [(outcome, _)] = await lab.over(lab.bench.lab.queue.runs[run])
        assert outcome is Outcome.ERROR
    assert moved.actions.runs(REPO)[0].status != "completed"


async def test_logs_and_failed_parts_of_another_github_are_not_taken_for_ours(
    tmp_path: Path, github: FakeGitHub, moved: FakeGitHub
) -> None:
    github.actions.add_workflow(REPO, workflow(job(conclusion="failure")))
    github.actions.add_runner("me", "rpi-01", ("rpi",))
    async with actions_lab(tmp_path, github, private=False) as lab:
        [run] = await lab.bench.lab.queue_service.enqueue("lab", [(dispatch(), None)], "ada")
        await lab.over(run)
        over = lab.now(run)
    alike(github, moved)
    async with actions_lab(tmp_path, moved, private=False) as lab:
        with pytest.raises(ConfigError, match=r"its run is .*, and this lab asks .*; look there"):
            await lab.service.log(over, "")
        again = lab.service.failed_part(over)
        [part] = await lab.bench.lab.queue_service.enqueue("lab", [(again, None)], "ada")
        moved.actions.cancel(moved.actions.runs(REPO)[0], "somebody")
        [(outcome, reason)] = await lab.over(part)
        assert outcome is Outcome.ERROR
        assert reason.startswith("GitHub refused to start it: its run is ")
    assert len(moved.actions.runs(REPO)[0].attempts) == 1


def test_whose_run_it_is_is_told_by_its_address_or_its_time() -> None:
    noted = SentBefore("https://github.example/me/lab/actions/runs/5", 1000.0)
    assert noted.is_told_by(WorkflowRun(id=5, html_url="https://GitHub.example/you/lab/actions/runs/5"))
    assert not noted.is_told_by(WorkflowRun(id=5, html_url="https://github.com/me/lab/actions/runs/5"))
    assert not noted.is_told_by(WorkflowRun(id=5))
    assert same_place("me/lab/actions/runs/5", "https://github.com/me/lab/actions/runs/5")
    sending = Moment(state="sending", phase=Phase.STARTING, at=1.0)
    here = Attempt(number=1, history=(sending,), outside="https://github.com/me/lab/actions/runs/5")
    assert sent_before(here, "https://api.github.com") is None
    assert sent_before(here, "https://proxy.example/api/v3") is not None
