"""Runs the machines that the lab brings up itself: power on, listen to the console, cycle what hangs.

A machine without power control is brought up by hand: the lab says when that is due, and takes it for done.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.lab.driver_calls import discreet, signs_of, within
from pytest_dispatch.machines.base import BootControl, Console, DrivenMachine, Power, Sign

STARTS = 3  # of a machine in a row that fail, or after which it never asks, before it is called broken
AGAIN = 5.0  # seconds
BY_HAND = "it has no power control"


class MachineListener(Protocol):
    """Who is told what machines show."""

    def shown(self, machine: str, sign: Sign) -> None:
        """Note what a machine showed."""
        ...

    def went_off(self, machine: str) -> None:
        """Note that a machine is off which the lab has not powered off."""
        ...

    def by_hand(self, machine: str) -> None:
        """Note that somebody has to power a machine on, or off and on: the lab cannot."""
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
        asked: It has asked what to boot.
    """

    task: asyncio.Task[None] = field(init=False)
    booting: bool = False
    again: bool = False
    asked: bool = False


class Fleet:
    """The lab's own machines, each known by the token in its boot URL; it has another one for every boot.

    Args:
        machines: All of them.
        url_of: Makes a new boot URL for a machine, which replaces the one before.
        next_url_of: Makes one that does so once it is asked at.
        listener: Is told what they show.
        now: Tells the time.
        expected: Since when a machine may ask any moment; infinity while it has something else to do.
        again: Seconds after which a driver is asked once more whether a machine is off, where it could not tell.
    """

    def __init__(
        self,
        machines: Iterable[DrivenMachine],
        *,
        url_of: Callable[[str], str],
        next_url_of: Callable[[str], str],
        listener: MachineListener,
        now: Callable[[], float],
        expected: Callable[[str], float],
        again: float = AGAIN,
    ) -> None:
        self._machines = {machine.name: machine for machine in machines}
        self._url_of = url_of
        self._next_url_of = next_url_of
        self._listener = listener
        self._now = now
        self._expected = expected
        self._again = again
        self._cycling: dict[str, _Cycle] = {}
        self._on: dict[str, float] = {}  # since when those are on that were brought up and are not known to be off
        self._watches: dict[str, asyncio.Task[None]] = {}  # for them to go off by themselves
        self._boots_once: set[str] = set()  # what they boot has to be said beforehand for each boot
        self._arming: dict[str, asyncio.Task[None]] = {}  # what is done to say so
        self._begun: set[str] = set()  # have been brought up at least once, as far as that went
        self._prodded: dict[str, tuple[float, int]] = {}  # since when it was expected, and how often in a row
        self._broken: dict[str, str] = {}
        self._stopped = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._machines)

    def __contains__(self, name: str) -> bool:
        return name in self._machines

    @property
    def resting(self) -> bool:
        """Whether a machine is off, and nothing is being done about it."""
        return any(map(self.is_off, self._machines))

    @property
    def lost(self) -> str:
        """If there were machines and none can be brought up: one of them, and why."""
        if not self._broken or len(self._broken) < len(self._machines):
            return ""
        name, why = list(self._broken.items())[-1]
        return f"{name}: {why}"

    def listen(self) -> list[asyncio.Task[None]]:
        """Read the consoles; returns the tasks that do."""
        return [
            asyncio.create_task(self._read(machine, machine.console), name=f"the reader of {name}'s console")
            for name, machine in self._machines.items()
            if machine.console is not None
        ]

    async def stop(self) -> None:
        """Power off all that was brought up, for good; whoever watches the tasks ends them."""
        self._stopped = True
        cycling = [cycle.task for cycle in self._cycling.values()]
        for task in cycling:
            task.cancel()
        await asyncio.gather(*cycling, return_exceptions=True)
        for name in self._begun:
            self._note_off(name)
        begun = [self._machines[name] for name in self._begun]
        offs = [within(each, each.power.off(), "powered off") for each in begun if each.power is not None]
        ends = await asyncio.gather(*offs, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def has_power(self, name: str) -> bool:
        """Tell whether this is a machine of ours whose power the lab controls."""
        return name in self._machines and self._machines[name].power is not None

    def wake(self) -> None:
        """There is work: power on what is off."""
        for name in filter(self.is_off, self._machines):
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
        now, on = self._now(), [(name, since) for name, since in self._on.items() if name not in self._cycling]
        return [name for name, since in on if now - max(since, self._expected(name)) >= patience]

    def prod(self, name: str, patience: float) -> None:
        """Cycle one that is late; if that has not helped before, it is broken."""
        expected = self._expected(name)
        before, times = self._prodded.get(name, (math.nan, 0))
        times = times + 1 if expected == before else 1
        self._prodded[name] = expected, times
        why = f"it did not ask what to boot for {format_duration(patience)}"
        done = "it is powered off and on" if self.has_power(name) else f"it has to be, by hand: {BY_HAND}"
        if times < STARTS:
            self._listener.shown(name, Sign(text=f"{why}, so {done}"))
            self.call(name)
        else:
            why = f"{why}, {STARTS} times in a row" + ("" if self.has_power(name) else f"; {BY_HAND}")
            self._begin(name, partial(self._retire, why))

    async def power_off(self, name: str) -> None:
        """Power off one that nothing is being done about."""
        machine = self._machines[name]
        if name in self._cycling or machine.power is None:
            return
        try:
            await within(machine, machine.power.off(), "powered off")
            self._note_off(name)
        except MachineError as error:
            self._listener.shown(name, Sign(text=f"it stays on: {error}"))

    def is_off(self, name: str) -> bool:
        """Tell whether a machine of ours is off, and stays so; one that was never brought up counts as that."""
        return name in self._machines and name not in self._on and name not in self._cycling

    def took_power_off(self, name: str) -> None:
        """Note that it has the program that powers it off; its driver may have no way to see that."""
        if name in self._on and name not in self._cycling:
            self._note_off(name)
            self._listener.went_off(name)

    def asks(self, name: str) -> None:
        """Note that it boots from its URL; what it boots next has to be said now, where it cannot be said later."""
        machine = self._machines[name]
        if name in self._cycling:
            self._cycling[name].asked = True
        elif name in self._boots_once and machine.boot is not None:
            work = self._arm(machine, machine.boot)
            task = self._arming[name] = asyncio.create_task(work, name=f"the next boot of {name}")
            self._listener.watch(task)

    def _begin(self, name: str, work: Callable[[DrivenMachine, _Cycle], Awaitable[None]]) -> None:
        if self._stopped or name in self._broken:
            return
        self._begun.add(name)
        cycle = self._cycling[name] = _Cycle()
        cycle.task = asyncio.create_task(self._through(name, work), name=f"the power cycle of {name}")
        self._listener.watch(cycle.task)

    async def _through(self, name: str, work: Callable[[DrivenMachine, _Cycle], Awaitable[None]]) -> None:
        cycle = self._cycling[name]
        try:
            await work(self._machines[name], cycle)
        finally:
            del self._cycling[name]  # at once: whoever wants another one from now on is to get it
        if cycle.asked:
            self.asks(name)

    async def _cycle(self, machine: DrivenMachine, cycle: _Cycle) -> None:
        await self._bring_up(machine, cycle)
        while cycle.again and machine.name not in self._broken:
            await self._bring_up(machine, cycle)

    async def _bring_up(self, machine: DrivenMachine, cycle: _Cycle) -> None:
        for tries_left in reversed(range(STARTS)):
            try:
                await self._switch_off(machine)
                cycle.booting = cycle.again = cycle.asked = False
                await self._switch_on(machine, cycle)
            except MachineError as error:
                if not tries_left:
                    self._out_of_order(machine, str(error))
            else:
                return

    async def _switch_off(self, machine: DrivenMachine) -> None:
        self._note_off(machine.name)
        if machine.power is not None:
            await within(machine, machine.power.off(), "powered off")
            await within(machine, machine.power.until_off(), "off")

    async def _switch_on(self, machine: DrivenMachine, cycle: _Cycle) -> None:
        name, asked = machine.name, 0

        def new_url() -> str:
            nonlocal asked
            asked += 1
            cycle.booting = True
            return self._url_of(name)

        if machine.boot is not None:
            await within(machine, machine.boot.boot_from(new_url), "told what to boot")
            if asked:
                self._boots_once.add(name)
        else:
            cycle.booting = True
        if machine.power is None:
            self._listener.by_hand(name)
        else:
            await within(machine, machine.power.on(), "powered on")
            work = self._watch(machine, machine.power)
            self._watches[name] = asyncio.create_task(work, name=f"the power of {name}")
            self._listener.watch(self._watches[name])
        self._on[name] = self._now()

    async def _arm(self, machine: DrivenMachine, boot: BootControl) -> None:
        try:
            new_url = partial(self._next_url_of, machine.name)
            await within(machine, boot.boot_from(new_url), "told what to boot next")
        except MachineError as error:
            self._listener.shown(machine.name, Sign(text=f"it may not come back by itself: {error}"))

    async def _watch(self, machine: DrivenMachine, power: Power) -> None:
        """Wait for it to go off by itself."""
        name = machine.name
        while True:
            try:
                with discreet(machine):
                    await power.until_off()
                break
            except MachineError as error:
                self._listener.shown(name, Sign(text=f"whether it is on cannot be told: {error}"))
                await asyncio.sleep(self._again)
        del self._watches[name], self._on[name]
        if name not in self._cycling:
            self._listener.went_off(name)

    def _note_off(self, name: str) -> None:
        self._on.pop(name, None)
        for tasks in (self._watches, self._arming):
            if task := tasks.pop(name, None):
                task.cancel()

    async def _retire(self, why: str, machine: DrivenMachine, _: _Cycle) -> None:
        try:
            await self._switch_off(machine)
        except MachineError as error:
            why = f"{why}; {error}"
        self._out_of_order(machine, why)

    def _out_of_order(self, machine: DrivenMachine, why: str) -> None:
        self._broken[machine.name] = why
        self._listener.out_of_order(machine.name, why)

    async def _read(self, machine: DrivenMachine, console: Console) -> None:
        async for sign in signs_of(machine, console):
            self._listener.shown(machine.name, sign)
