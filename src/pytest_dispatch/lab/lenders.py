"""Tells those who lend machines to the lab which of these it holds as broken, and which are back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.health import LAB
from pytest_dispatch.machines.base import Sign

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.lab.fleet import Fleet
    from pytest_dispatch.lab.machine_control import MachineControl, MachineListener
    from pytest_dispatch.lab.state import LabState

AGAIN = 60.0  # seconds after which somebody who could not be told is told again


class Lenders:
    """Looks at the lent machines of a fleet, and has what is new told; a machine that is used or checked is left alone.

    Args:
        fleet: The machines.
        lab_state: The lab's.
        listener: Is shown what could not be told.
    """

    def __init__(self, fleet: Fleet, lab_state: LabState, listener: MachineListener) -> None:
        self._fleet = fleet
        self._lab_state = lab_state
        self._listener = listener
        self._told: dict[str, None] = {}  # machines that are said to be broken
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, float] = {}

    def look(self) -> None:
        """Begin to tell what is new; called every moment."""
        now = self._lab_state.clock.now()
        for control, cycles in self._fleet.lent.items():
            name = control.name
            if cycles or self._is_used(name, now):
                self._told.pop(name, None)  # to be powered on it had to be fixed
            elif name not in self._telling and now >= self._again.get(name, 0.0):
                why = why_broken(self._lab_state.queue.machines[name], now)
                if bool(why) != (name in self._told):
                    self._begin(control, why)

    def look_now(self) -> None:
        """Tell those again, at the next look, who could not be told."""
        self._again.clear()

    def _is_used(self, name: str, now: float) -> bool:
        """Return whether a machine has a run, or is about to have one or to be checked."""
        queue = self._lab_state.queue
        known = queue.health.of(name)
        is_checked = bool(known.run) or (known.due is not None and known.due <= now)
        is_wanted = next(iter(queue.transitions.pinned.ready(name)), "") != ""
        return bool(queue.machines[name].holds) or is_checked or is_wanted

    def _begin(self, control: MachineControl, why: str) -> None:
        task = asyncio.create_task(self._tell(control, why), name=f"the word about {control.name}")
        self._telling[control.name] = task
        self._listener.watch(task)

    async def _tell(self, control: MachineControl, why: str) -> None:
        name = control.name
        try:
            await control.say(why)
        except MachineError as error:
            self._again[name] = self._lab_state.clock.now() + AGAIN
            what = "broken" if why else "fixed"
            self._listener.shown(name, Sign(text=f"that it is {what} could not be told: {error}"))
        else:
            self._told.pop(name, None)
            if why:
                self._told[name] = None
        finally:
            del self._telling[name]


def why_broken(record: MachineRecord, now: float) -> str:
    """Return why the lab itself does not use a machine; empty if it does, or a person holds it."""
    if record.is_held(now) and record.hold is not None:
        return record.hold.reason if record.hold.owner == LAB else ""
    return record.broken
