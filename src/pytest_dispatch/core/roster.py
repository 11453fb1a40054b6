"""The machines that asked to boot: what each holds, and which of them were heard of lately."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice

from pytest_dispatch.core.model import Idle

SILENCE = 300.0  # a machine not heard of for so long may lose what it has not yet booted to another that asks
PROMISE = 60.0  # for so long after a HEAD, a GET gets what the HEAD announced


@dataclass(slots=True)
class Seen:
    """A machine that asked to boot.

    Attributes:
        heard: When it was last heard of.
        expected: Since when it may ask any moment: then it last asked, or was done with what it held.
        took: When it last began a download or took bytes.
        holds: Id of the run whose attempt it is busy with.
        promised: The idle program that its last HEAD announced, whose size its firmware now counts on.
        promised_at: When.
        off: It took the power-off program.
        ran: Ids of runs whose attempts it held, in order; once for several attempts in a row.
    """

    name: str
    heard: float = 0.0
    expected: float = 0.0
    took: float = 0.0
    holds: str = ""
    promised: Idle | None = None
    promised_at: float = 0.0
    off: bool = False
    ran: list[str] = field(default_factory=list)

    def runs(self, run_id: str) -> None:
        """It holds an attempt of this run."""
        if run_id not in self.ran[-1:]:
            self.ran.append(run_id)

    def promise(self, idle: Idle | None, now: float) -> None:
        """Announce an idle program, or a workload (None)."""
        self.promised, self.promised_at = idle, now

    def promise_at(self, now: float) -> Idle | None:
        """The idle program that a GET has to get."""
        return self.promised if now - self.promised_at < PROMISE else None


def known_by_address(machine: str) -> bool:
    """Whether a machine's name is its address: then it is none that the lab brings up."""
    try:
        ipaddress.ip_address(machine)
    except ValueError:
        return False
    return True


class Roster:
    """Every machine that asked, found by name, by silence, or by being there at all; never by looking at all."""

    def __init__(self) -> None:
        self.machines: dict[str, Seen] = {}
        self.busy = 0  # machines that hold something
        self._present: OrderedDict[str, None] = OrderedDict()  # not powered off; last expected last
        self._taking: OrderedDict[str, None] = OrderedDict()  # hold what they have not downloaded; last heard of last

    def asks(self, machine: str, now: float) -> Seen:
        """It asks what to boot, and so it is on."""
        seen = self.machines.setdefault(machine, Seen(machine))
        seen.off = False
        self._present[machine] = None
        self._hear(seen, now)
        self._expect(seen, now)
        return seen

    def speaks(self, machine: str, now: float) -> Seen | None:
        """A sign of life; None if this machine never asked to boot."""
        seen = self.machines.get(machine)
        if seen is not None:
            self._hear(seen, now)
        return seen

    def remember(self, machine: str, run_id: str, now: float) -> None:
        """It held a run in an earlier life of the lab; as far as is known it is off."""
        self.machines.setdefault(machine, Seen(machine, heard=now, off=True)).runs(run_id)

    def powered_off(self, machine: str) -> None:
        """It took the power-off program."""
        self.machines[machine].off = True
        self._present.pop(machine, None)

    def hold(self, machine: str, run_id: str, *, taking: bool) -> None:
        """It is busy with this run; `taking` as long as it may still lose it by silence."""
        seen = self.machines[machine]
        if seen.holds != run_id:
            seen.holds = run_id
            self.busy += 1
            seen.runs(run_id)
        if taking:
            self._taking[machine] = None
            self._taking.move_to_end(machine)
        else:
            self._taking.pop(machine, None)

    def release(self, machine: str, now: float) -> None:
        """It is free."""
        seen = self.machines[machine]
        seen.holds = ""
        self._taking.pop(machine, None)
        self._expect(seen, now)
        self.busy -= 1

    def silent(self, now: float) -> Seen | None:
        """The one that was silent for longest, and too long, with a workload that it has not downloaded."""
        for machine in self._taking:
            seen = self.machines[machine]
            return seen if now - seen.heard >= SILENCE else None
        return None

    def another(self, machine: str, now: float) -> bool:
        """Whether there is another machine than this one, which is free: a busy one, or one that is to ask soon.

        One that merely speaks takes no work, and so keeps none from this one.
        """
        if self.busy:
            return True
        latest = (name for name in islice(reversed(self._present), 2) if name != machine)
        return any(now - self.machines[name].expected < SILENCE for name in latest)

    def _hear(self, seen: Seen, now: float) -> None:
        seen.heard = now
        if seen.name in self._taking:
            self._taking.move_to_end(seen.name)

    def _expect(self, seen: Seen, now: float) -> None:
        seen.expected = now
        if seen.name in self._present:
            self._present.move_to_end(seen.name)
