"""Which runner of a fake GitHub takes which job; GitHub decides that alone, so the choice is by chance, from a seed."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from pytest_dispatch.testing.actions_workflow import Annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_dispatch.testing.actions_state import ActionsState, FakeJob, FakeRunner
    from pytest_dispatch.testing.timeline import Timeline


class Assigner:
    """Gives queued jobs, the oldest first, to any idle runner that fits.

    Attributes:
        began: Called when a job has a runner.
        ended: Called with a job, its conclusion and annotations.
    """

    def __init__(self, state: ActionsState, timeline: Timeline, next_id: Callable[[], int], seed: int) -> None:
        self._state = state
        self._timeline = timeline
        self._next_id = next_id
        self._random = Random(seed)  # noqa: S311 - repeatable, not secret
        self.began: Callable[[FakeJob], None] = lambda _: None
        self.ended: Callable[[FakeJob, str, Iterable[Annotation]], None] = lambda *_: None

    def assign(self) -> None:
        """Start each queued job that a runner is there for."""
        free = [each for each in self._state.runners if each.registered and each.online and each.job is None]
        if not free:
            return
        jobs = [job for run in self._state.runs if run.status != "completed" for job in run.jobs]
        queued = [job for job in jobs if job.status == "queued" and job.eligible <= self._timeline.at]
        for job in sorted(queued, key=lambda each: (each.eligible, each.id)):
            fitting = [each for each in free if _takes(each, job)]
            if fitting:
                chosen = self._random.choice(fitting)
                free.remove(chosen)
                self._start(job, chosen)

    def free(self, job: FakeJob) -> None:
        """Have a job's runner idle again; an ephemeral one is gone."""
        runner = job.runner
        if runner is not None and runner.job is job:
            runner.job = None
            runner.turns.append((self._timeline.at, False))
            if runner.ephemeral:
                self._retire(runner)

    def went_offline(self, runner: FakeRunner) -> None:
        """Take a runner offline; its job is given up when GitHub notices."""
        since, lost = self._timeline.at, runner.job
        runner.online, runner.offline_since = False, since
        if lost is not None:
            self._timeline.after(self._state.timing.notices, lambda: self._give_up(runner, lost, since))

    def came_online(self, runner: FakeRunner) -> None:
        """Bring a runner online; its job goes on as if it had been there all the time."""
        runner.online = True
        if runner.job is not None:
            self._finish_at(runner.job)
        self.assign()

    def _start(self, job: FakeJob, runner: FakeRunner) -> None:
        job.runner, runner.job, job.status = runner, job, "in_progress"
        job.started = self._timeline.at
        job.due = job.started + min(job.plan.seconds, job.plan.timeout)
        runner.turns.append((self._timeline.at, True))
        self._finish_at(job)
        self.began(job)

    def _finish_at(self, job: FakeJob) -> None:
        self._timeline.after(max(0.0, job.due - self._timeline.at), lambda: self._finish(job))

    def _finish(self, job: FakeJob) -> None:
        runner = job.runner
        if runner is None or runner.job is not job or not runner.online:
            return
        if job.plan.seconds > job.plan.timeout:  # GitHub shows these as cancelled, and says why in an annotation
            self.ended(job, "cancelled", [_too_long(job, runner)])
        else:
            late = [_too_long(job, runner)] if job.plan.conclusion == "timed_out" else []
            self.ended(job, job.plan.conclusion, late)

    def _retire(self, runner: FakeRunner) -> None:
        """Have an ephemeral runner gone, and another one come in its place if that was asked for."""
        runner.registered = False
        if runner.renews is not None:
            self._timeline.after(runner.renews, lambda: self._renew(runner))

    def _renew(self, old: FakeRunner) -> None:
        new_id = self._next_id()
        name = f"{old.name.partition('.')[0]}.{new_id}"
        new = replace(old, id=new_id, name=name, online=True, registered=True, job=None, shown_busy=None, turns=[])
        self._state.runners.append(new)
        self.assign()

    def _give_up(self, runner: FakeRunner, job: FakeJob, since: float) -> None:
        if runner.job is job and not runner.online and runner.offline_since == since:
            text = (
                f"The self-hosted runner: {runner.name} lost communication with the server. Verify the machine is "
                "running and has a healthy network connection."
            )
            self.ended(job, "failure", [Annotation(message=text)])


def _takes(runner: FakeRunner, job: FakeJob) -> bool:
    return runner.serves(job.run.repo.name) and runner.fits(job.labels)


def _too_long(job: FakeJob, runner: FakeRunner) -> Annotation:
    minutes = job.plan.timeout / 60
    text = f"The job running on runner {runner.name} has exceeded the maximum execution time of {minutes:g} minutes."
    return Annotation(message=text)
