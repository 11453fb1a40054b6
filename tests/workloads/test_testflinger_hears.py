"""Webhooks of a fake Testflinger: they hasten looks, and do no harm where they are lost, doubled, late or forged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployment_bench import JOB, SPEED, DeploymentBench, deployment, deployment_lab
from labs import Clock, Reply
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab.external_systems import WebhookDoor
from pytest_dispatch.testing.actions import Hook
from pytest_dispatch.testing.testflinger import NEVER, FakeTestflinger, JobPlan

pytestmark = pytest.mark.anyio
PASSED, FAILED = Outcome.PASSED, Outcome.FAILED
SECRET = "hush-hush"
HOURLY = 3600.0  # seconds between looks: what is seen within is told by webhooks


@pytest.fixture
def farm() -> Iterator[FakeTestflinger]:
    with FakeTestflinger(speed=SPEED) as farm:
        yield farm


def door() -> WebhookDoor:
    return WebhookDoor(url="https://lab.example", secret=Token(SECRET, "testflinger.webhook_secret"))


def told(lab: DeploymentBench, **how: float) -> Hook:
    """Have the fake tell the lab, through a proxy, and with a bearer of its own that the lab knows nothing of."""
    hook = Hook(url=f"http://127.0.0.1:{lab.bench.port}", secret="of the server", **how)  # type: ignore[arg-type]  # seed
    lab.farm.add_hook(hook)
    return hook


async def put(lab: DeploymentBench, path: str, body: bytes = b"{}") -> Reply:
    return await lab.bench.call("PUT", path, source="127.0.0.1", body=body)


async def test_a_job_is_followed_to_its_end_without_any_look_of_its_own(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(statuses={"provision": 1})])
    async with deployment_lab(tmp_path, farm, private=False, door=door(), interval=HOURLY) as lab:
        hook = told(lab)
        run = await lab.one(first_look=HOURLY)
        assert [outcome for outcome, _ in await lab.over(run)] == [FAILED]
        await until(lambda: hook.deliveries[-1].statuses)
        assert {status for each in hook.deliveries for status in each.statuses} == {204}
        [job] = farm.jobs
        assert job.data["job_status_webhook"].startswith(f"https://lab.example/api/v1/testflinger/webhooks/{run.id}.1-")
        assert SECRET not in job.data["job_status_webhook"]


async def test_webhooks_that_are_lost_doubled_and_late_do_no_harm(tmp_path: Path, farm: FakeTestflinger) -> None:
    names = [f"node-{number}" for number in range(4)]
    for name in names:
        farm.add_agent(name, plans=[JobPlan(seconds={"setup": SPEED})])
    async with deployment_lab(tmp_path, farm, private=False, door=door()) as lab:
        hook = told(lab, lost=0.3, doubled=0.3, reordered=0.3, seed=7)
        runs = await lab.submit(*map(deployment, names))
        assert [outcome for outcome, _ in await lab.over(*runs)] == [PASSED] * 4
        assert {each.fate for each in hook.deliveries} == {"sent", "lost", "doubled", "late"}
        assert len(farm.jobs) == 4


async def test_a_webhook_that_a_job_has_already_is_kept(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1")
    async with deployment_lab(tmp_path, farm, private=False, door=door()) as lab:
        await lab.over(await lab.one(job={**JOB, "job_status_webhook": "https://chat.example/hooks/1"}))
        assert farm.jobs[0].data["job_status_webhook"] == "https://chat.example/hooks/1"


async def test_a_flood_of_webhooks_is_a_look_a_second(tmp_path: Path, farm: FakeTestflinger) -> None:
    farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
    clock = Clock()
    async with deployment_lab(tmp_path, farm, private=False, door=door(), interval=HOURLY, clock=clock) as lab:
        run = await lab.one(first_look=HOURLY)
        await until(lambda: [job for job in farm.jobs if job.state == "provision"])
        path = urlsplit(farm.jobs[0].data["job_status_webhook"]).path
        assert (await put(lab, path)).status == 204
        await lab.enters(run, "provision")
        known = lab.deployment(run)
        known.looked = clock.now() + 100.0  # so that no look comes in between
        for _ in range(20):
            assert (await put(lab, path)).status == 204
        assert known.due == known.looked + 1.0


class TestForgeries:
    async def test_an_address_that_was_not_made_for_a_job_is_none(self, tmp_path: Path, farm: FakeTestflinger) -> None:
        farm.add_agent("node-1", plans=[JobPlan(seconds={"provision": NEVER})])
        async with deployment_lab(tmp_path, farm, private=False, door=door(), interval=HOURLY) as lab:
            run = await lab.one(first_look=HOURLY)
            await lab.enters(run, "submitted")
            path = urlsplit(farm.jobs[0].data["job_status_webhook"]).path
            due = lab.deployment(run).due
            proof = path.rpartition("-")[2]
            for key in (f"{run.id}.2-{proof}", f"{run.id}.1-{proof[:-1]}", f"{run.id}.1", "-", "%C3%A9-%C3%A9"):
                reply = await put(lab, f"/api/v1/testflinger/webhooks/{key}")
                expected = "expected the address of a job that this lab has submitted, got another one"
                assert (reply.status, reply.json) == (404, {"error": expected})
            assert lab.deployment(run).due == due

    async def test_a_lab_without_a_secret_takes_none(self, tmp_path: Path, farm: FakeTestflinger) -> None:
        farm.add_agent("node-1")
        async with deployment_lab(tmp_path, farm, private=False) as lab:
            await lab.over(await lab.one())
            assert "job_status_webhook" not in farm.jobs[0].data
            assert (await put(lab, "/api/v1/testflinger/webhooks/x-y")).status == 404
