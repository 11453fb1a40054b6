"""The agents of a `FakeTestflinger` at work: they take jobs, and go through the phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.testing.testflinger_state import EXPIRES, NEVER, PHASES, RECOVERY_FAILED, stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.testing.testflinger_state import FakeAgent, FakeFarm, FakeJob, JobPlan
    from pytest_dispatch.testing.timeline import Timeline

_RECOVERY = "Set to offline by agent. Recovery failed during job '{}' execution."
_POLLS = 10.0  # seconds between two looks of an idle agent at its queues


class AgentsAtWork:
    """Lets agents work.

    Args:
        farm: Agents and jobs.
        timeline: What is due.
        speed: How many seconds pass for agents in one of ours.
        tell: Told of each job to which something has happened.
    """

    def __init__(self, farm: FakeFarm, timeline: Timeline, speed: float, tell: Callable[[FakeJob], None]) -> None:
        self._farm = farm
        self._tell = tell
        self._timeline = timeline
        self._speed = speed
        self._hanging: dict[str, Callable[[], None]] = {}  # by job: what ends a phase that never ends by itself

    def submitted(self, job: FakeJob) -> None:
        """Take in a job: agents see it when they look at their queues next, and it is gone after a week."""
        self._farm.jobs[job.id] = job
        self._farm.submitted.append(job)
        self._enters(job, "waiting")
        self._after(_POLLS, self.look)
        self._timeline.after(EXPIRES, lambda: self._forget(job))

    def _forget(self, job: FakeJob) -> None:
        self._farm.jobs.pop(job.id, None)

    def look(self) -> None:
        """Have each idle agent take the first job of its queues."""
        for agent in self._farm.agents.values():
            waiting = self._farm.waiting(agent.queues) if agent.state == "waiting" and not agent.job_id else []
            if waiting:
                self._take(agent, waiting[0])

    def cancel(self, job: FakeJob) -> None:
        """Cancel a job; its agent notices between phases, and at once in any but `provision`."""
        phase = job.state
        self._enters(job, "cancelled")
        agent = self._farm.agents.get(job.agent)
        if agent is not None and agent.job_id == job.id and phase not in ("provision", "waiting"):
            self._free(agent)

    def finish(self, job: FakeJob) -> None:
        """End the phase in which a job hangs."""
        self._hanging.pop(job.id)()

    def _take(self, agent: FakeAgent, job: FakeJob) -> None:
        agent.job_id, job.agent = job.id, agent.name
        self._enters(job, "running")
        self._happens(job, "job_start")
        self._begin(agent, job, agent.next_plan(), 0)

    def _begin(self, agent: FakeAgent, job: FakeJob, plan: JobPlan, place: int) -> None:
        phase = PHASES[place]
        if phase != "cleanup":
            self._enters(job, phase)
            agent.state = phase
        agent.updated = self._timeline.at
        self._show(job, phase, plan, first=True)
        self._happens(job, f"{phase}_start")
        if plan.vanishes == phase:
            self._farm.jobs.pop(job.id, None)
        if plan.cancelled == phase:
            self.cancel(job)
        if plan.goes_offline == phase:
            agent.state, agent.comment, agent.job_id = "offline", "went away", ""
            return
        if agent.job_id == job.id:
            seconds = job.seconds(phase, plan) if job.runs(phase) else 0.0
            if seconds == NEVER:
                self._hanging[job.id] = lambda: self._end(agent, job, plan, place)
            else:
                self._after(seconds, lambda: self._end(agent, job, plan, place))

    def _end(self, agent: FakeAgent, job: FakeJob, plan: JobPlan, place: int) -> None:
        phase, status = PHASES[place], plan.statuses.get(PHASES[place], 0)
        if agent.job_id != job.id:
            return  # it was cancelled in this phase
        if job.runs(phase):
            self._show(job, phase, plan, first=False)
            job.results[f"{phase}_status"] = status
            self._happens(job, f"{phase}_fail" if status else f"{phase}_success")
            if phase == "provision":
                agent.provisioned(status)
        if status == RECOVERY_FAILED:
            agent.state, agent.comment = "offline", _RECOVERY.format(job.id)
        if job.state == "cancelled" or phase == "cleanup":
            if job.state != "cancelled":
                self._enters(job, plan.ends_as)
            self._happens(job, "job_end")
            self._free(agent)
            return
        fails = bool(status) and phase != "test" and job.runs(phase)
        self._begin(agent, job, plan, len(PHASES) - 1 if fails else place + 1)

    def _free(self, agent: FakeAgent) -> None:
        agent.job_id, agent.updated = "", self._timeline.at
        if agent.state != "offline":
            agent.state = "waiting"
            self._after(_POLLS, self.look)

    def _show(self, job: FakeJob, phase: str, plan: JobPlan, *, first: bool) -> None:
        """Write one half of a phase's lines, each half as a fragment."""
        for kind, shown in (("serial", plan.serial), ("output", plan.output)):
            lines = shown.get(phase, ())
            half = lines[: len(lines) // 2] if first else lines[len(lines) // 2 :]
            if half:
                job.logs.setdefault((kind, phase), []).append("".join(f"{line}\n" for line in half))

    def _happens(self, job: FakeJob, event: str) -> None:
        """Tell of something that happens to a job."""
        job.events.append({"event_name": event, "timestamp": stamp(self._timeline.at), "detail": ""})
        self._tell(job)

    def _enters(self, job: FakeJob, state: str) -> None:
        job.state = state
        job.history.append((state, self._timeline.at))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._timeline.after(seconds / self._speed, act)
