"""Answers the requests of machines (HEAD and GET): what to boot, and which bytes."""

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

POLL = 0.1  # seconds between checks while a session opens, or its first workloads are prepared
LOOK = 0.5  # seconds between checks for changes for which a waiting machine is not woken
OPENING = 4.0  # longest wait of a machine for the session to open, in seconds; firmware gives up after 5


class BootRequests:
    """Answers machines that boot, and records what they download.

    Args:
        lab_state: The lab's state.
        protocol: Decides what each machine gets.
        is_late: Returns whether the bytes of a run arrive too slowly for a machine to wait for them.

    Attributes:
        progress: Bytes downloaded so far, by run, for downloads under way.
    """

    def __init__(self, lab_state: LabState, protocol: BootProtocol, is_late: Callable[[str], bool]) -> None:
        self.progress: dict[str, int] = {}
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._protocol = protocol
        self._is_late = is_late
        self._downloads = Downloads()
        self._line: dict[asyncio.Event, str] = {}  # waiting machines, in order of arrival
        self._held: dict[str, tuple[str, int] | None] = {}  # the attempt that each machine got last, as journalled

    @property
    def waiting(self) -> int:
        """Return the number of machines that wait for bytes."""
        return len(self._line)

    async def opened(self) -> None:
        """Wait for the expected session to open: the machine may be in the middle of one of its runs."""
        give_up = self._now() + OPENING
        while (
            self._queue.sessions.expecting and not self._lab_state.live_sessions and (left := give_up - self._now()) > 0
        ):
            await self._lab_state.moved(min(left, POLL))

    async def ask(self, bearer: BootIdentity, patience: float) -> Answer:
        """Answer a machine that asks (HEAD); wait up to `patience` seconds for bytes that are being fetched.

        Raises:
            UsedError: The boot URL is used up; the machine has to boot again.
        """
        return await self._answer(self._ask, bearer, patience)

    async def send(self, bearer: BootIdentity, patience: float) -> Answer:
        """Answer a machine that downloads (GET); wait as `ask` does. The boot is journalled when this returns.

        Raises:
            UsedError: The boot URL is used up; the machine has to boot again.
            JournalError: The journal cannot be written.
        """
        answer = await self._answer(self._protocol.send, bearer, patience)
        machine = bearer.machine
        held = (answer.run.id, answer.run.attempt.number) if answer.run else None
        if machine not in self._held or self._held[machine] != held:  # else the journal knows
            await self._lab_state.on_disk()
            self._held[machine] = held
        return answer

    def may_go_on(self, machine: str, run: Run, tag: str) -> bool:
        """Return whether a machine may get a part of these bytes: those that it already has of the run are the same."""
        return self._downloads.may_go_on(machine, run.id, run.attempt.number, tag)

    def downloading(self, machine: str, run: Run, tag: str = "", *, whole: bool) -> None:
        """Record that a request for bytes begins; `whole` means for all of them."""
        self._downloads.begin(machine, run.id, run.attempt.number, tag, whole=whole)

    def sending(self, machine: str, run: Run, taken: int) -> None:
        """Record that the machine has received so many bytes."""
        self.progress[run.id] = taken
        self._protocol.heard(machine, self._now())

    def received(self, machine: str, run: Run, part: Part) -> None:
        """Record that a request for bytes has ended; a download may consist of several."""
        self.progress.pop(run.id, None)
        whole = self._downloads.took(machine, run.id, run.attempt.number, part)
        now = self._queue.runs.get(run.id)
        if now is None or now.attempt.number != run.attempt.number:
            return  # a connection of an earlier boot says nothing about a later attempt
        if whole:
            self._protocol.sent(machine, run.id, self._now())
        elif part.reached < part.end and not part.lacking:
            self._protocol.broke(machine, run.id, self._now())
        self._lab_state.commit()

    def spoiled(self, machine: str, run: Run | None, why: str) -> None:
        """Fail the machine's attempt if it is still of this run: the file has changed since it was offered."""
        if run is not None and run.id == self._queue.machines[machine].holds:
            self.broke_down(machine, why)

    def broke_down(self, machine: str, why: str) -> None:
        """End the attempt that the machine holds as the lab's fault."""
        self._queue.scheduler.fault(machine, why, self._now(), lab=True, excused=True)
        self._lab_state.commit()

    def one_is_ready(self) -> None:
        """Wake the machine that has waited longest; each ready run wakes one, not all."""
        for woken in self._line:
            if not woken.is_set():
                woken.set()
                return

    def look(self, machine: str = "") -> None:
        """Wake a waiting machine, or all of them, to check again."""
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
        """Return the queue's answer; while bytes are being fetched, ask again for up to `patience` seconds."""
        give_up = self._now() + patience
        woken = asyncio.Event()
        try:
            while True:
                await self._lined_up(bearer.machine)  # each time, because more may have been submitted meanwhile
                if self._used(bearer):  # each time, because it may have been used meanwhile
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
        """Ask the queue; a machine whose bytes arrive too slowly is told to wait, as its firmware would give up."""
        answer = self._protocol.ask(machine, now, known_by)
        is_late = answer.run is not None and self._is_late(answer.run.id)
        return self._protocol.put_off(machine, now) if is_late else answer

    def _used(self, bearer: BootIdentity) -> bool:
        """Return whether the boot for which the machine has its URL is over, or would be with this request."""
        fetched = bearer.by_token and bearer.got is not None
        return bearer.replaced or (fetched and bearer.got != self._protocol.gets_again(bearer.machine))

    async def _lined_up(self, machine: str) -> None:
        """Wait a moment for bytes of just submitted workloads that come before the one that the machine would get."""
        seen = self._queue.machines.find(machine)
        while not (seen and seen.holds) and not self._lab_state.stopping:
            if not self._protocol.awaits_others(machine, self._now()):
                return
            await self._lab_state.moved(POLL)

    def _now(self) -> float:
        return self._lab_state.clock.now()
