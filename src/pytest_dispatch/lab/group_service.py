"""What people and a new configuration ask of a lab's groups and machines, and of the whole lab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.templates import Template, TemplateTable
from pytest_dispatch.lab.state import LabState, UnknownError

if TYPE_CHECKING:
    from pytest_dispatch.core.group_table import GroupChange
    from pytest_dispatch.core.groups import Group
    from pytest_dispatch.core.machine import Hold


def begun(lab_state: LabState, hold: Hold) -> Hold:
    """Return a hold that begins now.

    Raises:
        ConfigError: It would have ended already.
    """
    now = lab_state.clock.now()
    if hold.until is not None and not hold.until > now:
        raise ConfigError(f"until: expected a time to come, in seconds since 1970, got {hold.until:.0f}")
    return replace(hold, since=now)


async def done(lab_state: LabState) -> None:
    """Return when what was changed is on disk, and whoever waits for news has been woken."""
    lab_state.commit()
    lab_state.wake(readers=True)
    await lab_state.on_disk()


class GroupService:
    """The operations of people on groups, machines and the whole lab; each returns when it is on disk.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self.templates = TemplateTable()
        self._lab_state = lab_state
        self._queue = lab_state.queue

    async def configure(self, groups: Sequence[Group], templates: Iterable[Template] = ()) -> GroupChange:
        """Replace groups and templates, all or nothing, and return what changed of the groups.

        Raises:
            ConfigError: They cannot be used; nothing is changed.
        """
        table = TemplateTable(templates)
        known = {group.id for group in groups} | {"lab"}
        for template in table.values():
            if template.group not in known:
                raise ConfigError(f"template {template.id}: expected a group of the lab, got {template.group!r}")
        for group in groups:
            if group.health is not None:
                table.known(group.id, group.health.template)
        change = self._queue.group_queue.set(groups, self._now())
        self.templates = table
        await done(self._lab_state)
        return change

    # Holds

    async def pause(self, group: str, hold: Hold) -> None:
        """Begin no more runs of a group.

        Raises:
            NoGroupError: There is no such group.
        """
        self._queue.group_queue.known(group)
        self._queue.groups.pause(group, begun(self._lab_state, hold), self._now())
        await done(self._lab_state)

    async def resume(self, group: str) -> None:
        """Begin runs of a group again.

        Raises:
            NoGroupError: There is no such group.
        """
        self._queue.group_queue.known(group)
        self._queue.groups.resume(group, self._now())
        await done(self._lab_state)

    async def hold_lab(self, hold: Hold) -> None:
        """Begin no run in the whole lab; those that are under way go on."""
        self._queue.groups.pause(EVERY, begun(self._lab_state, hold), self._now())
        await done(self._lab_state)

    async def release_lab(self) -> None:
        """Begin runs again, except those of groups that are paused themselves."""
        self._queue.groups.resume(EVERY, self._now())
        await done(self._lab_state)

    async def hold_machine(self, machine: str, hold: Hold) -> None:
        """Keep a machine out of scheduling; what it runs goes on.

        Raises:
            UnknownError: There is no such machine.
        """
        self._known_machine(machine)
        self._queue.machines.withhold(machine, begun(self._lab_state, hold))
        self._queue.health.held(machine)
        await done(self._lab_state)

    async def release_machine(self, machine: str) -> None:
        """End the hold of a machine.

        Raises:
            UnknownError: There is no such machine.
        """
        self._known_machine(machine)
        self._queue.machines.readmit(machine, self._now())
        self._queue.health.returned(machine)
        await done(self._lab_state)

    def _known_machine(self, machine: str) -> None:
        if machine not in self._queue.machines:
            raise UnknownError(f"no machine {machine!r}")

    def _now(self) -> float:
        return self._lab_state.clock.now()
