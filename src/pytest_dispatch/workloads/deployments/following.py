"""Follows jobs: where they wait, their phases, how they end, and whether cancels are heeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.explanation import told_time
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.testflinger.shapes import CANCELLED, COMPLETE, WAITING
from pytest_dispatch.workloads.deployments.attempts import job_of
from pytest_dispatch.workloads.deployments.consoles import Consoles
from pytest_dispatch.workloads.deployments.judgement import judged, report_of
from pytest_dispatch.workloads.deployments.lifecycle import STATES_OF_JOBS, Event, State

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.testflinger.shapes import Result
    from pytest_dispatch.workloads.deployments.attempts import Deployment, Deployments

LOST = 120.0  # seconds that an agent may be away in the middle of a job
EXPIRES = 7 * 86400.0  # seconds after which Testflinger forgets a job
ASK_AGAIN = 30.0  # seconds until Testflinger is asked once more to cancel a job
HOLDER = "testflinger"  # in whose name machines are held

#: The limit of each state in which Testflinger has the job.
_LIMITS = {
    State.QUEUED: "assign",
    State.SUBMITTED: "start",
    **{State(each.value): each.value for each in STATES_OF_JOBS.values()},
}


class Follower:
    """Looks at jobs.

    Args:
        deployments: The attempts in hand.
        interval: Returns the seconds between two looks at a job.
    """

    def __init__(self, deployments: Deployments, interval: Callable[[], float]) -> None:
        self._deployments = deployments
        self._queue = deployments.queue
        self._interval = interval
        self._consoles = Consoles(deployments, interval)

    async def look(self, run: Run, deployment: Deployment) -> None:
        """Look at a job, and let its attempt be what Testflinger says of it; that takes one request, mostly."""
        deployment.looked = self._deployments.now()
        deployment.due = deployment.looked + self._interval()
        try:
            if not await self._waits(run, deployment):
                await self._look_at_result(run, deployment)
        except ServiceError as error:
            deployment.failed = str(error)
            raise
        deployment.failed = ""
        self._deployments.commit()

    async def _look_at_result(self, run: Run, deployment: Deployment) -> None:
        job = job_of(run.attempt)
        result = await self._deployments.api.result(job)
        if result is not None and result.state != WAITING:
            if self._deployments.run_of(deployment) is not None:
                self._bind(deployment)
            await self._consoles.read(job, deployment, result)
        if self._deployments.run_of(deployment) is not None:
            self._note(run, deployment, result)

    async def _waits(self, run: Run, deployment: Deployment) -> bool:
        """Return whether a job still waits in its queue; its place is shown on the console of the queue's machine."""
        if run.attempt.state != State.SUBMITTED:
            return False
        before, deployment.place = deployment.place, await self._deployments.api.position(job_of(run.attempt))
        place, queue = deployment.place, deployment.payload.job["job_queue"]
        mine = queue == deployment.payload.agent and self._deployments.run_of(deployment) is not None
        if place is not None and place != before and mine:
            self._bind(deployment)
            await self._consoles.show(deployment, f"Testflinger: the job is at place {place + 1} of the queue {queue}")
        return place is not None

    def _note(self, run: Run, deployment: Deployment, result: Result | None) -> None:
        if result is None:
            self._deployments.move(deployment, Event.VANISHED, self._why_gone(run))
        elif result.state == CANCELLED:
            deployment.canceller = deployment.canceller or "us"
            self._deployments.move(deployment, Event.CANCELLED)
        elif result.state in COMPLETE:
            self._conclude(deployment, result)
        elif result.state != WAITING:
            self._enter(deployment, result)

    def _why_gone(self, run: Run) -> str:
        began = next((moment.at for moment in run.attempt.history if moment.state == State.SUBMITTED), 0.0)
        if self._deployments.now() - began >= EXPIRES:
            return f"the job expired while {run.attempt.state}: Testflinger keeps jobs for {EXPIRES / 86400:g} days"
        return f"Testflinger does not know the job any more, while {run.attempt.state}"

    def _enter(self, deployment: Deployment, result: Result) -> None:
        event = STATES_OF_JOBS.get(result.state)
        if event is None:
            return  # the deadline of the state says for how long
        self._bind(deployment)
        run = self._deployments.run_of(deployment)
        if run is not None and run.attempt.state != event.value:
            self._deployments.move(deployment, event)

    def _bind(self, deployment: Deployment) -> None:
        machine = self._deployments.agents.machine_of(deployment.payload.agent)
        self._queue.transitions.bind(deployment.run, machine, KnownBy.AGENT, self._deployments.now())

    # How it ends

    def _conclude(self, deployment: Deployment, result: Result) -> None:
        run = self._deployments.run_of(deployment)
        if run is None:
            return
        self._bind(deployment)
        run = self._queue.runs[run.id]
        agent = self._deployments.agents.of(deployment.payload.agent).agent
        comment = (agent.comment if agent is not None else "") or ""
        about = comment if job_of(run.attempt) in comment else ""
        event, detail = judged(result, deployment.payload, about)
        now = self._deployments.now()
        report = report_of(result, run.attempt, event, run.workload.name, detail, now)
        self._queue.transitions.report(run.id, deployment.number, report, now)
        if event is Event.RECOVERY_FAILED:
            self._hold(deployment, detail)
        self._deployments.move(deployment, event, detail)
        self._deployments.over.append(job_of(run.attempt))
        self._deployments.agents.hurry()
        self._deployments.woken.set()

    def _hold(self, deployment: Deployment, why: str) -> None:
        """Keep a machine from further jobs that its agent could not bring back."""
        machine = self._deployments.agents.machine_of(deployment.payload.agent)
        hold = Hold(reason=plain_line(why, 300), owner=HOLDER, since=self._deployments.now())
        self._queue.machines.withhold(machine, hold)

    def look_for_trouble(self, run: Run, deployment: Deployment) -> None:
        """End an attempt whose agent is gone in the middle of it, or that waits though nobody answers."""
        now, seen = self._deployments.now(), self._deployments.agents.of(deployment.payload.agent)
        in_phase = run.attempt.state in _PHASE_STATES
        if in_phase and now - seen.away_since >= LOST and not deployment.failed:
            last = f"; it showed last: {plain_line(deployment.lines[-1], 200)}" if deployment.lines else ""
            ago = format_duration(round(now - seen.away_since))
            text = f"while {run.attempt.state}, {seen.why} ({ago} ago){last}"
            self._deployments.move(deployment, Event.AGENT_LOST, text)
            self._deployments.commit()
            return
        for why in self._overdue(run, deployment, now):
            self._deployments.move(deployment, Event.FAULT, why)
            self._deployments.commit()

    def _overdue(self, run: Run, deployment: Deployment, now: float) -> Iterator[str]:
        """Yield why nothing is known, if a limit has passed and Testflinger does not answer."""
        limit = _LIMITS.get(State(run.attempt.state))
        if limit is None or now - run.attempt.since < run.limits[limit]:
            return
        failed = deployment.failed or self._deployments.agents.failed
        if failed:
            since = told_time(run.attempt.since, now)
            yield f"{run.attempt.state} since {since}, and nobody could be asked how it goes: {failed}"

    # Cancelling

    async def cancel(self, deployment: Deployment, job: str) -> None:
        """Have Testflinger cancel a job."""
        now = self._deployments.now()
        if now - deployment.asked >= ASK_AGAIN:
            await self._deployments.api.cancel(job)
            deployment.asked = now

    async def sweep(self, job: str, deployment: Deployment) -> bool:
        """Cancel a job whose attempt is over here; return whether Testflinger has ended it."""
        deployment.due = self._deployments.now() + self._interval()
        await self.cancel(deployment, job)
        result = await self._deployments.api.result(job)
        return result is None or result.state in COMPLETE or result.state == CANCELLED


_PHASE_STATES = frozenset(each.value for each in STATES_OF_JOBS.values())
