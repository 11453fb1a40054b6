"""Runs the machines that the lab brings up itself: power on, listen to the console, cycle what hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import Machine, Sign

STARTS = 3  # tries to start a machine before it is called broken


class Witness(Protocol):
    """Who is told what machines show; the lab."""

    def shown(self, machine: str, sign: Sign) -> None:
        """A machine showed something."""
        ...

    def out_of_order(self, machine: str, why: str) -> None:
        """A machine cannot be brought up."""
        ...

    def watch(self, task: asyncio.Task[None]) -> None:
        """A task began that must not die unnoticed."""
        ...


class Fleet:
    """The lab's own machines, each known by the token in its boot URL; it has another one for every boot.

    Args:
        machines: All of them.
        url_of: Makes a new boot URL for a machine, which replaces the one before.
        witness: Is told what they show.
    """

    def __init__(self, machines: list[Machine], url_of: Callable[[str], str], witness: Witness) -> None:
        self._machines = {machine.name: machine for machine in machines}
        self._url_of = url_of
        self._witness = witness
        self._cycling: dict[str, asyncio.Task[None]] = {}
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
        cycling = list(self._cycling.values())
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
                self.cycle(name)

    def cycle(self, name: str) -> None:
        """Power off and on, unless that is under way or the machine is broken."""
        barred = self._stopped or name in self._cycling or name in self._broken
        if name in self._machines and not barred:
            task = asyncio.create_task(self._cycle(self._machines[name]), name=f"the power cycle of {name}")
            self._cycling[name] = task
            task.add_done_callback(lambda _: self._cycling.pop(name, None))
            self._witness.watch(task)

    async def power_off(self, name: str) -> None:
        """Power off one that nothing is being done about."""
        if name not in self._cycling:
            await self._machines[name].stop()

    def is_off(self, name: str) -> bool:
        """Whether this is a machine of ours that is off, and stays so."""
        return name in self._machines and name not in self._cycling and not self._machines[name].alive

    async def _cycle(self, machine: Machine) -> None:
        for tries_left in reversed(range(STARTS)):
            await machine.stop()
            try:
                await machine.start(partial(self._url_of, machine.name))
            except MachineError as error:
                if not tries_left:
                    self._broken[machine.name] = str(error)
                    self._witness.out_of_order(machine.name, str(error))
            else:
                return

    async def _read(self, machine: Machine) -> None:
        async for sign in machine.console():
            self._witness.shown(machine.name, sign)
