"""What machines ask of a lab, and what their workloads say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_dispatch.core.queue import Answer, Taken
from pytest_dispatch.lab.downloads import Downloads, Part
from pytest_dispatch.lab.tokens import Bearer, UsedError

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Refusal, Report, Run
    from pytest_dispatch.lab.writer import Writer

POLL = 0.1  # seconds between two looks at bytes that are on the way
OPENING = 4.0  # seconds that a machine waits for a lab to open its session; firmware gives up after 5


class Gate:
    """The machines' side of a lab.

    Attributes:
        progress: Bytes that machines have taken so far, by run, of the downloads under way.
    """

    def __init__(self, writer: Writer) -> None:
        self.progress: dict[str, int] = {}
        self._writer = writer
        self._queue = writer.queue
        self._downloads = Downloads()
        self._held: dict[str, tuple[str, int] | None] = {}  # what machines took last, as the journal has it

    async def opened(self) -> None:
        """Return when a session is open, if one is to come: it may be the one that a machine is in the middle of."""
        give_up = self._now() + OPENING
        while self._queue.expecting and not self._writer.ledgers and (left := give_up - self._now()) > 0:
            await self._writer.moved(min(left, POLL))

    async def ask(self, bearer: Bearer, patience: float) -> Answer:
        """A machine asks (HEAD); waits up to `patience` seconds if bytes that it may get are on the way.

        Raises:
            UsedError: It has to boot anew for that.
        """
        return await self._answer(self._queue.ask, bearer, patience)

    async def send(self, bearer: Bearer, patience: float) -> Answer:
        """A machine downloads (GET); waits likewise. On disk when this returns: nothing boots unknown.

        Raises:
            UsedError: It has to boot anew for that.
            JournalError: It cannot be written.
        """
        answer = await self._answer(self._queue.send, bearer, patience)
        machine = bearer.machine
        held = (answer.run.id, answer.run.attempt.number) if answer.run else None
        if machine not in self._held or self._held[machine] != held:  # else the journal knows
            await self._writer.on_disk()
            self._held[machine] = held
        return answer

    def downloading(self, machine: str, run: Run, *, whole: bool) -> None:
        """A request for bytes begins; with `whole`, for all of them."""
        self._downloads.begin(machine, run.id, run.attempt.number, whole=whole)

    def sending(self, machine: str, run: Run, taken: int) -> None:
        """The machine has taken so many bytes."""
        self.progress[run.id] = taken
        self._queue.heard(machine, self._now())

    def received(self, machine: str, run: Run, part: Part) -> None:
        """A request for bytes has ended; several of them may make up a download."""
        self.progress.pop(run.id, None)
        whole = self._downloads.took(machine, run.id, run.attempt.number, part)
        if self._queue.runs[run.id].attempt.number != run.attempt.number:
            return  # a connection of an earlier boot says nothing of the next attempt
        if whole:
            self._queue.sent(machine, run.id, self._now())
        elif part.reached < part.end:
            self._queue.broke(machine, run.id, self._now())
        self._writer.commit()

    def spoiled(self, machine: str, run: Run | None, why: str) -> None:
        """The bytes that the machine was to get are no longer those that were promised, if it still is to get them."""
        if run is not None and run.id == self._queue.machines[machine].holds:
            self.broke_down(machine, why)

    def broke_down(self, machine: str, why: str) -> None:
        """What the machine holds ends, as the lab cannot do its part."""
        self._queue.fault(machine, why, self._now(), lab=True)
        self._writer.commit()

    def powered_off(self, machine: str) -> None:
        """The machine took the power-off program."""
        self._queue.powered_off(machine)
        self._writer.wake()

    async def boot(self, bearer: Bearer) -> Taken:
        """The workload says that it runs; on disk when this returns.

        Raises:
            UsedError: Its machine has booted anew since.
            JournalError: It cannot be written.
        """
        if bearer.replaced:
            raise UsedError
        taken = self._queue.boot(bearer.machine, self._now())
        self._writer.commit()
        await self._writer.on_disk()
        return taken

    def may_report(self, machine: str) -> bool:
        """Whether the machine booted anything of which it may yet speak."""
        return self._queue.may_report(machine, self._now())

    async def report(self, machine: str, report: Report, began: float) -> Taken:
        """The workload reports, in a request that began then; on disk when this returns.

        Raises:
            JournalError: It cannot be written.
        """
        taken, _ = self._queue.report(machine, report, self._now(), began)
        self._writer.commit()
        await self._writer.on_disk()
        return taken

    def refuse(self, machine: str, refusal: Refusal, began: float) -> bool:
        """The workload sent, in a request that began then, what is no report; returns whether a run is told of it."""
        told = self._queue.refuse(machine, refusal, self._now(), began)
        self._writer.commit()
        return told

    async def _answer(self, step: Callable[[str, float], Answer], bearer: Bearer, patience: float) -> Answer:
        """What the queue says, asked again for a while as long as it says that bytes are on the way."""
        give_up = self._now() + patience
        while True:
            await self._lined_up(bearer.machine)  # each time: they may have been asked for only since the last look
            if self._used(bearer):  # perhaps only since the last look
                raise UsedError
            answer = step(bearer.machine, self._now())
            if answer.run is not None:
                bearer.got = (answer.run.id, answer.run.attempt.number)
            left = give_up - self._now()
            if not answer.soon or left <= 0 or self._writer.stopping:
                self._writer.commit()
                return answer
            await self._writer.moved(min(left, POLL))

    def _used(self, bearer: Bearer) -> bool:
        """Whether the boot is over for which the machine has its URL, or would be with what it asks for."""
        moves_on = bearer.got is not None and bearer.got != self._queue.gets_again(bearer.machine)
        return bearer.replaced or moves_on

    async def _lined_up(self, machine: str) -> None:
        """Return when workloads stand in line in their order, not in that in which their bytes were found."""
        seen = self._queue.machines.get(machine)
        while not (seen and seen.holds) and self._queue.is_lining_up(self._now()) and not self._writer.stopping:
            await self._writer.moved(POLL)

    def _now(self) -> float:
        return self._writer.clock.now()
