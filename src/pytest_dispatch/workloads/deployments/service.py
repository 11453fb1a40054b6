"""The service of the kind `deployment`: looks at agents, submits jobs when they are idle, and follows the jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.explanation import Obstacle, ObstacleKind, told_time
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.lab.kind_services import Service
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.testflinger.api import TestflingerApi
from pytest_dispatch.workloads.deployments.agents import AgentTable
from pytest_dispatch.workloads.deployments.attempts import Deployments, job_of
from pytest_dispatch.workloads.deployments.following import Follower
from pytest_dispatch.workloads.deployments.lifecycle import State
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT, DeploymentPayload
from pytest_dispatch.workloads.deployments.sending import Submitter

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.kind_services import Resources
    from pytest_dispatch.workloads.deployments.agents import SeenAgent
    from pytest_dispatch.workloads.deployments.attempts import Deployment

TICK = 0.2  # seconds between looks at what is due
GOODBYE = 1.0  # seconds in which jobs that were cancelled last are cancelled at Testflinger, when the lab stops

_log = logging.getLogger(__name__)


class DeploymentService(Service):
    """Keeps no state of its own: what it has to know is in the runs, and so in the journal, or at Testflinger."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        use = resources.testflinger
        self._queue = self.lab_state.queue
        self._named = bool(use.url)
        api = TestflingerApi(use.url, use.account, self.lab_state.clock.now)
        self._agents = AgentTable(self.lab_state, api, use.interval)
        self._deployments = Deployments(self.lab_state, api, self._agents, resources.show)
        self._submitter = Submitter(self._deployments)
        self._follower = Follower(self._deployments, use.interval)
        self._queue.outside[DEPLOYMENT] = self._obstacles

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at agents and jobs, and to submit."""
        work = ((self._look_at_agents, "the look at agents"), (self._follow, "the look at jobs at Testflinger"))
        return [asyncio.create_task(loop(), name=name) for loop, name in work]

    async def stop(self) -> None:
        """Cancel what was cancelled last, and close all connections."""
        for task in self._submitter.tasks:
            task.cancel()
        await asyncio.gather(*self._submitter.tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                cancelling = [
                    each for each in self._deployments.under_way() if each[0].attempt.state == State.CANCELLING
                ]
                named = [(job_of(run.attempt), each) for run, each in cancelling if job_of(run.attempt)]
                await asyncio.gather(*(self._tried(self._follower.cancel(each, job)) for job, each in named))
        await self._deployments.api.aclose()

    def check(self, session: str, workload: Workload) -> None:
        """Refuse a deployment where the lab does not know a Testflinger.

        Raises:
            ConfigError: Says what to set.
        """
        del session
        if not self._named:
            raise ConfigError(
                f"{workload.name}: expected a lab that knows a Testflinger server, got one without; start pytest with"
                " --dispatch-rack, or set testflinger.url in the lab's file"
            )

    def wanted(self, runs: list[Run]) -> None:
        """Look at the agents that these name."""
        self._agents.watch(DeploymentPayload.of(run.workload).agent for run in runs)
        self._deployments.woken.set()

    def adopt(self, runs: list[Run]) -> None:
        """Go on with them: whatever is under way is looked at."""
        self.wanted(runs)

    def changed(self, change: Change) -> None:
        """Cancel at Testflinger what is cancelled or given up here."""
        known = self._deployments.find(change.run.id)
        if known is None or known.number != change.attempt:
            return
        attempt = change.run.attempts[change.attempt - 1]
        if change.event == CoreEvent.CANCEL:
            known.due = 0.0
            self._deployments.woken.set()
        if attempt.ended and job_of(attempt) and not known.concluded:
            self._deployments.unwanted[job_of(attempt)] = known

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs."""
        for run in runs:
            self._deployments.forget(run)

    def in_hand(self, run: str) -> Deployment:
        """Return what is known of a run that waits or is under way."""
        return self._deployments.of(self._queue.runs[run])

    def agent(self, name: str) -> SeenAgent:
        """Return an agent as it was last seen."""
        return self._agents.of(name)

    # Loops

    async def _look_at_agents(self) -> None:
        while True:
            if self.lab_state.away is None:
                await self._agents.look()
                self._submitter.sort_out()
                for run in list(self._deployments.waiting()):
                    self._follower.look_for_trouble(run, self._deployments.of(run))
                self._submitter.take()
            self._deployments.woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._deployments.woken.wait()

    async def _follow(self) -> None:
        while True:
            now = self._deployments.now()
            if self.lab_state.away is None:
                due = [each for each in self._deployments.under_way() if each[1].due <= now and not each[1].posting]
                unwanted = [each for each in self._deployments.unwanted.items() if each[1].due <= now]
                looks = [*(self._step(*each) for each in due), *(self._sweep(*each) for each in unwanted)]
                await asyncio.gather(*map(self._tried, looks))
                for run, deployment in list(self._deployments.under_way()):
                    self._follower.look_for_trouble(run, deployment)
            await asyncio.sleep(TICK)

    async def _step(self, run: Run, deployment: Deployment) -> None:
        if not run.attempt.outside:
            await self._submitter.search(run, deployment)
            return
        if run.attempt.state == State.CANCELLING:
            await self._follower.cancel(deployment, job_of(run.attempt))
        await self._follower.look(run, deployment)

    async def _sweep(self, job: str, deployment: Deployment) -> None:
        if await self._follower.sweep(job, deployment):
            self._deployments.unwanted.pop(job, None)

    async def _tried(self, look: Awaitable[None]) -> None:
        """Let a look fail that Testflinger does not answer: the next one comes, and deadlines say for how long."""
        try:
            await look
        except ServiceError as error:
            _log.info("%s", error)

    # Why a run waits

    def _obstacles(self, run: Run, now: float) -> list[Obstacle]:
        """Return what keeps a run of this kind from being deployed."""
        payload = DeploymentPayload.of(run.workload)
        seen, breaker = self._agents.of(payload.agent), self._deployments.api.client.breaker
        if not breaker.lets_through:
            text = f"Testflinger is not asked until {told_time(breaker.until, now)}: {breaker.why}"
            return [_outside(text, run, breaker.until)]
        if self._agents.failed:
            return [_outside(f"the last look at Testflinger's agents failed: {self._agents.failed}", run)]
        if seen.agent is None and not self._agents.is_fresh:
            return [_outside(f"{payload.agent} was not looked at yet", run)]
        return [] if seen.is_idle else [_outside(f"{payload.agent}: {seen.why}", run)]


def _outside(text: str, run: Run, until: float | None = None) -> Obstacle:
    return Obstacle(kind=ObstacleKind.OUTSIDE, text=plain_line(text, 500), name=run.id, until=until)
