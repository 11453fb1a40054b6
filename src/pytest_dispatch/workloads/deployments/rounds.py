"""What the kind `deployment` does again and again: looks at agents, submits, follows, and ends what is given up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import AwayError
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.workloads.deployments.lifecycle import Event, State
from pytest_dispatch.workloads.deployments.payload import DeploymentPayload
from pytest_dispatch.workloads.looks import TICK, Looks, tried

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.workloads.deployments.attempts import Deployment, Deployments
    from pytest_dispatch.workloads.deployments.following import Follower
    from pytest_dispatch.workloads.deployments.sending import Submitter
    from pytest_dispatch.workloads.given_up import GivenUp

GOODBYE = 1.0  # seconds in which jobs that were cancelled last are cancelled at Testflinger, when the lab stops

#: What a look may fail with.
_FORGIVEN = (ServiceError, AwayError)


class Rounds:
    """Does what is due, until it is stopped.

    Args:
        deployments: The attempts in hand.
        submitter: Submits jobs.
        follower: Looks at jobs.
        given_up: Jobs that go on at Testflinger though nobody waits for them.
    """

    def __init__(
        self,
        deployments: Deployments,
        submitter: Submitter,
        follower: Follower,
        given_up: GivenUp[str, Deployment],
    ) -> None:
        self._deployments = deployments
        self._agents = deployments.agents
        self._submitter = submitter
        self._follower = follower
        self._given_up = given_up

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at agents and jobs, and to submit."""
        work = (
            (self._look_at_agents, "the look at agents"),
            (self._submit, "the way to Testflinger"),
            (self._follow, "the look at jobs at Testflinger"),
        )
        return [asyncio.create_task(loop(), name=name) for loop, name in work]

    async def stop(self) -> None:
        """Submit nothing more, and have Testflinger cancel what was cancelled last."""
        for task in self._submitter.tasks:
            task.cancel()
        await asyncio.gather(*self._submitter.tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                under_way = ((self._deployments.job_of(run.attempt), each, run) for run, each in self._under_way())
                cancelled = [(job, each) for job, each, run in under_way if run.attempt.state == State.CANCELLING]
                wanted = [*cancelled, *self._given_up.items()]
                cancels = (self._follower.cancel(each, job) for job, each in wanted if job)
                await asyncio.gather(*(tried(each, *_FORGIVEN) for each in cancels))

    def _under_way(self) -> list[tuple[Run, Deployment]]:
        return list(self._deployments.under_way())

    async def _look_at_agents(self) -> None:
        async with Looks(*_FORGIVEN) as looks:
            while True:
                if self._deployments.lab_state.away is None and self._agents.is_due:
                    looks.begin("agents", self._see_agents)
                await looks.rest()

    async def _see_agents(self) -> None:
        wanted = {DeploymentPayload.of(run.workload).agent for run in self._deployments.waiting()}
        await self._agents.look(wanted)
        self._deployments.woken.set()

    async def _submit(self) -> None:
        while True:
            if self._deployments.lab_state.away is None:
                self._submitter.sort_out()
                for run in list(self._deployments.waiting()):
                    self._follower.look_for_trouble(run, self._deployments.of(run))
                self._submitter.take()
            self._deployments.woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._deployments.woken.wait()

    async def _follow(self) -> None:
        async with Looks(*_FORGIVEN) as looks:
            while True:
                now = self._deployments.now()
                if self._deployments.lab_state.away is None:
                    await self._given_up.recall()
                    for run, deployment in self._under_way():
                        if deployment.due <= now and not deployment.posting:
                            looks.begin(run.id, partial(self._step, deployment))
                        self._follower.look_for_trouble(run, deployment)
                    for job, given_up in self._given_up.due(now):
                        looks.begin(job, partial(self._given_up.sweep, job, given_up))
                    for unnamed in self._given_up.to_search(now):
                        looks.begin(unnamed.tag, partial(self._given_up.search, unnamed))
                await looks.rest()

    async def _step(self, deployment: Deployment) -> None:
        run = self._deployments.run_of(deployment)
        if run is None:
            return
        if not run.attempt.outside:
            await self._submitter.search(run, deployment)
            return
        job = self._deployments.job_of(run.attempt)
        if job is None:
            why = f"its job is {run.attempt.outside}, and this lab asks {self._deployments.api.url}"
            why += "; set testflinger.url back to follow it"
            self._deployments.move(deployment, Event.FAULT, why, final=True)
            self._deployments.commit()
            return
        if run.attempt.state == State.CANCELLING:
            await self._follower.cancel(deployment, job)
        await self._follower.look(run, deployment)
