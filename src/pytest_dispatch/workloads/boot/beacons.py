"""What workloads say to a lab (POST and PUT): that they run, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.lab.boot_tokens import Bearer, UsedError
from pytest_dispatch.workloads.boot.protocol import BootProtocol, Taken

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Refusal, Report
    from pytest_dispatch.lab.writer import Writer


class Beacons:
    """Takes beacons; what is acknowledged is on disk.

    Args:
        writer: The lab's.
        protocol: Knows which run a machine may speak of.
    """

    def __init__(self, writer: Writer, protocol: BootProtocol) -> None:
        self._writer = writer
        self._protocol = protocol

    async def boot(self, bearer: Bearer) -> Taken:
        """Take a workload's word that it runs; on disk when this returns.

        Raises:
            UsedError: Its machine has booted anew since.
            JournalError: It cannot be written.
        """
        if bearer.replaced:
            raise UsedError
        taken = self._protocol.boot(bearer.machine, self._now())
        self._writer.commit()
        await self._writer.on_disk()
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
        self._writer.commit()
        await self._writer.on_disk()
        return taken

    def refuse(self, machine: str, refusal: Refusal, began: float) -> bool:
        """Note what a workload sent that is no report, in a request that began then; tells whether a run is told."""
        told = self._protocol.refuse(machine, refusal, self._now(), began)
        self._writer.commit()
        return told

    def _now(self) -> float:
        return self._writer.clock.now()
