"""Has loaves baked by a bakery that speaks HTTP: sends them, asks how they are, says in which ovens they are."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import aiohttp

from pytest_dispatch.core.attempts import was_taken
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Hold, Identity
from pytest_dispatch.core.model import Attempt, KnownBy, Outcome, Report, Run
from pytest_dispatch.core.runs import Cause, Change
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.lab.kind_services import Resources, Service

PAUSE = 0.05  # seconds between rounds
CLOSED = (aiohttp.ClientError, TimeoutError)  # what is raised where the bakery does not answer
NAME = "bakery"  # in whose name ovens are held
ROOM = Capacity(kind="bake", labels={"ovens": "stone"})

#: What happens to an attempt, by what the bakery says of its loaf, which may be what it said before.
EVENTS = {"baking": ("heat",), "aside": ("heat", "set aside"), "done": ("heat",)}


def _key(run: Run, attempt: Attempt) -> str:
    """Return by what a loaf can be asked for before the bakery has told its name, and after that was lost."""
    return f"{run.id}.{attempt.number}"


class BakeService(Service):
    """Keeps nothing of a run in mind: what it has to know is in the run, and so in the journal."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._queue = self.lab_state.queue
        self._unwanted: list[str] = []
        self._http: aiohttp.ClientSession

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to ask the bakery."""
        self._http = aiohttp.ClientSession(os.environ["BAKERY_URL"], timeout=aiohttp.ClientTimeout(30))
        return [asyncio.create_task(self._work(), name="the way to the bakery")]

    async def stop(self) -> None:
        """Take back what nobody waits for any more."""
        with suppress(*CLOSED):  # it bakes them for nothing
            await self._take_back()
        await self._http.close()

    def changed(self, change: Change) -> None:
        """Have a loaf taken back that was given up, whether or not the bakery has told its name yet."""
        attempt = change.run.attempts[change.attempt - 1]
        if attempt.ended and was_taken(attempt) and change.event in (CoreEvent.CANCEL, CoreEvent.TIMEOUT):
            self._unwanted.append(_key(change.run, attempt))

    def adopt(self, runs: list[Run]) -> None:
        """Go on with them: whatever is under way is asked for in each round."""
        self.lab_state.wake()

    async def _work(self) -> None:
        while True:
            with suppress(*CLOSED):  # deadlines say how long that may go on
                await self._round()
            await self.lab_state.moved(PAUSE)

    async def _round(self) -> None:
        self._look_at_ovens(await self._ask("GET", "/ovens"))
        await self._take_back()
        for run in self._under_way():
            await (self._follow(run) if run.attempt.outside else self._send(run))
        while self._queue.scheduler.take(ROOM, self._now()):
            self.lab_state.commit()

    def _under_way(self) -> list[Run]:
        runs = [self._queue.runs[run_id] for run_id in sorted(self._queue.transitions.run_index.under_way)]
        return [run for run in runs if run.workload.kind == "bake" and not run.attempt.ended]

    async def _send(self, run: Run) -> None:
        """Send a loaf that is ours to send: this is on disk; if it was sent before, the bakery knows its key."""
        await self.lab_state.on_disk()
        key, number = _key(run, run.attempt), run.attempt.number
        wanted = {"key": key, "name": run.workload.name, "attempt": number, **run.workload.payload}
        found = await self._ask("GET", f"/keys/{key}") or await self._ask("POST", "/loaves", wanted)
        self._queue.transitions.sent_as(run.id, number, found["id"], self._now())
        self.lab_state.commit()
        await self.lab_state.on_disk()

    async def _follow(self, run: Run) -> None:
        """Let a run be what the bakery says of its loaf."""
        told = await self._ask("GET", f"/loaves/{run.attempt.outside}")
        transitions, now, number = self._queue.transitions, self._now(), run.attempt.number
        if self._queue.runs[run.id].attempt.number != number or run.id not in transitions.run_index.under_way:
            return  # it was given up meanwhile
        for event in EVENTS.get(told["state"], ()) if told["state"] != run.attempt.state else ():
            transitions.move(run.id, event, now)
        for oven in told["ovens"]:
            transitions.bind(run.id, oven, KnownBy.AGENT, now)
        if told["state"] == "done":
            report = Report(title=told["says"], result=Outcome(told["result"]), at=now)
            transitions.report(run.id, number, report, now)
            transitions.move(run.id, CoreEvent.COMPLETE, now)
        elif told["state"] == "broken":
            transitions.move(run.id, CoreEvent.FAULT, now, Cause(detail=told["says"]))
        self.lab_state.commit()

    def _look_at_ovens(self, ovens: dict[str, Any]) -> None:
        """Hold ovens that are being cleaned, as long as they are."""
        machines = self._queue.machines
        for oven, cleaning in ovens.items():
            held = machines.declare(oven, Identity(KnownBy.AGENT, oven)).hold
            if cleaning and held is None:
                machines.withhold(oven, Hold(reason="it is being cleaned", owner=NAME, since=self._now()))
            elif not cleaning and held is not None and held.owner == NAME:
                machines.readmit(oven, self._now())

    async def _take_back(self) -> None:
        while self._unwanted:
            await self._ask("DELETE", f"/keys/{self._unwanted[0]}")
            del self._unwanted[0]

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what the bakery answers; None if it has none of that name."""
        async with self._http.request(method, path, json=body) as answer:
            if answer.status == 404:
                return None
            answer.raise_for_status()
            return await answer.json()

    def _now(self) -> float:
        return self.lab_state.clock.now()
