"""Machines of the lab's own: one that a test plays, and one that boots as a BMC has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import DrivenMachine, Sign
from pytest_dispatch.machines.sim.driver import SimMachine


@dataclass(eq=False)
class ByHand:
    """It does what a test says; its boot URLs come from the lab.

    Attributes:
        faults: What its next power-ons raise.
        starts: How often it was powered on.
        urls: From which it booted.
        signs: What it is to show; an exception for a driver that breaks.
    """

    name: str = "one"
    faults: list[Exception] = field(default_factory=list)
    starts: int = 0
    urls: list[str] = field(default_factory=list)
    new_url: Callable[[], str] = str
    signs: asyncio.Queue[Sign | Exception] = field(default_factory=asyncio.Queue)
    _is_off: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._is_off.set()

    def driven(self, **but: Any) -> DrivenMachine:
        """The machine as a lab has it, but for what a test says."""
        return DrivenMachine(**{"name": self.name, "power": self, "boot": self, "console": self, **but})

    @property
    def alive(self) -> bool:
        return not self._is_off.is_set()

    @alive.setter
    def alive(self, alive: bool) -> None:
        (self._is_off.clear if alive else self._is_off.set)()

    async def boot_from(self, new_url: Callable[[], str]) -> None:
        self.new_url = new_url

    async def on(self) -> None:
        self.starts += 1
        if self.faults:
            raise self.faults.pop(0)
        self.alive = True
        self.boot()

    async def off(self) -> None:
        self.alive = False

    async def until_off(self) -> None:
        await self._is_off.wait()

    async def read(self) -> AsyncIterator[Sign]:
        while True:
            sign = await self.signs.get()
            if isinstance(sign, Exception):
                raise sign
            yield sign

    def boot(self) -> None:
        """Firmware is told a new URL, as after a reset."""
        self.urls.append(self.new_url())

    def target(self, boot: int = -1) -> str:
        """Path and query of its boot URL, of its latest boot if not of another one."""
        return "/" + self.urls[boot].split("/", 3)[3]


class Ahead(SimMachine):
    """What is booted is said for one boot, and then nothing is; nobody sees when that begins."""

    def __init__(self) -> None:
        super().__init__(pace=0.001, boot=0.05)
        self.said: list[str] = []
        self.booted: list[str] = []

    async def boot_from(self, new_url: Callable[[], str]) -> None:
        self.said = [new_url()]
        await super().boot_from(self._once)

    def _once(self) -> str:
        if not self.said:
            raise MachineError("there is nothing to boot")
        self.booted.append(self.said.pop())
        return self.booted[-1]
