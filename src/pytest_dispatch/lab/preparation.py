"""Prepares submitted runs: refuses those that cannot run, fetches what they need, and wakes machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.console_log import ConsoleLog
    from pytest_dispatch.lab.driven_machines import DrivenMachines
    from pytest_dispatch.lab.services_by_kind import Services
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.store.journal import KeptSession


class Preparation:
    """Prepares what runs need.

    Args:
        lab_state: The lab's.
        services: The services of the lab's kinds.
        console: The consoles of its machines.
        machines: The machines that it starts itself.
    """

    def __init__(self, lab_state: LabState, services: Services, console: ConsoleLog, machines: DrivenMachines) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._services = services
        self._console = console
        self._machines = machines
        self._later: dict[str, None] = {}  # runs that are held after a fault of the lab

    async def want(self, runs: list[Run]) -> None:
        """Prepare what these runs need, and wake machines for them.

        If the lab has machines of its own, runs that none of them can run fail at once; otherwise suitable machines may
        still appear. A run that is held after a fault of the lab is prepared when it is released: else it would meet
        the same fault at once.
        """
        later = [run for run in runs if self._waits_after_a_fault(run)]
        self._later.update((run.id, None) for run in later)
        runs = [run for run in runs if run not in later]
        if any(seen.machine.driven for seen in self._queue.machines.values()):
            runs = [run for run in runs if not self._refuse(run)]
            self._lab_state.commit()
        self._services.wanted(runs)
        self._machines.rouse()

    async def tend(self) -> None:
        """Prepare the runs that were queued again, and those that were released after a fault of the lab."""
        followers, self._lab_state.followers = self._lab_state.followers, []
        released = [run for run in self._later if run not in self._queue.transitions.held]
        for run in released:
            del self._later[run]
        due = [*(run.id for run in followers), *released]
        runs = [self._queue.runs[run] for run in due if run in self._queue.runs]
        if wanted := [run for run in runs if run.outcome is None]:
            await self.want(wanted)
            self._lab_state.wake()

    def _waits_after_a_fault(self, run: Run) -> bool:
        return run.requeue is not None and run.requeue.faults > 0 and run.id in self._queue.transitions.held

    def recall(self, session: str, kept: KeptSession) -> None:
        """Restore what the journal has of a session's attempts: what they were served, and their consoles."""
        self._services.recalled(session, kept.served, self._queue.sessions.under_way(session))
        self._console.recalled(kept.console)

    def _refuse(self, run: Run) -> bool:
        """Fail a run that none of the machines can run, and return whether this was so."""
        lacking = self._queue.scheduler.lacking(run)
        if lacking:
            self._queue.transitions.lacks(run.id, f"no machine can run it: {lacking}", self._lab_state.clock.now())
        return bool(lacking)
