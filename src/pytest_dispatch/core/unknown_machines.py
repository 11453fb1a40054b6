"""Machines that ask to boot and that nobody has named: where a lab does not welcome them, they wait for approval.

Anybody on the network can send from many addresses. So few of them are listed; while the list is full, another one is
told to wait like the others, and is listed once one of them has been silent for long, or was approved or removed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_dispatch.core.machine import Identity, Machine, MachineState
from pytest_dispatch.core.table import Table

MOST = 64  # machines that are listed
SILENT = 3600.0  # seconds after which a listed one makes room for another
WAITS = "nobody has named it: approve it, or remove it"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownMachine:
    """A machine that waits for approval.

    Attributes:
        since: When it first asked this lab; 0 if it has not asked since the lab was started.
        heard: When it last asked.
    """

    machine: Machine
    since: float = 0.0
    heard: float = 0.0


class UnknownMachines(Table[UnknownMachine]):
    """The machines that wait for approval, by the id that they would get.

    Attributes:
        welcome: Whether unknown machines may boot without approval.
        changed: Ids of machines that came or went since whoever journals them emptied this.
        listed_lately: Ids of those that came since whoever tells of them emptied this.
        turned_away: How often one asked for which there was no room.
    """

    def __init__(self) -> None:
        super().__init__()
        self.welcome = True
        self.changed: dict[str, None] = {}
        self.listed_lately: dict[str, None] = {}
        self.turned_away = 0

    def let_in(self, *, welcome: bool) -> None:
        """Set whether unknown machines may boot without approval; those that wait then get work when they next ask."""
        self.welcome = welcome
        for machine in list(self._rows) if welcome else ():
            self.take(machine)

    def asks(self, identity: Identity, now: float) -> bool:
        """Record that an unknown machine asks to boot, and return whether it has to wait for approval."""
        if self.welcome:
            return False
        self._note(identity, now)
        return True

    def _note(self, identity: Identity, now: float) -> None:
        """List a machine if there is room."""
        name = identity.value
        known = self._rows.get(name)
        if known is not None:
            self._rows[name] = replace(known, since=known.since or now, heard=now)
            return
        if len(self._rows) >= MOST and not self._make_room(now):
            self.turned_away += 1
            return
        self._rows[name] = UnknownMachine(machine=_unapproved(name, identity), since=now, heard=now)
        self.changed[name] = self.listed_lately[name] = None

    def recall(self, machine: Machine) -> None:
        """List a machine that an earlier lab listed."""
        self._rows[machine.id] = UnknownMachine(machine=replace(machine, state=MachineState.UNAPPROVED, reason=WAITS))

    def take(self, machine: str) -> UnknownMachine:
        """Return a machine, and list it no longer."""
        self.changed[machine] = None
        self.listed_lately.pop(machine, None)
        return self._rows.pop(machine)

    def _make_room(self, now: float) -> bool:
        """Drop the machine that was silent for longest, if that is long, and return whether one was dropped."""
        silent = min(self._rows.values(), key=lambda each: each.heard)
        if now - silent.heard < SILENT:
            return False
        self.take(silent.machine.id)
        return True


def _unapproved(name: str, identity: Identity) -> Machine:
    return Machine(id=name, identities=frozenset({identity}), state=MachineState.UNAPPROVED, reason=WAITS)
