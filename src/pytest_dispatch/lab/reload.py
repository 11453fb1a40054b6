"""Tells a running lab what its configuration says now: all of it that can count, or, if anything is wrong, nothing.

Runs keep going. A machine that is gone drains: it takes no more work, and one that the lab drives is powered off when
it holds no run any more. A machine with another driver drains likewise, and then has its new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.machine import Machine
from pytest_dispatch.lab.roster import Configuration, Reloaded, Roster, RosterMachine, reloaded
from pytest_dispatch.support.blocking import StoppedError, in_thread

if TYPE_CHECKING:
    from pytest_dispatch.lab.background_tasks import BackgroundTasks
    from pytest_dispatch.lab.cycle_service import CycleService
    from pytest_dispatch.lab.driven_machines import DrivenMachines
    from pytest_dispatch.lab.group_service import GroupService
    from pytest_dispatch.lab.roster import RosterChange
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.machines.base import DrivenMachine
    from pytest_dispatch.support.blocking import Stop

_log = logging.getLogger(__name__)


class Reloads:
    """Applies new configurations, one after the other.

    Args:
        lab_state: The lab's.
        machines: The machines that the lab starts itself.
        groups: Its groups and templates.
        cycles: Its cycles.
        background: Watches what is done about machines that are gone.
        roster: The configuration that the lab starts with; its machines with drivers are in `machines` already.
        read: Reads the configuration anew, blocking; None if there is no file. May raise ConfigError.
        make: Makes a machine that has a driver, blocking. May raise ConfigError or MachineError.

    Attributes:
        roster: The configuration now.
    """

    def __init__(
        self,
        *,
        lab_state: LabState,
        machines: DrivenMachines,
        groups: GroupService,
        cycles: CycleService,
        background: BackgroundTasks,
        roster: Roster,
        read: Callable[[], Configuration] | None,
        make: Callable[[RosterMachine], DrivenMachine],
    ) -> None:
        self.roster = roster
        self._lab_state = lab_state
        self._table = lab_state.queue.machines
        self._machines = machines
        self._groups = groups
        self._cycles = cycles
        self._background = background
        self._read = read
        self._make = make
        self._turn = asyncio.Lock()
        self._own: dict[str, Machine] = {}  # what driven machines are by their drivers alone
        self._leaving: dict[str, DrivenMachine | None] = {}  # machines that drain, and what then takes their place

    async def begin(self) -> None:
        """Declare what the lab starts with; called before the journal's machines are known.

        Raises:
            ConfigError: Groups or templates cannot be used.
        """
        await self._groups.configure(self.roster.groups, self.roster.templates)
        await self._cycles.configure(self.roster.cycles)
        for machine in self.roster.machines:
            if machine.driver is not None:
                self._own[machine.id] = self._table[machine.id].machine
            self._define(machine)

    async def ahead(self) -> RosterChange:
        """Return what a reload would change now, and change nothing.

        Raises:
            ConfigError: It could not be used.
        """
        read = self._reads()
        configuration = await in_thread(lambda _stop: read())
        self._check(configuration.roster)
        return reloaded(self.roster, configuration).change

    def _reads(self) -> Callable[[], Configuration]:
        """Return what reads the configuration.

        Raises:
            ConfigError: There is no file.
        """
        if self._read is None:
            raise ConfigError("expected a lab with a configuration file, got one without; start it with --config FILE")
        return self._read

    async def reload(self, by: str) -> Reloaded:
        """Read the configuration anew and apply it, and return what that did.

        Args:
            by: Who asks for it, for the log.

        Raises:
            ConfigError: It cannot be used; nothing is changed.
            MachineError: A new machine's driver lacks something; nothing is changed.
        """
        read, make = self._reads(), self._make
        async with self._turn:
            configuration = await in_thread(lambda _stop: read())
            roster = configuration.roster
            done = reloaded(self.roster, configuration)
            self._check(roster)
            apply = await configuration.prepare()
            made = await in_thread(lambda stop: _made(make, self._driven_anew(roster), stop))
            await self._groups.configure(roster.groups, roster.templates)
            await self._cycles.configure(roster.cycles)
            self._apply(roster, made)
            await apply()
            self._lab_state.commit()
            await self._lab_state.on_disk()
        _log.info("reloaded by %s: %s", by, done.change, extra={"by": by})
        return done

    def tidy(self) -> None:
        """Power off driven machines that are gone and hold no run any more; called every moment."""
        for name in [name for name in self._leaving if not self._table[name].holds]:
            successor = self._leaving.pop(name)
            work = asyncio.create_task(self._replace(name, successor), name=f"the end of {name}'s driver")
            self._background.watch(work)

    def is_configured(self, machine: str) -> bool:
        """Return whether the configuration names a machine."""
        return any(each.id == machine for each in self.roster.machines)

    def _check(self, roster: Roster) -> None:
        """Refuse to tell a machine by another name while it runs something.

        Raises:
            ConfigError: The workload's report would be taken for one of another machine.
        """
        for machine in roster.machines:
            for identity in machine.identities:
                now = self._table.find(self._table.called(identity))
                if now is not None and now.id != machine.id and now.holds:
                    raise ConfigError(
                        f"machine {machine.id}: expected an identity of no machine that runs something, got"
                        f" {identity.value}, by which {now.id} is known, until its run is over; reload then"
                    )

    def _driven_anew(self, roster: Roster) -> list[RosterMachine]:
        """Return the machines that need a driver of their own now."""
        before = {machine.id: machine for machine in self.roster.machines}
        return [
            machine
            for machine in roster.machines
            if machine.driver is not None and (machine.id not in before or before[machine.id].driver != machine.driver)
        ]

    def _apply(self, roster: Roster, made: Mapping[str, DrivenMachine]) -> None:
        before, self.roster = self.roster, roster
        stay = {machine.id for machine in roster.machines}
        for machine in before.machines:
            if machine.id not in stay:
                self._leave(machine.id)
                if machine.driver is not None:
                    self._leaving[machine.id] = None
        drove = {machine.id for machine in before.machines if machine.driver is not None} | self._leaving.keys()
        for machine in roster.machines:
            self._define(machine)
            if machine.id in made or (machine.driver is None and machine.id in drove):
                self._leaving[machine.id] = made.get(machine.id)
            if machine.id in self._leaving:
                self._leave(machine.id)

    def _define(self, machine: RosterMachine) -> None:
        """Declare a machine, or what is known of it now, with what its driver adds."""
        own = self._own.get(machine.id, Machine(id=machine.id))
        self._table.declare(machine.id, labels=machine.labels)
        identities = own.identities | frozenset(machine.identities)
        self._table.redefine(replace(own, identities=identities, labels={**own.labels, **machine.labels}))
        unknown = self._lab_state.queue.unknown
        for identity in machine.identities:
            if identity.value in unknown and identity in unknown[identity.value].machine.identities:
                unknown.take(identity.value)  # now it has a name

    def _leave(self, name: str) -> None:
        self._table[name].leave(self._lab_state.clock.now())

    async def _replace(self, name: str, successor: DrivenMachine | None) -> None:
        async with self._turn:
            await self._machines.replace(name, successor)
            self._own.pop(name, None)
            if successor is not None:
                self._own[name] = self._table[name].machine
            for machine in self.roster.machines:
                if machine.id == name and name not in self._leaving:
                    self._define(machine)
            self._lab_state.commit()


def _made(
    make: Callable[[RosterMachine], DrivenMachine], machines: list[RosterMachine], stop: Stop
) -> dict[str, DrivenMachine]:
    made = {}
    for machine in machines:
        if stop.is_set():
            raise StoppedError
        made[machine.id] = make(machine)
    return made
