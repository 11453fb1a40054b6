"""A machine that a test tells what to do, while it looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from pytest_dispatch.machines.base import Sign


@dataclass
class ToldMachine:
    """A machine that does what a test says; its boot URL comes from the lab."""

    name: str = "puppet"
    faults: list[Exception] = field(default_factory=list)  # what its next starts raise
    new_url: Callable[[], str] = str
    url: str = ""
    starts: int = 0
    alive: bool = False
    signs: asyncio.Queue[Sign | Exception] = field(default_factory=asyncio.Queue)

    async def start(self, new_url: Callable[[], str]) -> None:
        self.starts += 1
        if self.faults:
            raise self.faults.pop(0)
        self.new_url, self.alive = new_url, True
        self.boot()

    def boot(self) -> None:
        """Firmware is told a new URL, as after a reset."""
        self.url = self.new_url()

    async def stop(self) -> None:
        self.alive = False

    async def console(self) -> AsyncIterator[Sign]:
        while True:
            sign = await self.signs.get()
            if isinstance(sign, Exception):
                raise sign
            yield sign

    @property
    def target(self) -> str:
        """Path and query of its boot URL."""
        return "/" + self.url.split("/", 3)[3]
