"""Runs the machines that the lab brings up itself: power on, listen to the console, cycle what hangs."""

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

STARTS = 3  # of a machine in a row that fail, or after which it never asks, before it is called broken


class MachineListener(Protocol):
    """Who is told what machines show."""

    def shown(self, machine: str, sign: Sign) -> None:
        """Note what a machine showed."""
        ...

    def out_of_order(self, machine: str, why: str) -> None:
        """Note that a machine cannot be brought up."""
        ...

    def watch(self, task: asyncio.Task[None]) -> None:
        """Watch a task that must not die unnoticed."""
        ...


@dataclass(slots=True, eq=False)
class _Cycle:
    """A power cycle under way.

    Attributes:
        booting: The machine was given a URL since it was powered off: what it boots is the next boot already.
        again: That one is to be cycled too.
    """

    task: asyncio.Task[None] = field(init=False)
    booting: bool = False
    again: bool = False


class Fleet:
    """The lab's own machines, each known by the token in its boot URL; it has another one for every boot.

    Args:
        machines: All of them.
        url_of: Makes a new boot URL for a machine, which replaces the one before.
        listener: Is told what they show.
        now: Tells the time.
        expected: Since when a machine may ask any moment; infinity while it has something else to do.
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
        self._prodded: dict[str, tuple[float, int]] = {}  # since when it was expected, and how often in a row
        self._broken: dict[str, str] = {}
        self._stopped = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._machines)

    @property
    def resting(self) -> bool:
        """Whether a machine is off, and nothing is being done about it."""
        return any(not m.alive and name not in self._cycling for name, m in self._machines.items())

    @property
    def lost(self) -> str:
        """If there were machines and none can be brought up: one of them, and why."""
        if not self._broken or len(self._broken) < len(self._machines):
            return ""
        name, why = list(self._broken.items())[-1]
        return f"{name}: {why}"

    def listen(self) -> list[asyncio.Task[None]]:
        """Read the consoles; returns the tasks that do."""
        machines = self._machines.values()
        return [asyncio.create_task(self._read(m), name=f"the reader of {m.name}'s console") for m in machines]

    async def stop(self) -> None:
        """Power everything off, for good; whoever watches the tasks ends them."""
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
        """There is work: power on what is off."""
        for name, machine in self._machines.items():
            if not machine.alive:
                self.call(name)

    def call(self, name: str) -> None:
        """Let it boot, by powering it off and on, unless that is under way or the machine is broken."""
        if name in self._machines and name not in self._cycling:
            self._begin(name, self._cycle)

    def cycle(self, name: str) -> None:
        """Power off and on what hangs; if that is under way, and it is the next boot that hangs, once more after it."""
        if name in self._cycling:
            self._cycling[name].again = self._cycling[name].booting
        else:
            self.call(name)

    def late(self, patience: float) -> list[str]:
        """Those that are on, and for so long could have asked and did not."""
        now = self._now()
        on = [name for name, m in self._machines.items() if m.alive and name not in self._cycling]
        return [n for n in on if now - max(self._on_since.setdefault(n, now), self._expected(n)) >= patience]

    def prod(self, name: str, patience: float) -> None:
        """Cycle one that is late; if that has not helped before, it is broken."""
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
        """Power off one that nothing is being done about."""
        if name not in self._cycling:
            await self._machines[name].stop()

    def is_off(self, name: str) -> bool:
        """Whether this is a machine of ours that is off, and stays so."""
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
            del self._cycling[name]  # at once: whoever wants another one from now on is to get it

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
