"""Which machines belong to the lab: people approve those that nobody has named, and remove those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.machine_table import join
from pytest_dispatch.lab.state import UnknownError

if TYPE_CHECKING:
    from pytest_dispatch.core.unknown_machines import UnknownMachine
    from pytest_dispatch.lab.state import LabState


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a machine that waits for approval becomes.

    Attributes:
        id: Its name from now on; empty for the one under which it waits.
        machine: The known machine that it is, which is recognised by its identities too; empty for a machine of its
            own.
        labels: What it has.
    """

    id: str = ""
    machine: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Admission:
    """Approves and removes machines; each operation returns when it is on disk.

    Args:
        lab_state: The lab's.
        is_configured: Returns whether the lab's configuration names a machine.
    """

    def __init__(self, lab_state: LabState, is_configured: Callable[[str], bool]) -> None:
        self._lab_state = lab_state
        self._queue = lab_state.queue
        self._is_configured = is_configured

    async def approve(self, machine: str, approval: Approval) -> str:
        """Take a machine that waits into the lab, and return its id.

        Raises:
            UnknownError: No such machine waits.
            ConfigError: It cannot become that, or is in the lab already.
        """
        if machine not in self._queue.unknown:
            self._check_not_known(machine)
            raise UnknownError(
                f"no machine {machine!r} that waits for approval; GET /api/v1/machines lists those that do"
            )
        name = self._name_of(machine, approval)
        taken = self._queue.unknown.take(machine)
        self._join(name, taken, approval)
        await self._done()
        return name

    def _check_not_known(self, machine: str) -> None:
        """Refuse a machine that is in the lab, by its name or by what it is recognised by.

        Raises:
            ConfigError: It is.
        """
        for name, record in self._queue.machines.items():
            if machine == name or any(machine == each.value for each in record.machine.identities):
                known = "" if machine == name else f", as {name}"
                got = f"one that is in the lab already{known}"
                raise ConfigError(f"machine {machine}: expected one that waits for approval, got {got}")

    def _name_of(self, machine: str, approval: Approval) -> str:
        """Return the id that a machine gets.

        Raises:
            ConfigError: It cannot have it.
        """
        machines = self._queue.machines
        if approval.machine:
            if approval.id or approval.labels:
                raise ConfigError("machine: expected it without id and labels, which the known machine has already")
            if approval.machine not in machines:
                raise ConfigError(f"machine: expected a machine that the lab knows, got {approval.machine!r}")
            return approval.machine
        name = approval.id or machine
        if name in machines or (name in self._queue.unknown and name != machine):
            raise ConfigError(
                f"id: expected a name that no machine has, got {name!r}; if it is that machine, approve it as known"
                f" (`machine`, or --known {name})"
            )
        return name

    def _join(self, name: str, taken: UnknownMachine, approval: Approval) -> None:
        machines = self._queue.machines
        if not approval.machine:
            machines.declare(name, labels=approval.labels)
        join(machines, name, taken.machine.identities)
        if taken.heard:
            machines.speaks(name, taken.heard)

    async def remove(self, machine: str) -> None:
        """Forget a machine; if it asks again, it is a new one.

        Raises:
            UnknownError: There is no such machine.
            ConfigError: The configuration has it, or it holds a run.
        """
        if machine in self._queue.unknown:
            self._queue.unknown.take(machine)
            await self._done()
            return
        self._check_removable(machine)
        for run in self._queue.transitions.pinned.of(machine):
            self._queue.verdicts.cancel(run, self._lab_state.clock.now())
        self._lab_state.commit()
        self._queue.machines.remove(machine)
        self._queue.health.drop(machine)
        from pytest_dispatch.store.expiry import machine_gone  # loaded by services alone

        self._lab_state.write(machine_gone(machine))
        self._lab_state.hand_over()  # if it asks again at once, that comes later
        await self._done()

    def _check_removable(self, machine: str) -> None:
        record = self._queue.machines.find(machine)
        if record is None:
            raise UnknownError(f"no machine {machine!r}")
        if self._is_configured(machine) or record.machine.driven:
            raise ConfigError(
                f"machine {machine}: expected one that has come by itself, got one of the lab's configuration; take it"
                " out there, and reload"
            )
        if record.holds:
            raise ConfigError(
                f"machine {machine}: expected one that holds no run, got one with {record.holds}; cancel it"
            )

    async def _done(self) -> None:
        self._lab_state.commit()
        self._lab_state.wake()
        await self._lab_state.on_disk()
