"""What the kind `actions` does again and again: looks at runners, sends runs, follows them, ends what is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import AwayError, ConfigError
from pytest_dispatch.github.api import GitHubError
from pytest_dispatch.workloads.actions.lifecycle import Event, State
from pytest_dispatch.workloads.actions.payload import ACTIONS, ActionsPayload
from pytest_dispatch.workloads.actions.run_state import named
from pytest_dispatch.workloads.looks import TICK, Looks, tried

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.lab.external_systems import GitHubWatch
    from pytest_dispatch.workloads.actions.attempts import Attempts
    from pytest_dispatch.workloads.actions.following import Follower
    from pytest_dispatch.workloads.actions.run_state import RunState
    from pytest_dispatch.workloads.actions.runners import Place
    from pytest_dispatch.workloads.actions.sending import Sender
    from pytest_dispatch.workloads.given_up import GivenUp

GOODBYE = 3.0  # seconds in which runs that were cancelled last are cancelled at GitHub, when the lab stops
#: What a look may fail with.
_FORGIVEN = (GitHubError, AwayError)


class Rounds:
    """Does what is due, until it is stopped.

    Args:
        attempts: The attempts in hand.
        sender: Sends runs.
        follower: Looks at runs at GitHub.
        given_up: Runs that go on at GitHub though nobody waits for them.
        watch: Returns how the lab learns what changes at GitHub.
        templates: Returns the workloads that people can queue.
    """

    def __init__(
        self,
        attempts: Attempts,
        sender: Sender,
        follower: Follower,
        given_up: GivenUp[int, RunState],
        watch: Callable[[], GitHubWatch],
        templates: Callable[[], Iterable[Template]],
    ) -> None:
        self._attempts = attempts
        self._runners = attempts.runners
        self._sender = sender
        self._follower = follower
        self._given_up = given_up
        self._watch = watch
        self._templates = templates

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look at runners, to send and to follow."""
        looks = ((self._look_at_runners, "the look at runners"), (self._follow, "the look at runs at GitHub"))
        tasks = [asyncio.create_task(work(), name=name) for work, name in looks]
        return [*tasks, asyncio.create_task(self._send(), name="the way to GitHub Actions")]

    async def stop(self) -> None:
        """Send nothing more, and have GitHub cancel what was cancelled last, also of what is just being sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self._cancel_last()
                await asyncio.gather(*self._sender.tasks, return_exceptions=True)
                await self._cancel_last()  # GitHub has named what was being sent
        for task in self._sender.tasks:
            task.cancel()
        await asyncio.gather(*self._sender.tasks, return_exceptions=True)

    async def _cancel_last(self) -> None:
        known = self._given_up.items()
        given_up = (each for each in known if not each[1].cancels and each[1].sent_before is None)
        wanted = [*self._cancelling(), *given_up]
        cancels = (self._follower.cancel(state, run_id, at_once=True) for run_id, state in wanted)
        await asyncio.gather(*(tried(each, *_FORGIVEN) for each in cancels))

    async def _look_at_runners(self) -> None:
        async with Looks(*_FORGIVEN) as looks:
            while True:
                self._watch_templates()
                if self._watch().polls and self._attempts.lab_state.away is None:
                    for place in self._runners.due():
                        looks.begin(place.name, partial(self._look_at, place))
                await looks.rest()

    async def _look_at(self, place: Place) -> None:
        await self._runners.look(place)
        self._attempts.wake()

    def _watch_templates(self) -> None:
        workloads = [each for each in self._templates() if each.workload.kind == ACTIONS]
        keys = {each.key for group in self._attempts.queue.groups.values() for each in group.requires}
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
        async with Looks(*_FORGIVEN) as looks:
            while True:
                now = self._attempts.now()
                if self._attempts.lab_state.away is None:
                    await self._given_up.recall()
                    for run, state in self._attempts.under_way():
                        if state.due <= now and not state.posting:
                            looks.begin(run.id, partial(self._step, run, state))
                    for run_id, state in self._given_up.due(now):
                        looks.begin(run_id, partial(self._given_up.sweep, run_id, state))
                await looks.rest()

    async def _step(self, run: Run, state: RunState) -> None:
        if not self._attempts.api(state.payload).is_open:
            return
        if not run.attempt.outside:
            await self._sender.search(run, state)
            return
        here = await self._follower.is_here(state, named(run.attempt))
        if here is None:
            return
        if not here:
            why = f"{self._attempts.elsewhere(run.attempt.outside)}; set github.api_url back to follow it"
            self._attempts.move(state, Event.FAULT, why, final=True)
            self._attempts.commit()
            return
        if run.attempt.state == State.CANCELLING:
            await self._follower.cancel(state, named(run.attempt))
        await self._follower.look(run, state)

    def _cancelling(self) -> Iterator[tuple[int, RunState]]:
        for run, state in self._attempts.under_way():
            is_here = named(run.attempt) and state.sent_before is None
            if run.attempt.state == State.CANCELLING and is_here and not state.cancels:
                yield named(run.attempt), state
