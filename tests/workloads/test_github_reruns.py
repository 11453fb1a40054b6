"""Failed jobs of a run that are run again, alone, as another attempt of the same run at GitHub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from actions_bench import REPO, ActionsBench, actions_lab, job, workflow
from waiting import until

from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.testing.actions import NEVER
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]
PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR
RERUNS = "POST /repos/{owner}/{repo}/actions/runs/{run_id}/rerun-failed-jobs"


def mended(github: FakeGitHub, **flash: Any) -> None:
    """Have the second job end otherwise from now on."""
    github.actions.add_workflow(REPO, workflow(job("build"), job("flash", **flash)))


async def failed(lab: ActionsBench, github: FakeGitHub) -> Run:
    mended(github, conclusion="failure")
    run = await lab.one()
    assert (await lab.over(run))[0][0] is FAILED
    return run


async def again(lab: ActionsBench, run: Run, status: int = 201) -> Any:
    return await lab.post(f"/runs/{run.id}/again", {"failed": True}, status)


@pytest.fixture
def ready(github: FakeGitHub) -> FakeGitHub:
    for number in range(2):
        github.actions.add_runner("me", f"rpi-0{number}", ("rpi",))
    return github


async def test_only_the_failed_jobs_are_run_again(tmp_path: Path, ready: FakeGitHub) -> None:
    async with actions_lab(tmp_path, ready, private=False) as lab:
        first = await failed(lab, ready)
        mended(ready)
        told = await again(lab, first)
        assert told["again"] == first.id
        second = lab.bench.lab.queue.runs[told["id"]]
        assert await lab.over(second) == [(PASSED, "")]
        [at_github] = lab.runs()
        assert (len(at_github.attempts), ready.calls[RERUNS]) == (2, 1)
        assert lab.attempt(second).outside == lab.attempt(first).outside
        build, flash = at_github.attempts[1].jobs
        assert build.started == at_github.attempts[0].jobs[0].started  # it was not run again
        assert flash.conclusion == "success"


async def test_it_fails_again_and_may_be_run_again_once_more(tmp_path: Path, ready: FakeGitHub) -> None:
    async with actions_lab(tmp_path, ready, private=False) as lab:
        run = await failed(lab, ready)
        for _ in range(2):
            run = lab.bench.lab.queue.runs[(await again(lab, run))["id"]]
            assert (await lab.over(run))[0][0] is FAILED
        assert [len(each.attempts) for each in lab.runs()] == [3]


@pytest.mark.parametrize("trouble", [{"drop_after_commit": True}, {"status": 502, "commits": True}, {"drop": True}])
async def test_an_answer_that_is_lost_has_nothing_run_twice(
    tmp_path: Path, ready: FakeGitHub, trouble: dict[str, Any]
) -> None:
    """The number of the attempt at GitHub tells whether it was carried out."""
    async with actions_lab(tmp_path, ready, private=False) as lab:
        first = await failed(lab, ready)
        mended(ready)
        ready.fail_next("POST /repos/*/rerun-failed-jobs", **trouble)
        second = lab.bench.lab.queue.runs[(await again(lab, first))["id"]]
        await until(lambda: lab.service.in_hand(second.id).doubt or lab.attempt(second).outside)
        if "drop" in trouble:
            await until(lambda: lab.service.in_hand(second.id).searched < float("inf"))
            lab.bench.clock.ahead += 61
        assert await lab.over(second) == [(PASSED, "")]
        assert [len(each.attempts) for each in lab.runs()] == [2]


async def test_what_somebody_else_has_run_again_is_left_alone(tmp_path: Path, ready: FakeGitHub) -> None:
    async with actions_lab(tmp_path, ready, private=False) as lab:
        first = await failed(lab, ready)
        mended(ready, seconds=NEVER)
        ready.actions.rerun(lab.runs()[0])
        second = lab.bench.lab.queue.runs[(await again(lab, first))["id"]]
        [(outcome, reason)] = await lab.over(second)
        assert outcome is ERROR
        assert reason.startswith("GitHub refused to start it: expected attempt 1 of run ")
        assert reason.endswith("got attempt 2, in_progress")
        assert ready.calls[RERUNS] == 0


async def test_a_run_that_passed_has_nothing_to_run_again(tmp_path: Path, ready: FakeGitHub) -> None:
    mended(ready)
    async with actions_lab(tmp_path, ready, private=False) as lab:
        run = await lab.one()
        await lab.over(run)
        error = (await again(lab, run, 400))["error"]
        assert error.startswith("failed: expected a run that GitHub has ended and that did not pass, got ")
