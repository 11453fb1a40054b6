"""Deployments outlast the lab: the next one follows the same job, and submits nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment_bench import JOB, SPEED, DeploymentBench, deployment, deployment_lab
from labs import Clock
from waiting import until

from pytest_dispatch.core.explanation import told_time
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.testing.testflinger import NEVER, FakeTestflinger, JobPlan

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

HANGS = [JobPlan(seconds={"reserve": NEVER})]


@pytest.fixture
def farm() -> Iterator[FakeTestflinger]:
    with FakeTestflinger(speed=SPEED) as farm:
        farm.add_agent("node-1", plans=[JobPlan()])
        yield farm


async def queued(lab: DeploymentBench) -> str:
    """Have a person queue a deployment, which outlasts the lab."""
    [run] = await lab.bench.lab.queue_service.enqueue("lab", [(deployment(), None)], "ada")
    return run.id


async def resumed(folder: Path, farm: FakeTestflinger, run: str, clock: Clock) -> tuple[Outcome | None, str]:
    """Go on with a run in another lab on the same journal, and return how it ended; what hangs ends now."""
    async with deployment_lab(folder, farm, clock=clock, private=False) as lab:
        await until(lambda: run in lab.bench.lab.queue.runs)
        for job in farm.jobs:
            if job.state == "reserve" and farm.agents[0].plans[0].seconds.get("reserve") == NEVER:
                farm.finish(job)
        return (await lab.over(lab.bench.lab.queue.runs[run]))[0]


async def test_a_job_that_goes_on_is_followed_by_the_next_lab(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.agents[0].plans = HANGS
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


LINES = tuple(f"line {number}" for number in range(40))


@pytest.mark.parametrize("apart", [False, True], ids=["results", "fragments"])
async def test_lines_of_a_console_are_shown_once_across_restarts(
    tmp_path: Path, farm: FakeTestflinger, *, apart: bool
) -> None:
    if apart:
        farm.keep_logs_apart()
    twice = ("the same", *LINES, "the same")
    plan = JobPlan(
        seconds={"reserve": 3 * SPEED}, serial={"provision": twice, "reserve": twice}, output={"test": LINES}
    )
    farm.agents[0].plans = [plan]
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        job = {**JOB, "test_data": {"test_cmds": "true"}}
        [run] = await lab.bench.lab.queue_service.enqueue("lab", [(deployment(job=job), None)], "ada")
        await until(lambda: lab.bench.lab.queue.runs[run.id].attempt.state == "reserve")
        await until(lambda: "line 19" in lab.console(run)[-1:])
    assert await resumed(tmp_path, farm, run.id, clock) == (Outcome.PASSED, "")
    assert await journalled(tmp_path, farm, clock, run.id) == [*twice, *LINES, *twice]


async def journalled(folder: Path, farm: FakeTestflinger, clock: Clock, run: str) -> list[str]:
    """Return what its job wrote on the console of a run's first attempt, as it is in the journal.

    On a busy computer, the lab also sees the job while it waits for its agent, and says at which place.
    """
    async with deployment_lab(folder, farm, clock=clock, private=False) as lab:
        pieces = await lab.bench.lab.lab_state.journal.history.ask(lambda reader: reader.console(run, 1, 0, 1000))
        lines = [line for piece in pieces for line in piece.text.split("\n")]
        return [line for line in lines if not line.startswith("Testflinger: ")]


async def test_the_next_lab_cancels_what_the_last_one_could_not(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.agents[0].plans = HANGS
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        run = await lab.one()
        await lab.enters(run, "reserve")
        farm.fail_next("POST /v1/job/*/action", status=503, lasting=3600)
        clock.ahead += lab.now(run).limits["reserve"] + 61
        [(outcome, why)] = await lab.over(run)
        assert (outcome, why) == (Outcome.ERROR, "its phase reserve was not over after 32m on node-1")
    farm.forget_faults()
    assert [job.state for job in farm.jobs] == ["reserve"]
    clock.ahead += 70  # the breaker's longest pause
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        farm.add_agent("node-2")
        await lab.over(await lab.one("node-2"))  # a private lab looks once it has such work
        await until(lambda: farm.jobs[0].state == "cancelled")
        await lab.bench.until_released(run.id)
    looks = farm.calls["POST /v1/job/{id}/action"]
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        await lab.over(await lab.one("node-2"))
    assert farm.calls["POST /v1/job/{id}/action"] == looks  # it is not asked for again


async def perhaps_submitted(lab: DeploymentBench, clock: Clock) -> str:
    """Have a deployment end while nobody can say whether Testflinger has its job."""
    lab.farm.fail_next("GET /v1/job/search", status=503, lasting=3600)
    run = await lab.one()
    await until(lambda: lab.farm.calls["POST /v1/job"])
    await until(lambda: not lab.deployment(run).posting)
    clock.ahead += lab.now(run).limits["send"] + 1
    why = "perhaps submitted: Testflinger did not tell within 10m whether it has the job"
    assert await lab.over(run) == [(Outcome.ERROR, why)]
    lab.farm.forget_faults()
    clock.ahead += 70  # the breaker's longest pause
    return run.id


@pytest.mark.parametrize("restarts", [False, True], ids=["this lab", "the next lab"])
async def test_a_job_that_was_submitted_all_the_same_is_found_later_and_cancelled(
    tmp_path: Path, farm: FakeTestflinger, caplog: pytest.LogCaptureFixture, *, restarts: bool
) -> None:
    farm.agents[0].plans = HANGS
    farm.fail_next("POST /v1/job", drop_after_commit=True)
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        run = await perhaps_submitted(lab, clock)
        if not restarts:
            await lab.bench.until_released(run)
            assert lab.bench.lab.queue.runs[run].attempt.outside == f"{farm.url}/jobs/{farm.jobs[0].id}"
    if restarts:
        async with deployment_lab(tmp_path, farm, clock=clock) as lab:
            farm.add_agent("node-2")
            await lab.over(await lab.one("node-2"))  # a private lab looks once it has such work
            await lab.bench.until_released(run)
    assert farm.jobs[0].state == "cancelled"
    assert f"run {run}, attempt 1, was sent all the same: {farm.url}/jobs/{farm.jobs[0].id}" in caplog.text


async def test_a_job_that_never_arrived_is_searched_for_until_that_is_sure(
    tmp_path: Path, farm: FakeTestflinger
) -> None:
    farm.fail_next("POST /v1/job", drop=True)
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        run = await perhaps_submitted(lab, clock)
        searches = farm.calls["GET /v1/job/search"]
        await until(lambda: farm.calls["GET /v1/job/search"] > searches)
        await until(lambda: lab.deployment(lab.bench.lab.queue.runs[run]).searched < float("inf"))
        clock.ahead += 60
        await lab.bench.until_released(run)
    assert not farm.jobs
    assert not farm.calls["POST /v1/job/{id}/action"]


async def test_a_job_of_another_server_is_not_taken_for_one_of_this(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.agents[0].plans = HANGS
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock, private=False) as lab:
        run = await queued(lab)
        await until(lambda: lab.bench.lab.queue.runs[run].attempt.state == "reserve")
        job = lab.bench.lab.queue.runs[run].attempt.outside
    with FakeTestflinger(speed=SPEED) as other:
        outcome, why = await resumed(tmp_path, other, run, clock)
    assert outcome is Outcome.ERROR
    assert why == f"its job is {job}, and this lab asks {other.url}; set testflinger.url back to follow it"


async def test_since_when_a_machine_fails_outlasts_the_lab(tmp_path: Path, farm: FakeTestflinger) -> None:
    [agent] = farm.agents
    agent.plans = [JobPlan(), JobPlan(statuses={"provision": 1})]
    clock = Clock()
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        assert (await lab.over(await lab.one()))[0][0] is Outcome.PASSED
        clock.ahead += 3600
        run = await lab.one(name="second")
        assert (await lab.over(run))[0][0] is Outcome.FAILED
        failed = lab.attempt(run).since
        clock.ahead += 3600
        await lab.over(await lab.one(name="third"))
    assert agent.streak_count == 2
    clock.ahead += 86400
    async with deployment_lab(tmp_path, farm, clock=clock) as lab:
        [(outcome, why)] = await lab.over(await lab.one(streak_limit=1))
        since = told_time(failed, clock.now())
    told = f"its provisioning failed 2 times in a row (limit 1; seen since {since})"
    assert (outcome, why) == (Outcome.SKIPPED, told)
