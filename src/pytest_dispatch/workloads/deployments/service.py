"""The service of the kind `deployment`: looks at agents, submits jobs when they are idle, and follows the jobs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.explanation import Obstacle, ObstacleKind, told_time
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.lab.external_systems import Connection
from pytest_dispatch.lab.kind_services import Service
from pytest_dispatch.testflinger.api import TestflingerApi
from pytest_dispatch.workloads.deployments.agents import AgentTable
from pytest_dispatch.workloads.deployments.attempts import Deployment, Deployments
from pytest_dispatch.workloads.deployments.following import EXPIRES, Follower
from pytest_dispatch.workloads.deployments.lifecycle import State
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT, DeploymentPayload
from pytest_dispatch.workloads.deployments.rounds import Rounds
from pytest_dispatch.workloads.deployments.sending import Submitter
from pytest_dispatch.workloads.deployments.webhooks import Webhooks
from pytest_dispatch.workloads.given_up import Elsewhere, GivenUp

if TYPE_CHECKING:
    import asyncio

    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.kind_services import Resources
    from pytest_dispatch.workloads.deployments.agents import SeenAgent


class DeploymentService(Service):
    """Keeps no state of its own: what it has to know is in the runs, and so in the journal, or at Testflinger."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        use = resources.testflinger
        self._watch = use.watch
        self._queue = self.lab_state.queue
        self._named = bool(use.url)
        api = TestflingerApi(use.url, use.account, self.lab_state.clock.now)
        self._agents = AgentTable(self.lab_state, api, self._interval)
        self._deployments = Deployments(self.lab_state, api, self._agents, resources.show)
        self._webhooks = Webhooks(self._deployments, lambda: use.watch().door)
        self._submitter = Submitter(self._deployments, self._webhooks.address)
        self._follower = Follower(self._deployments, self._interval)
        self._given_up = GivenUp(self.lab_state, _at_testflinger(self._deployments, self._follower, self._submitter))
        self._rounds = Rounds(self._deployments, self._submitter, self._follower, self._given_up)
        self._queue.outside[DEPLOYMENT], self._queue.there[DEPLOYMENT] = self._obstacles, self._waits_there

    def _interval(self) -> float:
        return self._watch().interval

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at agents and jobs, and to submit."""
        return self._rounds.start()

    @property
    def connections(self) -> list[Connection]:
        """Return how things stand with the Testflinger server, if the lab has one."""
        if not self._named:
            return []
        breaker, looked = self._deployments.api.client.breaker, self._agents.looked
        why = self._agents.failed if breaker.lets_through else breaker.why
        what = f"Testflinger, {urlsplit(self._deployments.api.url).netloc}"
        return [Connection(what=what, answered=looked if looked > 0 else 0.0, why=why)]

    def look_now(self) -> None:
        """Look at agents and jobs as soon as possible."""
        self._deployments.api.client.breaker.try_now()
        self._agents.hurry()
        for _, deployment in self._deployments.under_way():
            deployment.due = 0.0
        self._deployments.woken.set()

    async def stop(self) -> None:
        """Cancel what was cancelled last, and close all connections."""
        await self._rounds.stop()
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
        attempt = change.run.attempts[change.attempt - 1]
        if known is not None and known.number != change.attempt:
            known = None
        if change.event == CoreEvent.CANCEL and known is not None:
            known.due = 0.0
            known.canceller = change.by
            self._deployments.woken.set()
        self._given_up.offer(change.run, attempt, known)

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs."""
        for run in runs:
            self._deployments.forget(run)

    def hear(self, key: str) -> bool:
        """Take in a webhook; return whether it came to the address of a job of ours, of which this is the last part."""
        return self._webhooks.hear(key)

    def in_hand(self, run: str) -> Deployment:
        """Return what is known of a run that waits or is under way."""
        return self._deployments.of(self._queue.runs[run])

    def agent(self, name: str) -> SeenAgent:
        """Return an agent as it was last seen."""
        return self._agents.of(name)

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

    def _waits_there(self, run: Run, now: float) -> list[Obstacle]:
        """Return how far a job is that no agent has taken yet, as far as it was looked at."""
        known, job = self._deployments.of(run), self._deployments.job_of(run.attempt)
        if job is None:
            return []
        until = None
        if known.failed:
            text = f"the last look at its job failed: {known.failed}"
        elif known.place is not None:
            text = f"its job is at place {known.place + 1} of the queue {known.payload.job['job_queue']}"
        elif known.looked == -math.inf and known.due > now:
            until = known.due
            text = f"Testflinger has its job, and is first asked how it goes at {told_time(until, now)}"
        else:
            return []
        return [Obstacle(kind=ObstacleKind.OUTSIDE, text=plain_line(text, 500), name=job, until=until)]


def _outside(text: str, run: Run, until: float | None = None) -> Obstacle:
    return Obstacle(kind=ObstacleKind.OUTSIDE, text=plain_line(text, 500), name=run.id, until=until)


def _at_testflinger(deployments: Deployments, follower: Follower, submitter: Submitter) -> Elsewhere[str, Deployment]:
    """Return how jobs that nobody waits for any more are known at Testflinger, and ended there."""
    return Elsewhere(
        kind=DEPLOYMENT,
        ended=State.ENDED,
        cancelling=State.CANCELLING,
        longest=EXPIRES,
        named=deployments.job_of,
        known=lambda run, attempt: Deployment(run.id, attempt.number, DeploymentPayload.of(run.workload)),
        sweep=follower.sweep,
        sending=State.SENDING,
        search=submitter.search_given_up,
    )
