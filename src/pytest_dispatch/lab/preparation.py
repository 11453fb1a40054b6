"""What is done for runs that sessions ask for, before any machine does: refuse, fetch, wake machines, take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.driven_machines import DrivenMachines
    from pytest_dispatch.lab.kind_services import Services
    from pytest_dispatch.lab.writer import Writer
    from pytest_dispatch.store.journal import KeptSession


class Preparation:
    """Gets ready what runs need.

    Args:
        writer: The lab's.
        services: Of its kinds.
        console: Of its machines.
        machines: Those that it brings up itself.
    """

    def __init__(self, writer: Writer, services: Services, console: ConsoleLog, machines: DrivenMachines) -> None:
        self._writer = writer
        self._queue = writer.queue
        self._services = services
        self._console = console
        self._machines = machines

    async def want(self, runs: list[Run]) -> None:
        """Get ready what these runs need, and wake machines for them.

        Where the lab has machines of its own, runs that none of them can ever run are given up at once; elsewhere
        others may yet come.
        """
        if any(seen.machine.driven for seen in self._queue.machines.values()):
            runs = [run for run in runs if not self._refuse(run)]
            self._writer.commit()
        self._services.wanted(runs)
        self._machines.rouse()

    def recall(self, session: str, kept: KeptSession) -> None:
        """Take back what the journal has of a session's attempts: what they ran, and their consoles."""
        self._services.recalled(session, kept.served, self._queue.sessions.under_way(session))
        self._console.recalled(kept.console)

    def _refuse(self, run: Run) -> bool:
        """Give a run up at once that none of our machines can ever run; tells whether that is so."""
        lacking = self._queue.scheduler.lacking(run)
        if lacking:
            self._queue.engine.lacks(run.id, f"no machine can run it: {lacking}", self._writer.clock.now())
        return bool(lacking)
