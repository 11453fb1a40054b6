"""Notes in which state each machine of a service is, and keeps that for a day; what is older is in nobody's memory.

Nothing tells of some states when they begin, such as that of a machine that is not heard of any more: they come as time
passes. So it looks again and again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_past import Stretch
from pytest_dispatch.core.moments import DAY

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.lab.state import LabState

LOOK = 5.0  # seconds between two looks; what lasted less may be missed
KEPT = 300  # states of a machine that are kept

Standing = Callable[["MachineRecord", float], tuple[MachineState, str, float]]

#: States in which a machine has a run: which one, the journal tells.
_BUSY = {MachineState.RESERVED: MachineState.RUNNING, MachineState.RUNNING: MachineState.RUNNING}


class MachineDiary:
    """The states in which machines were.

    Args:
        lab_state: The lab's.
        standing: Returns a machine's state, why, and since when it is in that.
    """

    def __init__(self, lab_state: LabState, standing: Standing) -> None:
        self._lab_state = lab_state
        self._standing = standing
        self._kept: dict[str, deque[Stretch]] = {}
        self._looked = lab_state.clock.now()

    async def keep(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK)

    def look(self) -> None:
        """Note the machines whose state is another one than at the last look, and forget what is too old."""
        now, machines = self._lab_state.clock.now(), self._lab_state.queue.machines
        for name, record in machines.items():
            self._note(name, record, now)
        for name in self._kept.keys() - machines.keys():
            del self._kept[name]
        self._looked = now

    def of(self, machine: str) -> list[Stretch]:
        """Return the states of a machine up to now, the first one first; nothing is known of what was before them."""
        record = self._lab_state.queue.machines.find(machine)
        if record is None:
            return []
        self._note(machine, record, self._lab_state.clock.now())
        return list(self._kept[machine])

    def _note(self, name: str, record: MachineRecord, now: float) -> None:
        state, reason, since = self._standing(record, now)
        if state in _BUSY:
            state, reason = _BUSY[state], ""
        elif record.hold is not None and record.hold.owner:
            reason = f"{reason} ({record.hold.owner})"
        kept = self._kept.setdefault(name, deque(maxlen=KEPT))
        last = kept[-1] if kept else None
        if last is not None and (last.state, last.reason) == (state, reason):
            return
        began = min(max(since, self._looked), now)
        if last is not None:
            kept[-1] = replace(last, ended=began)
        kept.append(Stretch(state=state, reason=reason, began=began))
        while kept[0].ended is not None and kept[0].ended < now - DAY:
            kept.popleft()
