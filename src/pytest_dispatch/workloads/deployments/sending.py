"""Submits jobs, each once: the intent is on disk first, and what was perhaps submitted is searched for by its tag."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.support.service_client import DEADLINE, ServiceError
from pytest_dispatch.workloads.deployments.lifecycle import Event, State
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT, DeploymentPayload

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.workloads.deployments.agents import SeenAgent
    from pytest_dispatch.workloads.deployments.attempts import Deployment, Deployments

SEARCH = 2.0  # seconds between two searches
#: Seconds after which a job that is not found was not submitted: the request is given up by then.
APPEARS = DEADLINE + 5.0


class Submitter:
    """Decides which runs are skipped, takes those whose agents are idle, and submits their jobs.

    Args:
        deployments: The attempts in hand.
        webhook: Returns where Testflinger tells of an attempt's job, by run and number; empty if it does not.

    Attributes:
        tasks: Those that submit something now.
    """

    def __init__(self, deployments: Deployments, webhook: Callable[[str, int], str]) -> None:
        self._deployments = deployments
        self._webhook = webhook
        self._queue = deployments.queue
        self.tasks: set[asyncio.Task[None]] = set()

    def sort_out(self) -> None:
        """Skip what is not to be tried, as its agent is now."""
        agents, now = self._deployments.agents, self._deployments.now()
        if not agents.is_fresh or self._deployments.lab_state.away is not None:
            return
        ours = self._ours()
        for run in list(self._deployments.waiting()):
            payload = DeploymentPayload.of(run.workload)
            seen, known = agents.of(payload.agent), self._deployments.of(run)
            if failures := seen.failures(payload.streak_limit, now):
                self._deployments.move(known, Event.SKIP if run.attempt.number == 1 else Event.FAULT, failures)
            elif seen.agent is None:
                self._deployments.move(known, Event.FAULT, f"{payload.agent}: {seen.why}")
            elif not self._is_waited_for(seen, payload, ours) and run.attempt.number == 1:
                self._deployments.move(known, Event.SKIP, seen.why)
        self._deployments.commit()

    def _is_waited_for(self, seen: SeenAgent, payload: DeploymentPayload, ours: set[str]) -> bool:
        """Return whether an agent gets a run as soon as it is idle, or is: what keeps it is a job of ours."""
        just_ended = seen.agent is not None and seen.agent.job_id in self._deployments.over
        return seen.is_idle or payload.waits or payload.agent in ours or just_ended

    def take(self) -> None:
        """Take and submit the runs of idle agents."""
        for task in [each for each in self.tasks if each.done()]:
            self.tasks.discard(task)
            task.result()
        scheduler, state, agents = self._queue.scheduler, self._deployments.lab_state, self._deployments.agents
        closed = scheduler.closed or state.away is not None or not agents.is_fresh
        if closed or not self._queue.transitions.ready.holds(DEPLOYMENT):
            return
        ours = self._ours()
        for name in agents.idle():
            capacity = Capacity(kind=DEPLOYMENT, labels=agents.labels_of(name))
            if name in ours or scheduler.first(capacity) is None:
                continue
            run = scheduler.take(capacity, self._deployments.now())
            if run is not None:
                self._begin(run)

    def _begin(self, run: Run) -> None:
        deployment = self._deployments.of(run)
        deployment.posting, deployment.shown = True, Counter()  # nothing of it was shown yet
        self._deployments.commit()
        self.tasks.add(asyncio.create_task(self._submit(deployment), name="a submission"))

    def _ours(self) -> set[str]:
        """Return the agents that have a job of ours, or are about to get one."""
        return {each.payload.agent for _, each in self._deployments.under_way()}

    async def _submit(self, deployment: Deployment) -> None:
        try:
            await self._deployments.lab_state.on_disk()
            run = self._deployments.run_of(deployment)
            if run is None:
                return
            if run.attempt.state != State.SENDING:
                self._deployments.move(deployment, Event.REFUSED, "it was cancelled before")
            else:
                await self._post(deployment)
        except DispatchError:  # the journal is away: nothing was submitted
            self._deployments.move(deployment, Event.PUT_BACK)
            if self._deployments.lab_state.broken is not None:
                raise
        finally:
            deployment.posting = False
            self._deployments.commit()
            self._deployments.woken.set()

    async def _post(self, deployment: Deployment) -> None:
        job = deployment.payload.tagged(deployment.tag)
        if webhook := self._webhook(deployment.run, deployment.number):
            job.setdefault("job_status_webhook", webhook)
        try:
            name = await self._deployments.api.submit(job)
        except ServiceError as error:
            if error.sent:  # perhaps it was taken all the same
                deployment.due, deployment.failed = self._deployments.now() + SEARCH, str(error)
            elif error.passes:
                self._deployments.move(deployment, Event.PUT_BACK)
            else:
                self._deployments.move(deployment, Event.REFUSED, str(error))
            return
        self._accept(deployment, name)

    def _accept(self, deployment: Deployment, job: str) -> None:
        now = self._deployments.now()
        deployment.due, deployment.searched, deployment.failed = now + deployment.payload.first_look, math.inf, ""
        self._queue.transitions.sent_as(deployment.run, deployment.number, self._outside(job), now)
        self._deployments.move(deployment, Event.ACCEPT)

    def _outside(self, job: str) -> str:
        return f"{self._deployments.api.url}/jobs/{job}"

    async def search(self, run: Run, deployment: Deployment) -> None:
        """Search for the job of an attempt that was perhaps submitted."""
        now = self._deployments.now()
        deployment.due = now + SEARCH
        found = await self._deployments.api.find(deployment.tag)
        if self._deployments.run_of(deployment) is None:
            return
        deployment.searched = min(deployment.searched, now)
        if found:
            self._accept(deployment, found[0].job_id)
        elif now - deployment.searched >= APPEARS:
            cancelled = run.attempt.state == State.CANCELLING
            deployment.searched = math.inf
            self._deployments.move(deployment, Event.REFUSED if cancelled else Event.PUT_BACK, "it was not taken")
        self._deployments.commit()

    async def search_given_up(self, deployment: Deployment) -> str | None:
        """Search for the job of an attempt that is over here and was perhaps submitted.

        Returns:
            The job's name outside the lab; empty if there surely is none, None if it may appear yet.
        """
        now = self._deployments.now()
        deployment.due = now + SEARCH
        found = await self._deployments.api.find(deployment.tag)
        if found:
            return self._outside(found[0].job_id)
        deployment.searched = min(deployment.searched, now)
        return "" if now - deployment.searched >= APPEARS else None
