"""Runs the lab's own machines: powers them on, reads their consoles, and power-cycles those that hang."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import Machine, Sign

STARTS = 3  # failed starts in a row, or starts without a request, after which a machine counts as broken


class MachineListener(Protocol):
    """The receiver of what happens to the machines of a fleet."""

    def shown(self, machine: str, sign: Sign) -> None:
        """Record a line or fault of a machine's console."""
        ...

    def out_of_order(self, machine: str, why: str) -> None:
        """Record that a machine cannot be started."""
        ...

    def watch(self, task: asyncio.Task[None]) -> None:
        """Watch a task that must not die unnoticed."""
        ...


@dataclass(slots=True, eq=False)
class _Cycle:
    """A power cycle in progress.

    Attributes:
        booting: Whether the machine has got a URL since it was powered off, so that it is already in its next boot.
        again: Whether that boot is to be power-cycled too.
    """

    task: asyncio.Task[None] = field(init=False)
    booting: bool = False
    again: bool = False


class Fleet:
    """The lab's own machines, each identified by the token in its boot URL, which is replaced for every boot.

    Args:
        machines: All of them.
        url_of: Makes a new boot URL for a machine, which replaces the previous one.
        listener: Gets the console lines and faults of the machines.
        now: Returns the time.
        expected: Returns since when a machine is expected to ask for work; infinity while it is busy.
    """

    def __init__(
        self,
        machines: list[Machine],
        url_of: Callable[[str], str],
        listener: MachineListener,
        now: Callable[[], float],
        expected: Callable[[str], float],
    ) -> None:
        self._machines = {machine.name: machine for machine in machines}
        self._url_of = url_of
        self._listener = listener
        self._now = now
        self._expected = expected
        self._cycling: dict[str, _Cycle] = {}
        self._on_since: dict[str, float] = {}
        self._prodded: dict[str, tuple[float, int]] = {}  # when it was expected, and how often it was restarted since
        self._broken: dict[str, str] = {}
        self._stopped = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._machines)

    @property
    def resting(self) -> bool:
        """Return whether a machine is off, with no power cycle in progress."""
        return any(not m.alive and name not in self._cycling for name, m in self._machines.items())

    @property
    def lost(self) -> str:
        """Return the latest machine to break, and why, if all machines are broken; else empty."""
        if not self._broken or len(self._broken) < len(self._machines):
            return ""
        name, why = list(self._broken.items())[-1]
        return f"{name}: {why}"

    def listen(self) -> list[asyncio.Task[None]]:
        """Start reading the consoles, and return the reading tasks."""
        machines = self._machines.values()
        return [asyncio.create_task(self._read(m), name=f"the reader of {m.name}'s console") for m in machines]

    async def stop(self) -> None:
        """Power everything off for good; the caller ends the reading tasks."""
        self._stopped = True
        cycling = [cycle.task for cycle in self._cycling.values()]
        for task in cycling:
            task.cancel()
        await asyncio.gather(*cycling, return_exceptions=True)
        ends = await asyncio.gather(*(m.stop() for m in self._machines.values()), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def wake(self) -> None:
        """Power on the machines that are off, because there is work."""
        for name, machine in self._machines.items():
            if not machine.alive:
                self.call(name)

    def call(self, name: str) -> None:
        """Power a machine off and on, unless that is in progress or the machine is broken."""
        if name in self._machines and name not in self._cycling:
            self._begin(name, self._cycle)

    def cycle(self, name: str) -> None:
        """Power-cycle a machine that hangs; if the new boot of a cycle in progress hangs, cycle once more."""
        if name in self._cycling:
            self._cycling[name].again = self._cycling[name].booting
        else:
            self.call(name)

    def late(self, patience: float) -> list[str]:
        """Return the machines that are on and have not asked for work for `patience` seconds although expected to."""
        now = self._now()
        on = [name for name, m in self._machines.items() if m.alive and name not in self._cycling]
        return [n for n in on if now - max(self._on_since.setdefault(n, now), self._expected(n)) >= patience]

    def prod(self, name: str, patience: float) -> None:
        """Power-cycle a machine that is late; if that did not help before, mark it as broken."""
        expected = self._expected(name)
        before, times = self._prodded.get(name, (math.nan, 0))
        times = times + 1 if expected == before else 1
        self._prodded[name] = expected, times
        why = f"it did not ask what to boot for {format_duration(patience)}"
        if times < STARTS:
            self._listener.shown(name, Sign(text=f"{why}, so it is powered off and on"))
            self.call(name)
        else:
            self._begin(name, partial(self._retire, f"{why}, {STARTS} times in a row"))

    async def power_off(self, name: str) -> None:
        """Power a machine off, unless a power cycle is in progress."""
        if name not in self._cycling:
            await self._machines[name].stop()

    def is_off(self, name: str) -> bool:
        """Return whether this is one of the lab's machines, is off, and has no power cycle in progress."""
        return name in self._machines and name not in self._cycling and not self._machines[name].alive

    def _begin(self, name: str, work: Callable[[Machine, _Cycle], Awaitable[None]]) -> None:
        if self._stopped or name in self._broken:
            return
        cycle = self._cycling[name] = _Cycle()
        cycle.task = asyncio.create_task(self._through(name, work), name=f"the power cycle of {name}")
        self._listener.watch(cycle.task)

    async def _through(self, name: str, work: Callable[[Machine, _Cycle], Awaitable[None]]) -> None:
        try:
            await work(self._machines[name], self._cycling[name])
        finally:
            del self._cycling[name]  # at once, so that a new cycle can begin from now on

    async def _cycle(self, machine: Machine, cycle: _Cycle) -> None:
        await self._bring_up(machine, cycle)
        while cycle.again and machine.name not in self._broken:
            await self._bring_up(machine, cycle)

    async def _bring_up(self, machine: Machine, cycle: _Cycle) -> None:
        def new_url() -> str:
            cycle.booting = True
            return self._url_of(machine.name)

        for tries_left in reversed(range(STARTS)):
            await machine.stop()
            cycle.booting = cycle.again = False
            try:
                await machine.start(new_url)
            except MachineError as error:
                if not tries_left:
                    self._out_of_order(machine, str(error))
            else:
                self._on_since[machine.name] = self._now()
                return

    async def _retire(self, why: str, machine: Machine, _: _Cycle) -> None:
        await machine.stop()
        self._out_of_order(machine, why)

    def _out_of_order(self, machine: Machine, why: str) -> None:
        self._broken[machine.name] = why
        self._listener.out_of_order(machine.name, why)

    async def _read(self, machine: Machine) -> None:
        async for sign in machine.console():
            self._listener.shown(machine.name, sign)
