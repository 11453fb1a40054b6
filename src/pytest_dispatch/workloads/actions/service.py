"""The service of the kind `actions`: looks at runners, sends runs when one is idle, and follows them to their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import AwayError, ConfigError
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.github.api import GitHubError
from pytest_dispatch.github.polling_api import PollingApis
from pytest_dispatch.lab.kind_services import Service
from pytest_dispatch.workloads.actions.attempts import Attempts
from pytest_dispatch.workloads.actions.following import Follower
from pytest_dispatch.workloads.actions.given_up import GivenUpRuns, is_given_up
from pytest_dispatch.workloads.actions.job_logs import logs_of
from pytest_dispatch.workloads.actions.lifecycle import State
from pytest_dispatch.workloads.actions.obstacles import Obstacles
from pytest_dispatch.workloads.actions.payload import ACTIONS, ActionsPayload
from pytest_dispatch.workloads.actions.run_state import named
from pytest_dispatch.workloads.actions.runners import RunnerTable
from pytest_dispatch.workloads.actions.sending import Sender
from pytest_dispatch.workloads.actions.webhooks import Webhooks

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.github.polling_api import PollingApi
    from pytest_dispatch.lab.kind_services import Resources
    from pytest_dispatch.workloads.actions.run_state import RunState

TICK = 0.2  # seconds between looks at what is due
GOODBYE = 1.0  # seconds in which runs that were cancelled last are cancelled at GitHub, when the lab stops

_log = logging.getLogger(__name__)


class ActionsService(Service):
    """Keeps no state of its own: what it has to know is in the runs, and so in the journal, or at GitHub."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        github, now = resources.github, self.lab_state.clock.now
        self._queue = self.lab_state.queue
        self._templates = resources.templates
        self._watch = github.watch
        self._apis = PollingApis(github.api_url, github.token_for, now)
        self._runners = RunnerTable(self.lab_state, self._apis, self._interval)
        self._attempts = Attempts(self.lab_state, self._apis, self._runners)
        self._follower = Follower(self._attempts, self._interval)
        self._given_up = GivenUpRuns(self._attempts, self._follower)
        self._sender = Sender(self._attempts, self._given_up)
        self._webhooks = Webhooks(self._attempts, self._follower)
        self._queue.outside[ACTIONS] = Obstacles(self._attempts, self._sender, github.token_for).of

    @property
    def webhook_secret(self) -> Token | None:
        """Return what webhooks are signed with; None if none are taken."""
        return self._watch().webhook_secret

    def _interval(self) -> float:
        return self._watch().interval

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at runners, to send and to follow."""
        looks = ((self._look_at_runners, "the look at runners"), (self._follow, "the look at runs at GitHub"))
        tasks = [asyncio.create_task(work(), name=name) for work, name in looks]
        return [*tasks, asyncio.create_task(self._send(), name="the way to GitHub Actions")]

    async def stop(self) -> None:
        """Cancel what was cancelled last, and close all connections."""
        for task in self._sender.tasks:
            task.cancel()
        await asyncio.gather(*self._sender.tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                wanted = [*self._cancelling(), *self._given_up.unasked()]
                cancels = (self._follower.cancel(state, run_id, at_once=True) for run_id, state in wanted)
                await asyncio.gather(*map(self._tried, cancels))
        await self._apis.aclose()

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
            self._attempts.wake()
        if attempt.ended:
            if is_given_up(attempt):
                known = state is not None and state.number == change.attempt
                self._given_up.add(change.run, attempt, state if known else None)
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
        return await logs_of(self._attempts.api(payload), payload, sent, case)

    def in_hand(self, run: str) -> RunState:
        """Return what is in mind of a run that is being sent, or was."""
        return self._attempts.of(self._queue.runs[run])

    def api_of(self, owner: str) -> PollingApi:
        """Return the client for what belongs to an owner."""
        return self._apis.of(owner)

    def idle_runners(self) -> list[str]:
        """Return the machines of the runners that could be sent something."""
        return list(self._runners.idle())

    # Loops

    async def _look_at_runners(self) -> None:
        while True:
            self._watch_templates()
            if self._watch().polls and self.lab_state.away is None:
                await asyncio.gather(*(self._runners.look(place) for place in self._runners.due()))
                self._attempts.wake()
            await asyncio.sleep(TICK)

    def _watch_templates(self) -> None:
        workloads = [each for each in self._templates() if each.workload.kind == ACTIONS]
        keys = {each.key for group in self._queue.groups.values() for each in group.requires}
        with suppress(ConfigError):  # a lab file with such a template is refused when it is read
            payloads = [ActionsPayload.of(each.workload) for each in workloads]
            self._runners.watch(payloads, keys if payloads else ())

    async def _send(self) -> None:
        while True:
            self._sender.take()
            self._attempts.woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._attempts.woken.wait()

    async def _follow(self) -> None:
        while True:
            now = self._attempts.now()
            if self.lab_state.away is None:
                due = [each for each in self._attempts.under_way() if each[1].due <= now and not each[1].posting]
                await self._given_up.recall()
                sweeps = (self._given_up.sweep(*each) for each in self._given_up.due(now))
                looks = [*(self._step(*each) for each in due), *sweeps]
                await asyncio.gather(*map(self._tried, looks))
            await asyncio.sleep(TICK)

    async def _step(self, run: Run, state: RunState) -> None:
        if not self._attempts.api(state.payload).is_open:
            return
        if not run.attempt.outside:
            await self._sender.search(run, state)
            return
        if run.attempt.state == State.CANCELLING:
            await self._follower.cancel(state, named(run.attempt))
        await self._follower.look(run, state)

    def _cancelling(self) -> Iterator[tuple[int, RunState]]:
        for run, state in self._attempts.under_way():
            if run.attempt.state == State.CANCELLING and named(run.attempt) and not state.cancels:
                yield named(run.attempt), state

    async def _tried(self, look: Awaitable[None]) -> None:
        """Let a look fail that GitHub does not answer: the next one comes, and deadlines say for how long."""
        try:
            await look
        except (GitHubError, AwayError) as error:
            _log.info("%s", error)
