"""The service of the kind `actions`: looks at runners, sends runs when one is idle, and follows them to their end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.github.polling_api import PollingApis
from pytest_dispatch.lab.kind_services import Service
from pytest_dispatch.workloads.actions.attempts import Attempts
from pytest_dispatch.workloads.actions.following import Follower
from pytest_dispatch.workloads.actions.job_logs import logs_of
from pytest_dispatch.workloads.actions.lifecycle import State
from pytest_dispatch.workloads.actions.obstacles import Obstacles
from pytest_dispatch.workloads.actions.payload import ACTIONS, ActionsPayload
from pytest_dispatch.workloads.actions.rounds import Rounds
from pytest_dispatch.workloads.actions.run_state import RunState, named
from pytest_dispatch.workloads.actions.runners import RunnerTable
from pytest_dispatch.workloads.actions.sending import Sender
from pytest_dispatch.workloads.actions.webhooks import Webhooks
from pytest_dispatch.workloads.given_up import Elsewhere, GivenUp

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.github.polling_api import GitHubStanding, PollingApi
    from pytest_dispatch.lab.kind_services import Resources

LONGEST = 35 * 86_400.0  # seconds after which GitHub itself has ended each run


class ActionsService(Service):
    """Keeps no state of its own: what it has to know is in the runs, and so in the journal, or at GitHub."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        github, now = resources.github, self.lab_state.clock.now
        self._queue = self.lab_state.queue
        self._watch = github.watch
        self._apis = PollingApis(github.api_url, github.token_for, now)
        self._runners = RunnerTable(self.lab_state, self._apis, self._interval)
        self._attempts = Attempts(self.lab_state, self._apis, self._runners)
        self._follower = Follower(self._attempts, self._interval)
        self._given_up = GivenUp(self.lab_state, _at_github(self._attempts, self._follower))
        self._sender = Sender(self._attempts, self._given_up)
        self._webhooks = Webhooks(self._attempts, self._follower)
        self._rounds = Rounds(
            self._attempts, self._sender, self._follower, self._given_up, github.watch, resources.templates
        )
        self._queue.outside[ACTIONS] = Obstacles(self._attempts, self._sender, github.token_for).of

    @property
    def webhook_secret(self) -> Token | None:
        """Return what webhooks are signed with; None if none are taken."""
        return self._watch().webhook_secret

    @property
    def at_github(self) -> list[GitHubStanding]:
        """Return how things stand with GitHub, for each token."""
        return self._apis.standings

    def look_now(self) -> None:
        """Look at runners, and at runs at GitHub, as soon as possible."""
        self._apis.try_now()
        self._runners.hurry_all()
        for _, state in self._attempts.under_way():
            state.due = 0.0
        self._attempts.wake()

    def _interval(self) -> float:
        return self._watch().interval

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at runners, to send and to follow."""
        return self._rounds.start()

    async def stop(self) -> None:
        """Cancel what was cancelled last, and close all connections."""
        await self._rounds.stop()
        await self._apis.aclose()

    def failed_part(self, run: Run) -> Workload:
        """Return the workload that repeats only the failed jobs of a run.

        Raises:
            ConfigError: It has none, or GitHub has not ended it.
        """
        attempt, payload = run.attempt, ActionsPayload.of(run.workload)
        if attempt.state != State.CONCLUDED or not named(attempt) or attempt.outcome is Outcome.PASSED:
            how = f"{run.attempt.state}, {attempt.outcome or 'without an outcome'}"
            raise ConfigError(
                f"failed: expected a run that GitHub has ended and that did not pass, got {run.id}: {how}"
            )
        earlier = RunState(run.id, attempt.number, payload).after
        rerun = {"run": named(attempt), "attempt": earlier + 1, "link": attempt.outside}
        return replace(run.workload, payload={**run.workload.payload, "rerun": rerun})

    def wanted(self, runs: list[Run]) -> None:
        """Look at the runners that could run these."""
        records = map(self._queue.transitions.runs.record, (run.id for run in runs))
        keys = {each.key for record in records for each in record.requires}
        self._runners.watch([ActionsPayload.of(run.workload) for run in runs], keys)
        self._attempts.wake()

    def adopt(self, runs: list[Run]) -> None:
        """Go on with them: whatever is under way is looked at."""
        self.wanted(runs)

    def changed(self, change: Change) -> None:
        """Cancel at GitHub what is cancelled or given up here."""
        state = self._attempts.states.get(change.run.id)
        attempt = change.run.attempts[change.attempt - 1]
        if change.event == CoreEvent.CANCEL and state is not None:
            state.due = 0.0
            state.canceller = change.by or state.canceller
            self._attempts.wake()
        if attempt.ended:
            known = state is not None and state.number == change.attempt
            self._given_up.offer(change.run, attempt, state if known else None)
            self._attempts.wake()

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs."""
        for run in runs:
            self._attempts.states.pop(run, None)

    def hear(self, event: str, body: bytes) -> None:
        """Take in a webhook whose signature was checked.

        Raises:
            ConfigError: It is not what GitHub sends for this event.
        """
        self._webhooks.hear(event, body)

    async def log(self, run: Run, case: str) -> str:
        """Return the end of the logs of a run's jobs, or of the one of that name.

        Raises:
            ConfigError: It has no such job, or GitHub has no run yet.
            GitHubError: GitHub does not answer.
        """
        payload, sent = ActionsPayload.of(run.workload), named(run.attempt)
        if not sent:
            raise ConfigError(f"{run.workload.name}: expected a run that GitHub has, got one that was not sent")
        if await self._follower.is_here(self._attempts.recalled(run, run.attempt), sent) is False:
            raise ConfigError(f"{run.workload.name}: {self._attempts.elsewhere(run.attempt.outside)}; look there")
        return await logs_of(self._attempts.api(payload), payload, sent, case)

    def in_hand(self, run: str) -> RunState:
        """Return what is known of a run that is being sent, or was."""
        return self._attempts.of(self._queue.runs[run])

    def api_of(self, owner: str) -> PollingApi:
        """Return the client for what belongs to an owner."""
        return self._apis.of(owner)

    def idle_runners(self) -> list[str]:
        """Return the machines of the runners that could be sent something."""
        return list(self._runners.idle())


def _at_github(attempts: Attempts, follower: Follower) -> Elsewhere[int, RunState]:
    """Return how runs that nobody waits for any more are known at GitHub, and ended there."""
    return Elsewhere(
        kind=ACTIONS,
        ended=State.ENDED,
        cancelling=State.CANCELLING,
        longest=LONGEST,
        named=lambda attempt: named(attempt) or None,
        known=attempts.recalled,
        sweep=follower.sweep,
    )
