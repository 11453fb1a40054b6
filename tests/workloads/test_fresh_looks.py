"""What a lab depends on is asked at once when a person wants that, however long the pause between two looks is."""

from __future__ import annotations

from pathlib import Path

import pytest
from actions_bench import REPO, actions_lab, dispatch, workflow
from deployment_bench import SPEED, deployment, deployment_lab
from labs import Clock
from waiting import until

from pytest_dispatch.lab.fresh_look import APART
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.testing.testflinger import FakeTestflinger

pytestmark = pytest.mark.anyio

HOURS = 36_000.0  # seconds between two looks
RUNNERS = "GET /orgs/{org}/actions/runners"
AGENTS = "GET /v1/agents/data"


async def test_runners_are_looked_at_once_more_and_not_all_the_time(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow())
    github.actions.add_runner("me", "other", ("another",))
    clock = Clock()
    async with actions_lab(tmp_path, github, interval=HOURS, clock=clock) as lab:
        await lab.submit(dispatch())
        await until(lambda: lab.bench.lab.queue.machines.find("other@me") is not None)
        github.actions.add_runner("me", "rpi-01", ("rpi",))
        look = lab.bench.lab.fresh_look
        assert look.begin() == 0
        await until(lambda: bool(lab.runs()))
        assert github.calls[RUNNERS] == 2
        assert 0 < look.begin() <= APART
        clock.ahead += APART
        assert look.begin() == 0


async def test_a_pause_after_failures_ends_at_once(tmp_path: Path, github: FakeGitHub) -> None:
    github.actions.add_workflow(REPO, workflow())
    github.fail_next("GET *", status=502, lasting=3600)
    async with actions_lab(tmp_path, github) as lab:
        await lab.submit(dispatch())
        await until(lambda: bool(lab.bench.lab.at_github and lab.bench.lab.at_github[0].why))
        github.forget_faults()
        lab.bench.lab.fresh_look.begin()
        await until(lambda: lab.bench.lab.at_github[0].answered > 0 and not lab.bench.lab.at_github[0].why)


async def test_agents_are_looked_at_once_more_and_a_failure_is_told(tmp_path: Path) -> None:
    with FakeTestflinger(speed=SPEED) as farm:
        clock = Clock()
        async with deployment_lab(tmp_path, farm, interval=HOURS, clock=clock) as lab:
            await lab.submit(deployment())
            look = lab.bench.lab.fresh_look
            await until(lambda: look.connections[0].answered > 0)
            looked = look.connections[0].answered
            assert look.connections[0].what == f"Testflinger, {farm.url.removeprefix('http://')}"
            assert look.connections[0].why == ""
            farm.fail_next(AGENTS, status=500, message="out of memory")
            look.begin()
            await until(lambda: "out of memory" in look.connections[0].why)
            clock.ahead += APART
            look.begin()
            await until(lambda: look.connections[0].why == "" and look.connections[0].answered > looked)
