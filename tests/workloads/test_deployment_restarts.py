"""Deployments outlast the lab: the next one follows the same job, and submits nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment_bench import SPEED, DeploymentBench, deployment, deployment_lab
from labs import Clock
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.testing.testflinger import FakeTestflinger, JobPlan

pytestmark = pytest.mark.anyio


@pytest.fixture
def farm() -> Iterator[FakeTestflinger]:
    with FakeTestflinger(speed=SPEED) as farm:
        farm.add_agent("node-1", plans=[JobPlan(seconds={"reserve": 3 * SPEED})])
        yield farm


async def queued(lab: DeploymentBench) -> str:
    """Have a person queue a deployment, which outlasts the lab."""
    [run] = await lab.bench.lab.queue_service.enqueue("lab", [(deployment(), None)], "ada")
    return run.id


async def resumed(folder: Path, farm: FakeTestflinger, run: str, clock: Clock) -> tuple[Outcome | None, str]:
    """Go on with a run in another lab on the same journal, and return how it ended."""
    async with deployment_lab(folder, farm, clock=clock, private=False) as lab:
        await until(lambda: run in lab.bench.lab.queue.runs)
        return (await lab.over(lab.bench.lab.queue.runs[run]))[0]


async def test_a_job_that_goes_on_is_followed_by_the_next_lab(tmp_path: Path, farm: FakeTestflinger) -> None:
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        run = await queued(lab)
        await until(lambda: lab.bench.lab.queue.runs[run].attempt.state == "reserve")
    assert await resumed(tmp_path, farm, run, clock) == (Outcome.PASSED, "")
    assert len(farm.jobs) == 1


async def test_a_submission_that_the_lab_did_not_survive_is_found_by_its_tag(
    tmp_path: Path, farm: FakeTestflinger
) -> None:
    clock = Clock()
    farm.fail_next("POST /v1/job", drop_after_commit=True)
    gate = farm.hold_next("GET /v1/job/search")
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        run = await queued(lab)
        await until(lambda: farm.jobs)
        assert lab.bench.lab.queue.runs[run].attempt.outside == ""
    gate.open()
    assert await resumed(tmp_path, farm, run, clock) == (Outcome.PASSED, "")
    assert len(farm.jobs) == 1


async def test_what_was_about_to_be_submitted_is_submitted_by_the_next_lab(
    tmp_path: Path, farm: FakeTestflinger
) -> None:
    clock = Clock()
    farm.fail_next("POST /v1/job", drop=True)
    gate = farm.hold_next("GET /v1/job/search")
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        run = await queued(lab)
        await until(lambda: lab.bench.lab.queue.runs[run].attempt.state == "sending")
        await until(lambda: farm.calls["POST /v1/job"] == 1)
    gate.open()
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        await until(lambda: run in lab.bench.lab.queue.runs)
        found = lab.bench.lab.queue.runs[run]
        searches = farm.calls["GET /v1/job/search"]
        await until(lambda: farm.calls["GET /v1/job/search"] > searches)
        await until(lambda: lab.deployment(found).searched < float("inf"))
        clock.ahead += 60
        assert await lab.over(found) == [(Outcome.PASSED, "")]
    assert len(farm.jobs) == 1
