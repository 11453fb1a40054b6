"""Handles the messages of workloads (POST and PUT): that they run, and their reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.lab.boot_tokens import BootIdentity, UsedError
from pytest_dispatch.workloads.boot.forgotten_runs import ForgottenRuns
from pytest_dispatch.workloads.boot.protocol import BootProtocol, Taken

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Refusal, Report
    from pytest_dispatch.lab.state import LabState

PATIENCE = 10.0  # seconds in which the journal must return what a machine ran


class Beacons:
    """Handles beacons; what is acknowledged is on disk.

    Runs in the lab's memory need no read. For other runs the journal is read; then a method may raise a JournalError,
    or a LabError if the journal does not answer in time, and the workload must try again.

    Args:
        lab_state: The lab's.
        protocol: Decides which run a message is about.

    Attributes:
        patience: Seconds in which the journal must answer.
    """

    def __init__(self, lab_state: LabState, protocol: BootProtocol) -> None:
        self.patience = PATIENCE
        self._lab_state = lab_state
        self._protocol = protocol
        self._forgotten = ForgottenRuns(lab_state, protocol)

    async def boot(self, bearer: BootIdentity) -> Taken:
        """Record that a workload runs; on disk on return.

        Raises:
            UsedError: Its machine has booted again since.
            JournalError: It cannot be written.
        """
        if bearer.replaced:
            raise UsedError
        machine = bearer.machine
        taken = self._protocol.boot(machine, self._now())
        if taken is Taken.REFUSED and not self._protocol.remembers(machine):
            async with self._in_time():
                taken = await self._forgotten.boot(machine)
            if taken is Taken.REFUSED:
                self._protocol.unknown(machine, "said that it booted", self._now())
        self._lab_state.commit()
        await self._lab_state.on_disk()
        return taken

    async def may_report(self, machine: str) -> bool:
        """Return whether the machine booted anything that it may still report on."""
        if self._protocol.may_report(machine):
            return True
        if not self._protocol.remembers(machine):
            async with self._in_time():
                if await self._forgotten.may_report(machine):
                    return True
        self._protocol.unknown(machine, "sent a report", self._now())
        return False

    async def report(self, machine: str, report: Report, began: float) -> Taken:
        """Record a report from a request that began at `began`; on disk on return.

        Raises:
            JournalError: It cannot be written.
        """
        taken, _ = self._protocol.report(machine, report, self._now(), began)
        if taken is Taken.REFUSED and not self._protocol.remembers(machine):
            async with self._in_time():
                taken = await self._forgotten.report(machine, report, began)
        self._lab_state.commit()
        await self._lab_state.on_disk()
        return taken

    async def refuse(self, machine: str, refusal: Refusal, began: float) -> bool:
        """Record an invalid report from a request that began at `began`, and return whether it belongs to a run."""
        told = self._protocol.refuse(machine, refusal, self._now(), began)
        if not told and not self._protocol.remembers(machine):
            async with self._in_time():
                told = await self._forgotten.refuse(machine, refusal, began)
        self._lab_state.commit()
        return told

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Limit the reads inside the context to `patience`."""
        try:
            async with asyncio.timeout(self.patience):
                yield
        except TimeoutError as error:
            why = f"the journal did not tell within {format_duration(self.patience)} what this machine ran"
            raise LabError(f"{why}; send it again") from error

    def _now(self) -> float:
        return self._lab_state.clock.now()
