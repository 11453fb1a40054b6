"""What GitHub tells by webhooks: jobs and runs as they change. Lost, doubled and reordered ones do no harm.

A webhook only hastens what the next look would find: a job goes on and never back, and how a run ended is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.support.codec import decode
from pytest_dispatch.workloads.actions.run_state import named
from pytest_dispatch.workloads.actions.shapes import ENDED, Account, WorkflowJob, WorkflowRun

if TYPE_CHECKING:
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.following import Follower
    from pytest_dispatch.workloads.actions.run_state import RunState

#: How far a job is, by its status; what is not known is not as far as anything else.
_FAR = {"requested": 1, "pending": 1, "waiting": 2, "queued": 3, "in_progress": 4, ENDED: 5}


class _Repository(msgspec.Struct):
    full_name: str


class _JobHook(msgspec.Struct):
    workflow_job: WorkflowJob
    repository: _Repository


class _RunHook(msgspec.Struct):
    workflow_run: WorkflowRun
    repository: _Repository
    sender: Account


class Webhooks:
    """Hears webhooks whose signature was checked.

    Args:
        attempts: The attempts in hand.
        follower: Looks at runs.
    """

    def __init__(self, attempts: Attempts, follower: Follower) -> None:
        self._attempts = attempts
        self._follower = follower
        self._hears: dict[str, Callable[[bytes], None]] = {"workflow_job": self._job, "workflow_run": self._run}

    def hear(self, event: str, body: bytes) -> None:
        """Take in a webhook; one of another event is left alone.

        Raises:
            ConfigError: It is not what GitHub sends for this event.
        """
        hears = self._hears.get(event)
        if hears is None:
            return
        try:
            hears(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ConfigError(f"expected GitHub's payload of the event {event}, got something else: {error}") from None
        self._attempts.commit()
        self._attempts.wake()

    def _job(self, body: bytes) -> None:
        told = decode(body, _JobHook)
        job, owner = told.workflow_job, told.repository.full_name.partition("/")[0]
        state = self._state_of(told.repository.full_name, job.run_id)
        if state is None:
            self._tell_runner(told.repository.full_name, job)
            return
        jobs = {each.id: each for each in state.jobs}
        known = jobs.get(job.id)
        late = known is not None and _FAR.get(known.status, 0) >= _FAR.get(job.status, 0)
        if late or job.run_attempt <= state.after or any(each.run_attempt > job.run_attempt for each in state.jobs):
            return  # a later one came first, or it is of an earlier attempt of the run
        self._tell_runner(told.repository.full_name, job)
        same = {each.id: each for each in state.jobs if each.run_attempt == job.run_attempt}
        self._follower.note(state, None, [*{**same, job.id: job}.values()])
        if job.ended:
            state.due = self._attempts.now()
        if job.runner_id and self._attempts.runners.of_job(state.payload, job.runner_id) is None:
            self._attempts.runners.hurry(owner)

    def _run(self, body: bytes) -> None:
        told = decode(body, _RunHook)
        state = self._state_of(told.repository.full_name, told.workflow_run.id)
        if state is None or told.workflow_run.status != ENDED or told.workflow_run.run_attempt <= state.after:
            return
        run = told.workflow_run
        if run.conclusion == "cancelled" and run.actor is not None and told.sender.login != run.actor.login:
            state.canceller = told.sender.login  # who started it is also named where another run superseded it
        state.told = run
        state.due = self._attempts.now()

    def _tell_runner(self, repository: str, job: WorkflowJob) -> None:
        """Have a runner busy or idle, whoever's job it is."""
        if not job.runner_id:
            return
        for seen in self._attempts.runners:
            mine = seen.place.name in (repository.lower(), repository.partition("/")[0].lower())
            if mine and seen.runner.id == job.runner_id and _FAR.get(job.status, 0) >= _FAR["in_progress"]:
                seen.runner = replace(seen.runner, busy=not job.ended)
                seen.freed = self._attempts.now() if job.ended else -math.inf

    def _state_of(self, repository: str, run_id: int) -> RunState | None:
        """Return the attempt that a run is of; None if it is none of ours."""
        for run, state in self._attempts.under_way():
            is_it = named(run.attempt) == run_id and state.payload.repository == repository.lower()
            if is_it and state.sent_before is None:
                return state
        return None
