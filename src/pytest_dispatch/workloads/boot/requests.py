"""Answers the requests of machines (HEAD and GET): what to boot, and its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.lab.boot_tokens import BootIdentity, UsedError
from pytest_dispatch.workloads.boot.downloads import Downloads, Part
from pytest_dispatch.workloads.boot.protocol import Answer, BootProtocol

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.state import LabState

POLL = 0.1  # seconds between two looks while a session opens, or its workloads line up
LOOK = 0.5  # at what may have changed for a machine that waits and is not woken for it
OPENING = 4.0  # seconds that a machine waits for a lab to open its session; firmware gives up after 5


class BootRequests:
    """Answers machines that boot, and notes what they take.

    Args:
        lab_state: The lab's.
        protocol: Knows what each of them is to get.
        is_late: Tells of a run whether its bytes arrive too slowly for a machine to wait for them.

    Attributes:
        progress: Bytes that machines have taken so far, by run, of the downloads under way.
    """

    def __init__(self, lab_state: LabState, protocol: BootProtocol, is_late: Callable[[str], bool]) -> None:
        self.progress: dict[str, int] = {}
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._protocol = protocol
        self._is_late = is_late
        self._downloads = Downloads()
        self._line: dict[asyncio.Event, str] = {}  # machines that wait, in the order in which they came
        self._held: dict[str, tuple[str, int] | None] = {}  # what machines took last, as the journal has it

    @property
    def waiting(self) -> int:
        """How many machines wait for bytes that are on the way."""
        return len(self._line)

    async def opened(self) -> None:
        """Return when a session is open, if one is expected; a machine may be in the middle of one of its runs."""
        give_up = self._now() + OPENING
        while (
            self._queue.sessions.expecting and not self._lab_state.live_sessions and (left := give_up - self._now()) > 0
        ):
            await self._lab_state.moved(min(left, POLL))

    async def ask(self, bearer: BootIdentity, patience: float) -> Answer:
        """Answer a machine that asks (HEAD); waits up to `patience` seconds if bytes that it may get are on the way.

        Raises:
            UsedError: It has to boot anew for that.
        """
        return await self._answer(self._ask, bearer, patience)

    async def send(self, bearer: BootIdentity, patience: float) -> Answer:
        """Answer a machine that downloads (GET); wait likewise. On disk on return, so that no boot is unrecorded.

        Raises:
            UsedError: It has to boot again first.
            JournalError: It cannot be written.
        """
        answer = await self._answer(self._protocol.send, bearer, patience)
        machine = bearer.machine
        held = (answer.run.id, answer.run.attempt.number) if answer.run else None
        if machine not in self._held or self._held[machine] != held:  # else the journal knows
            await self._lab_state.on_disk()
            self._held[machine] = held
        return answer

    def may_go_on(self, machine: str, run: Run, tag: str) -> bool:
        """Tell whether a machine may have a part of these bytes: what it has of the run are not others."""
        return self._downloads.may_go_on(machine, run.id, run.attempt.number, tag)

    def downloading(self, machine: str, run: Run, tag: str = "", *, whole: bool) -> None:
        """Note that a request for bytes begins; with `whole`, for all of them."""
        self._downloads.begin(machine, run.id, run.attempt.number, tag, whole=whole)

    def sending(self, machine: str, run: Run, taken: int) -> None:
        """Note that the machine has taken so many bytes."""
        self.progress[run.id] = taken
        self._protocol.heard(machine, self._now())

    def received(self, machine: str, run: Run, part: Part) -> None:
        """Note that a request for bytes has ended; several of them may make up a download."""
        self.progress.pop(run.id, None)
        whole = self._downloads.took(machine, run.id, run.attempt.number, part)
        now = self._queue.runs.get(run.id)
        if now is None or now.attempt.number != run.attempt.number:
            return  # a connection of an earlier boot says nothing of the next attempt
        if whole:
            self._protocol.sent(machine, run.id, self._now())
        elif part.reached < part.end and not part.lacking:
            self._protocol.broke(machine, run.id, self._now())
        self._lab_state.commit()

    def spoiled(self, machine: str, run: Run | None, why: str) -> None:
        """Fail the current attempt, if it is still this one: its file changed after it was advertised."""
        if run is not None and run.id == self._queue.machines[machine].holds:
            self.broke_down(machine, why)

    def broke_down(self, machine: str, why: str) -> None:
        """End what the machine holds, as the lab cannot do its part."""
        self._queue.scheduler.fault(machine, why, self._now(), lab=True)
        self._lab_state.commit()

    def one_is_ready(self) -> None:
        """Let the machine that has waited longest look for work; each run wakes one, not all of them."""
        for woken in self._line:
            if not woken.is_set():
                woken.set()
                return

    def look(self, machine: str = "") -> None:
        """Let a machine that waits look what there is for it; or all that wait."""
        for woken, waiting in self._line.items():
            if machine in ("", waiting):
                woken.set()

    def powered_off(self, machine: str) -> None:
        """Mark the machine as powered off."""
        self._queue.machines.powered_off(machine, self._now())
        self._lab_state.wake()

    async def _answer(
        self, step: Callable[[str, float, KnownBy], Answer], bearer: BootIdentity, patience: float
    ) -> Answer:
        """Return the queue's answer; ask again for up to `patience` seconds while bytes are being fetched."""
        give_up = self._now() + patience
        woken = asyncio.Event()
        try:
            while True:
                await self._lined_up(bearer.machine)  # each time: they may have been asked for only since the last look
                if self._used(bearer):  # perhaps only since the last look
                    raise UsedError
                woken.clear()
                answer = step(bearer.machine, self._now(), bearer.known_by)
                if answer.run is not None:
                    bearer.got = (answer.run.id, answer.run.attempt.number)
                left = give_up - self._now()
                if not answer.soon or left <= 0 or self._lab_state.stopping:
                    self._lab_state.commit()
                    return answer
                self._line[woken] = bearer.machine
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK)):
                        await woken.wait()
        finally:
            self._line.pop(woken, None)

    def _ask(self, machine: str, now: float, known_by: KnownBy) -> Answer:
        """Ask the queue; whose bytes do not come is told to wait, as one that would wait for them in vain gives up."""
        answer = self._protocol.ask(machine, now, known_by)
        is_late = answer.run is not None and self._is_late(answer.run.id)
        return self._protocol.put_off(machine, now) if is_late else answer

    def _used(self, bearer: BootIdentity) -> bool:
        """Tell whether the boot is over for which the machine has its URL, or would be with what it asks for."""
        fetched = bearer.by_token and bearer.got is not None
        return bearer.replaced or (fetched and bearer.got != self._protocol.gets_again(bearer.machine))

    async def _lined_up(self, machine: str) -> None:
        """Wait until workloads just submitted are queued in their order, not in that in which bytes were found."""
        seen = self._queue.machines.find(machine)
        while not (seen and seen.holds) and self._is_lining_up() and not self._lab_state.stopping:
            await self._lab_state.moved(POLL)

    def _is_lining_up(self) -> bool:
        return self._queue.sessions.is_lining_up(self._now())

    def _now(self) -> float:
        return self._lab_state.clock.now()
