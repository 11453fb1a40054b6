"""Words of the pages: numbers of things, and what states are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Priority

if TYPE_CHECKING:
    from pytest_dispatch.server.api.group_schemas import LabMachine

#: Priorities as people call them.
PRIORITIES = {each: each.name.lower() for each in Priority}
#: States of machines that could begin a run now, as soon as there is one.
_FREE = {MachineState.IDLE, MachineState.OFF}


def in_order(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by, so that m-2 comes before m-10."""
    parts = re.split("0*([0-9]+)", name.lower())  # every other one is a number
    return [(len(part) * (place % 2), part) for place, part in enumerate(parts)]


def address_of(run: str) -> str:
    """Return the address of a run's page."""
    return f"/runs/{quote(run, safe='')}"


def counted(count: int, thing: str) -> str:
    """Return a number of things."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def is_free(machine: LabMachine) -> bool:
    """Return whether a machine could begin a run now; one that the lab starts need not have been seen yet."""
    return machine.state in _FREE or (machine.driven and machine.state is MachineState.UNKNOWN)


def are_free(machines: Iterable[LabMachine]) -> str:
    """Return how many of the machines that may have work could begin some now; empty if there are no machines."""
    known = [each for each in machines if each.state is not MachineState.UNAPPROVED]
    free = sum(map(is_free, known))
    return f"{free} of {counted(len(known), 'machine')} {'is' if free == 1 else 'are'} free" if known else ""


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return some names, and how many more there are."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else ""
