"""The queue of a lab: its sessions, runs and machines, and what moves them.

Theory of operation: memory only, no I/O, no clock of its own; every method takes `now`. The caller takes the changes
(`engine.take_changes`), journals them and tells whoever listens. Everything that a request needs is found without
scanning: the `ReadyQueue` knows the first run that suits a machine, the `MachineTable` the machine that was silent for
longest, the `Deadlines` what has passed.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_dispatch.core.engine import Engine
from pytest_dispatch.core.kinds import Kinds
from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.model import Run
from pytest_dispatch.core.scheduler import Scheduler
from pytest_dispatch.core.sessions import Sessions


class Queue:
    """All of it together.

    Args:
        kinds: The kinds of workloads that there are.
    """

    def __init__(self, kinds: Kinds) -> None:
        self.sessions = Sessions(kinds)
        self.engine: Engine = self.sessions.engine
        self.scheduler = Scheduler(self.engine)

    @property
    def runs(self) -> Mapping[str, Run]:
        """Return every run by its id."""
        return self.engine.runs

    @property
    def machines(self) -> MachineTable:
        """Return every machine."""
        return self.engine.machines
