"""A QEMU machine on its bench: a boot server, and what the console showed so far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from children import children
from waiting import PATIENCE, until

from pytest_dispatch.machines.base import Sign, Spec
from pytest_dispatch.machines.qemu.driver import QemuMachine, create, create_aarch64
from pytest_dispatch.testing.boot_server import BootServer, Offer
from pytest_dispatch.testing.efi import program
from pytest_dispatch.testing.machine_contract import reading

TOKEN = "unguessable-token"
RESUMED = "Firmware goes on from its saved state"
FACTORIES = {"x64": create, "aa64": create_aarch64}


def ending(end: str, text: str = "Hello", arch: str = "x64") -> Offer:
    return Offer(programs={arch: program(end, text=text, arch=arch)})


def bytes_of(path: Path, arch: str = "x64") -> Offer:
    return Offer(programs={arch: path.read_bytes()})


def machines(state: Path, count: int, arch: str = "x64", **options: str) -> list[QemuMachine]:
    pairs = tuple(options.items())
    made = FACTORIES[arch](Spec(scheme="qemu", count=count, options=pairs, text="qemu"), state)
    return [machine.power for machine in made if isinstance(machine.power, QemuMachine)]


@dataclass(frozen=True)
class QemuBench:
    machine: QemuMachine
    server: BootServer
    signs: list[Sign]

    @property
    def texts(self) -> list[str]:
        return [sign.text for sign in self.signs]

    @property
    def faults(self) -> list[Sign]:
        return [sign for sign in self.signs if sign.fault]

    @property
    def methods(self) -> str:
        return " ".join(asked.method for asked in self.server.asked)

    async def start(self) -> None:
        await self.boot(self.server.url(TOKEN))

    async def boot(self, url: str) -> None:
        await self.machine.boot_from(lambda: url)
        await self.machine.on()

    async def is_on(self) -> bool:
        watch = asyncio.create_task(self.machine.until_off())
        over, _ = await asyncio.wait([watch], timeout=0.01)
        watch.cancel()
        return not over

    async def off(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.machine.until_off()
        await asyncio.sleep(0.002)  # its reader takes the last lines

    async def fault(self) -> Sign:
        """The first fault."""
        await until(lambda: bool(self.faults))
        return self.faults[0]


@asynccontextmanager
async def bench(state: Path, *plan: Offer, arch: str = "x64", **options: str) -> AsyncIterator[QemuBench]:
    [machine] = machines(state, 1, arch, **options)
    async with BootServer(*plan).open() as server, reading(machine.console) as signs:
        try:
            yield QemuBench(machine, server, signs)
        finally:
            await machine.off()


def emulators() -> list[int]:
    """This process's QEMUs (Linux)."""
    return children(b"qemu-system")
