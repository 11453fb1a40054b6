"""Carries boot workloads out: what machines ask of a lab, what their workloads say, and the bytes for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.filestamp import UNKNOWN
from pytest_dispatch.kinds import BootPayload
from pytest_dispatch.lab.services import Kind, Resources, Service
from pytest_dispatch.lab.tokens import Bearer, UsedError
from pytest_dispatch.sources.cache import Asset
from pytest_dispatch.store.journal import served_row
from pytest_dispatch.workloads.boot.downloads import Downloads, Part
from pytest_dispatch.workloads.boot.lifecycle import Event, State
from pytest_dispatch.workloads.boot.protocol import Answer, BootProtocol, Taken
from pytest_dispatch.workloads.boot.rules import RULES
from pytest_dispatch.workloads.boot.supply import Supply

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Refusal, Report, Run
    from pytest_dispatch.core.runs import Change

POLL = 0.1  # seconds between two looks at bytes that are on the way
OPENING = 4.0  # seconds that a machine waits for a lab to open its session; firmware gives up after 5

#: An attempt in these has taken none of its bytes, or not all.
_NOTHING_TAKEN = {State.UNASSIGNED, State.ASSIGNED, State.DOWNLOADING}


class BootService(Service):
    """The machines' side of a lab.

    Attributes:
        progress: Bytes that machines have taken so far, by run, of the downloads under way.
        assets: The bytes of workloads that are there, by run.
    """

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.progress: dict[str, int] = {}
        self.assets: dict[str, Asset] = {}
        self._queue = self.writer.queue
        self._protocol = BootProtocol(self._queue)
        self._supply = Supply(resources.cache, self._fetched, self._unfetchable)
        self._downloads = Downloads()
        self._later: dict[str, Asset] = {}  # for a further attempt, while a machine runs other bytes; by run
        self._held: dict[str, tuple[str, int] | None] = {}  # what machines took last, as the journal has it

    # As the lab's half of a kind

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to fetch."""
        return self._supply.start()

    async def stop(self) -> None:
        """Give up what is being fetched."""
        await self._supply.stop()

    def wanted(self, runs: list[Run]) -> None:
        """Have the bytes of these runs fetched."""
        for run in runs:
            self._supply.taken(run.id)  # what was fetched for it before it was asked for again does not count
        self._supply.want(runs)

    def changed(self, change: Change) -> None:
        """Note of which bytes an attempt begins to download, and have others ready for the next."""
        run = change.run
        if change.event == Event.SEND:
            self.writer.write([served_row(run.id, change.attempt, self.writer.digest_of(run))])
        if change.event == Event.ASSIGN or run.outcome is not None:
            self._supply.taken(run.id)
        if run.attempt.state == State.UNASSIGNED and run.id in self._later:
            self._give(run, self._later.pop(run.id))

    def recalled(self, session: str) -> None:
        """Take back the digests of what a session's attempts ran."""
        for run_id, digest in self.writer.journal.served(session).items():
            if run_id in self._queue.runs:
                run = self._queue.runs[run_id]
                payload = BootPayload.of(run.workload)
                path = Path(payload.location)
                self._give(run, Asset(path=path, size=payload.size, digest=digest, stamp=UNKNOWN))

    def waiting_machines(self) -> set[str]:
        """Return the machines that run the wait program."""
        return self._protocol.waiting_machines()

    def _give(self, run: Run, asset: Asset) -> None:
        self.assets[run.id] = asset
        self.writer.digests[run.id] = asset.digest

    def _fetched(self, run: Run, asset: Asset) -> None:
        now = self._queue.runs[run.id]
        if not _same_bytes(run, now):
            return  # it was asked for again since, and others are on their way
        old = self.assets.get(run.id)
        if old is None or old.digest == asset.digest or now.attempt.state in _NOTHING_TAKEN:
            self._give(run, asset)
        else:
            self._later[run.id] = asset
        self._queue.engine.has_what_it_needs(run.id, self._now())
        if self._queue.runs[run.id].attempt.machine:  # taken back from the journal: no machine will take it once more
            self._supply.taken(run.id)
        self.writer.commit()
        self.writer.wake()

    def _unfetchable(self, run: Run, why: str) -> None:
        if _same_bytes(run, self._queue.runs[run.id]):
            self._queue.engine.lacks(run.id, why, self._now())
            self.writer.commit()

    # What machines do

    async def opened(self) -> None:
        """Return when a session is open, if one is to come: it may be the one that a machine is in the middle of."""
        give_up = self._now() + OPENING
        while self._queue.sessions.expecting and not self.writer.ledgers and (left := give_up - self._now()) > 0:
            await self.writer.moved(min(left, POLL))

    async def ask(self, bearer: Bearer, patience: float) -> Answer:
        """Answer a machine that asks (HEAD); waits up to `patience` seconds if bytes that it may get are on the way.

        Raises:
            UsedError: It has to boot anew for that.
        """
        return await self._answer(self._protocol.ask, bearer, patience)

    async def send(self, bearer: Bearer, patience: float) -> Answer:
        """Answer a machine that downloads (GET); waits likewise. On disk when this returns: nothing boots unknown.

        Raises:
            UsedError: It has to boot anew for that.
            JournalError: It cannot be written.
        """
        answer = await self._answer(self._protocol.send, bearer, patience)
        machine = bearer.machine
        held = (answer.run.id, answer.run.attempt.number) if answer.run else None
        if machine not in self._held or self._held[machine] != held:  # else the journal knows
            await self.writer.on_disk()
            self._held[machine] = held
        return answer

    def downloading(self, machine: str, run: Run, *, whole: bool) -> None:
        """Note that a request for bytes begins; with `whole`, for all of them."""
        self._downloads.begin(machine, run.id, run.attempt.number, whole=whole)

    def sending(self, machine: str, run: Run, taken: int) -> None:
        """Note that the machine has taken so many bytes."""
        self.progress[run.id] = taken
        self._protocol.heard(machine, self._now())

    def received(self, machine: str, run: Run, part: Part) -> None:
        """Note that a request for bytes has ended; several of them may make up a download."""
        self.progress.pop(run.id, None)
        whole = self._downloads.took(machine, run.id, run.attempt.number, part)
        if self._queue.runs[run.id].attempt.number != run.attempt.number:
            return  # a connection of an earlier boot says nothing of the next attempt
        if whole:
            self._protocol.sent(machine, run.id, self._now())
        elif part.reached < part.end:
            self._protocol.broke(machine, run.id, self._now())
        self.writer.commit()

    def spoiled(self, machine: str, run: Run | None, why: str) -> None:
        """Fail the current attempt, if it is still this one: its file changed after it was advertised."""
        if run is not None and run.id == self._queue.machines[machine].holds:
            self.broke_down(machine, why)

    def broke_down(self, machine: str, why: str) -> None:
        """End what the machine holds, as the lab cannot do its part."""
        self._queue.scheduler.fault(machine, why, self._now(), lab=True)
        self.writer.commit()

    def powered_off(self, machine: str) -> None:
        """Mark the machine as powered off."""
        self._queue.machines.powered_off(machine, self._now())
        self.writer.wake()

    # What workloads say

    async def boot(self, bearer: Bearer) -> Taken:
        """Take a workload's word that it runs; on disk when this returns.

        Raises:
            UsedError: Its machine has booted anew since.
            JournalError: It cannot be written.
        """
        if bearer.replaced:
            raise UsedError
        taken = self._protocol.boot(bearer.machine, self._now())
        self.writer.commit()
        await self.writer.on_disk()
        return taken

    def may_report(self, machine: str) -> bool:
        """Tell whether the machine booted anything of which it may yet speak."""
        return self._protocol.may_report(machine, self._now())

    async def report(self, machine: str, report: Report, began: float) -> Taken:
        """Take a report, in a request that began then; on disk when this returns.

        Raises:
            JournalError: It cannot be written.
        """
        taken, _ = self._protocol.report(machine, report, self._now(), began)
        self.writer.commit()
        await self.writer.on_disk()
        return taken

    def refuse(self, machine: str, refusal: Refusal, began: float) -> bool:
        """Note what a workload sent that is no report, in a request that began then; tells whether a run is told."""
        told = self._protocol.refuse(machine, refusal, self._now(), began)
        self.writer.commit()
        return told

    # Inside

    async def _answer(self, step: Callable[[str, float, KnownBy], Answer], bearer: Bearer, patience: float) -> Answer:
        """Return what the queue says, asked again for a while as long as it says that bytes are on the way."""
        give_up = self._now() + patience
        while True:
            await self._lined_up(bearer.machine)  # each time: they may have been asked for only since the last look
            if self._used(bearer):  # perhaps only since the last look
                raise UsedError
            answer = step(bearer.machine, self._now(), bearer.known_by)
            if answer.run is not None:
                bearer.got = (answer.run.id, answer.run.attempt.number)
            left = give_up - self._now()
            if not answer.soon or left <= 0 or self.writer.stopping:
                self.writer.commit()
                return answer
            await self.writer.moved(min(left, POLL))

    def _used(self, bearer: Bearer) -> bool:
        """Tell whether the boot is over for which the machine has its URL, or would be with what it asks for."""
        moves_on = bearer.got is not None and bearer.got != self._protocol.gets_again(bearer.machine)
        return bearer.replaced or moves_on

    async def _lined_up(self, machine: str) -> None:
        """Return when workloads stand in line in their order, not in that in which their bytes were found."""
        seen = self._queue.machines.get(machine)
        while not (seen and seen.holds) and self._is_lining_up() and not self.writer.stopping:
            await self.writer.moved(POLL)

    def _is_lining_up(self) -> bool:
        return self._queue.sessions.is_lining_up(self._now())

    def _now(self) -> float:
        return self.writer.clock.now()


def _same_bytes(one: Run, other: Run) -> bool:
    """Tell whether two runs, or one at two times, are of the same bytes."""
    ours, theirs = BootPayload.of(one.workload), BootPayload.of(other.workload)
    same = (ours.location, ours.size) == (theirs.location, theirs.size)
    return same and one.workload.digest == other.workload.digest


BOOT_KIND = Kind(RULES, BootService)
