"""Follows runs at GitHub: their jobs, the runners that have them, how they end, and whether a cancel was heeded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import KnownBy, Phase
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.workloads.actions.conclusion import GOOD, MOST_LINES, Evidence, concluded, report_of, standing
from pytest_dispatch.workloads.actions.job_logs import fetch_log, last_lines
from pytest_dispatch.workloads.actions.lifecycle import Event, State
from pytest_dispatch.workloads.actions.run_state import named
from pytest_dispatch.workloads.actions.shapes import ENDED, Annotation, Artifacts, Jobs, WorkflowJob, WorkflowRun

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.run_state import RunState

SOON = 2.0  # seconds between two looks at what should change soon
MISSING = 60.0  # seconds in which GitHub may not know a run yet that it has named itself
LOST = 900.0  # seconds after which a job is lost whose runner is offline; GitHub itself gives it up earlier
ASK_AGAIN = 30.0  # seconds until GitHub is asked once more to cancel a run
GENTLE = 2  # cancels before the run is forced to end
MOST_FAILED = 5  # failed jobs whose annotations and logs are read

_GONE = (Trouble.MISSING, Trouble.GONE)


class Follower:
    """Looks at runs.

    Args:
        attempts: The attempts in hand.
        interval: Returns the seconds between two looks at a run.
    """

    def __init__(self, attempts: Attempts, interval: Callable[[], float]) -> None:
        self._attempts = attempts
        self._queue = attempts.queue
        self._interval = interval

    async def look(self, run: Run, state: RunState) -> None:
        """Look at a run, and let its attempt be what GitHub says of it."""
        api, path = self._attempts.api(state.payload), self._path(state, named(run.attempt))
        soon = run.attempt.phase in (Phase.STARTING, Phase.SETTLING)
        state.due = self._attempts.now() + (min(SOON, self._interval()) if soon else self._interval())
        try:
            pages = await api.pages(f"{path}/jobs", Jobs, filter="latest")
            jobs = [job for page in pages for job in page.jobs if job.run_attempt > state.after]
            told = state.told
            if told is None or any(job.run_attempt != told.run_attempt for job in jobs):
                told = None if _say_enough(jobs) else await api.get(path, WorkflowRun)
            state.missing = math.inf
            if told is not None and told.run_attempt <= state.after:
                return  # the attempt that is repeated; the new one is not shown yet
        except GitHubError as error:
            if error.trouble not in _GONE:
                raise
            self._is_missing(state, str(error))
            return
        if self.note(state, told, jobs) and told is not None:
            await self._conclude(state, told, jobs)

    def note(self, state: RunState, told: WorkflowRun | None, jobs: Sequence[WorkflowJob]) -> bool:
        """Let an attempt be what its run and jobs are; return whether GitHub has concluded it.

        Args:
            state: The attempt.
            told: The run, where its jobs do not say enough.
            jobs: The jobs of the run's latest attempt.
        """
        self._note_ends(state, jobs)
        state.jobs = jobs
        if self._attempts.run_of(state) is None:
            return False
        over = told is not None and told.status == ENDED and told.conclusion != "action_required"
        event = standing(told, jobs)
        if over:  # it may have begun and ended between two looks
            event = Event.BEGIN if any(job.runner_id for job in jobs) else None
        if event is not None:
            self._attempts.move(state, event)
        self._place(state, jobs)
        if not over:
            self._look_for_trouble(state, jobs)
        self._attempts.commit()
        return over

    def _is_missing(self, state: RunState, why: str) -> None:
        state.missing = min(state.missing, self._attempts.now())
        if self._attempts.now() - state.missing >= MISSING:
            self._attempts.move(state, Event.VANISHED, why)
            self._attempts.commit()

    # Where it runs

    def _note_ends(self, state: RunState, jobs: Sequence[WorkflowJob]) -> None:
        """Note which runners are free because a job of ours has ended."""
        before = {job.id for job in state.jobs if job.runs}
        for job in jobs:
            seen = self._attempts.runners.of_job(state.payload, job.runner_id or 0)
            if job.ended and job.id in before and seen is not None:
                seen.freed = self._attempts.now()

    def _place(self, state: RunState, jobs: Sequence[WorkflowJob]) -> None:
        """Bind the machines that have jobs now or had them, and let go of those whose jobs have ended."""
        now, transitions = self._attempts.now(), self._queue.transitions
        busy: dict[str, bool] = {}
        for job in jobs:
            machine = self._machine(state, job)
            if machine:
                busy[machine] = busy.get(machine, False) or job.runs
                transitions.bind(state.run, machine, KnownBy.AGENT, now)
        for machine, has_job in busy.items():
            if has_job:
                self._queue.machines.hold(machine, state.run, now, revocable=False)
            else:
                self._queue.machines.release(machine, state.run, now)

    def _machine(self, state: RunState, job: WorkflowJob) -> str:
        """Return the id of the machine that has a job, or had it; empty if none had, or it is none of ours."""
        if not job.runner_id or not (job.runs or job.ended):
            return ""
        seen = self._attempts.runners.of_job(state.payload, job.runner_id)
        if seen is None or seen.machine not in self._queue.machines:
            self._attempts.runners.hurry(state.payload.owner)
            return ""
        return seen.machine

    # How it ends

    async def _conclude(self, state: RunState, told: WorkflowRun, jobs: Sequence[WorkflowJob]) -> None:
        evidence = await self._evidence(state, told, jobs)
        run = self._attempts.run_of(state)
        if run is None:
            return
        canceller = state.canceller or ("us" if run.attempt.state == State.CANCELLING else "")
        event, detail = concluded(evidence, canceller)
        report = report_of(evidence, event, run.workload.name, detail)
        self._queue.transitions.report(run.id, state.number, report, self._attempts.now())
        self._attempts.move(state, event, detail)
        self._attempts.commit()
        self._attempts.wake()

    async def _evidence(self, state: RunState, told: WorkflowRun, jobs: Sequence[WorkflowJob]) -> Evidence:
        api, payload = self._attempts.api(state.payload), state.payload
        bad = [job for job in jobs if job.conclusion not in GOOD][:MOST_FAILED]
        remarks, logs = {}, {}
        for job in bad:
            path = f"/repos/{payload.owner}/{payload.repo}/check-runs/{job.id}/annotations"
            pages = await api.pages(path, list[Annotation])
            remarks[job.id] = [each.message for page in pages for each in page if each.message]
            if job.started_at is not None and job.runner_id:
                logs[job.id] = last_lines(await fetch_log(api, payload, job.id), MOST_LINES)
        had_runner = any(job.runner_id for job in jobs)
        found = await api.pages(f"{self._path(state, told.id)}/artifacts", Artifacts) if had_runner else []
        artifacts = [each for page in found for each in page.artifacts]
        return Evidence(run=told, jobs=jobs, remarks=remarks, logs=logs, artifacts=artifacts)

    def _look_for_trouble(self, state: RunState, jobs: Sequence[WorkflowJob]) -> None:
        """End an attempt whose runners are gone, or that GitHub does not start though one is idle."""
        run, now = self._attempts.run_of(state), self._attempts.now()
        if run is None:
            return
        if run.attempt.state == State.SENT and now - run.attempt.since >= run.limits["start"]:
            self._attempts.move(state, Event.FAULT, self._not_started(run, jobs))
            return
        active = [self._attempts.runners.of_job(state.payload, job.runner_id or 0) for job in jobs if job.runs]
        away = [seen for seen in active if seen is not None and seen.away_since is not None]
        if active and len(away) == len(active) and all(now - (seen.away_since or now) >= LOST for seen in away):
            how = "not registered" if away[0].gone else "offline"
            text = f"{away[0].machine} has been {how} for {format_duration(LOST)} while it ran a job"
            self._attempts.move(state, Event.FAULT, text)

    def _not_started(self, run: Run, jobs: Sequence[WorkflowJob]) -> str:
        waiting = next((job for job in jobs if job.status == "queued"), None)
        idle = [each for each in self._attempts.runners.idle() if self._suits(run, each)]
        asks = f": job {waiting.name} asks for labels {', '.join(waiting.labels)}" if waiting is not None else ""
        had = f", and {idle[0]} was idle" if idle else ", and no runner that fits was idle"
        return f"GitHub has not started it within {format_duration(run.limits['start'])}{asks}{had}"

    def _suits(self, run: Run, machine: str) -> bool:
        requires = self._queue.transitions.runs.record(run.id).requires
        return suits(requires, self._attempts.runners.labels_of(machine))

    # Which GitHub has it

    async def is_here(self, state: RunState, run_id: int) -> bool | None:
        """Return whether the GitHub that is asked has a run of an earlier lab; None if it may show it yet."""
        before = state.sent_before
        if before is None:
            return True
        state.due = self._attempts.now() + self._interval()
        try:
            told = await self._attempts.api(state.payload).get(self._path(state, run_id), WorkflowRun)
        except GitHubError as error:
            if error.trouble not in _GONE:
                raise
            state.missing = min(state.missing, self._attempts.now())
            return False if self._attempts.now() - state.missing >= MISSING else None
        if before.is_told_by(told):
            state.sent_before = None
        return state.sent_before is None

    # Cancelling

    async def cancel(self, state: RunState, run_id: int, *, at_once: bool = False) -> None:
        """Have GitHub cancel a run, and force it to end where it does not heed that.

        Args:
            state: The attempt.
            run_id: The run.
            at_once: Whether the lab is about to end, so that this waits for no other write.
        """
        now = self._attempts.now()
        if now - state.asked < ASK_AGAIN:
            return
        state.asked = now
        state.cancels += 1
        verb = "cancel" if state.cancels <= GENTLE else "force-cancel"
        try:
            await self._attempts.api(state.payload).post(f"{self._path(state, run_id)}/{verb}", {}, at_once=at_once)
        except asyncio.CancelledError:
            state.take_back_cancel()  # this look ends with the lab, which then asks without waiting for its turn
            raise
        except GitHubError as error:
            if error.status != 409:  # it is over, which the next look sees
                state.take_back_cancel()
                if error.trouble not in _GONE:
                    raise

    async def sweep(self, run_id: int, state: RunState) -> bool | None:
        """Cancel a run whose attempt is over here; return whether GitHub has ended it, None if it does not have it."""
        state.due = self._attempts.now() + self._interval()
        here = await self.is_here(state, run_id)
        if not here:
            return None if here is False else False
        try:
            told = await self._attempts.api(state.payload).get(self._path(state, run_id), WorkflowRun)
        except GitHubError as error:
            if error.trouble in _GONE:
                return True
            raise
        if told.status != ENDED:
            await self.cancel(state, run_id)
        return told.status == ENDED

    def _path(self, state: RunState, run_id: int) -> str:
        return f"{state.payload.path}/runs/{run_id}"


def _say_enough(jobs: Sequence[WorkflowJob]) -> bool:
    """Return whether the jobs of a run say how it stands: one of them waits or runs."""
    return any(job.status in ("queued", "in_progress", "waiting") for job in jobs)
