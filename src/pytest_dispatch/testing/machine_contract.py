"""Tests of the behaviour that every machine driver must have, with real sockets and real time.

Subclass the contract under a name that pytest collects, and create your machine:

    class TestMyMachine(MachineContract):
        def make_machine(self, state: Path) -> Machine:
            return MyMachine(...)
"""

# These are tests: their names say what they check, and they use `assert`.
# ruff: noqa: D102, S101

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import cast

from pytest_dispatch.machines.base import Machine, Sign
from pytest_dispatch.testing.boot_server import POWEROFF, RESET, Asked, BootServer, Offer

STOP = 20.0  # seconds after which a stop counts as hanging; a lab allows 2, but a busy computer may need longer
TOKEN = "token-of-the-first-start"  # noqa: S105 - no secret; the number of the boot is appended
OTHER = "token-of-the-second-start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A machine and the server that it boots from.

    Attributes:
        told: The tokens created for the machine, in order.
    """

    machine: Machine
    server: BootServer
    told: list[str] = field(default_factory=list)

    async def start(self, token: str = TOKEN) -> None:
        """Power on; each boot gets a new token that begins with `token`."""

        def new_url() -> str:
            self.told.append(f"{token}-{len(self.told)}")
            return self.server.url(self.told[-1])

        await self.machine.start(new_url)

    async def gets(self, count: int) -> None:
        """Wait until `count` programs were fetched."""
        await self.server.until(lambda: len(self.server.of("GET")) >= count)

    async def off(self) -> None:
        """Wait until the machine is off."""
        while self.machine.alive:  # noqa: ASYNC110 - the Protocol has only a property for it
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Power off within `STOP` seconds."""
        async with asyncio.timeout(STOP):
            await self.machine.stop()


class MachineContract(ABC):
    """The tests.

    Attributes:
        patience: Longest duration of a test, in seconds.
        reset: Offer that makes the machine reset; by default a real EFI program for x64 or AArch64, with headers that
            make a `sim` machine do the same.
        poweroff: Offer that makes the machine power itself off.
    """

    patience: float = 120.0
    reset: Offer = RESET
    poweroff: Offer = POWEROFF

    @abstractmethod
    def make_machine(self, state: Path) -> Machine:
        """Return a machine that is off. `state` is an empty folder for its files."""

    def test_it_asks_for_its_url_with_head_and_then_get(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(1)
            first, second = bench.server.asked[:2]
            assert (first.method, second.method) == ("HEAD", "GET")
            assert first.path == second.path == "/dispatch"
            assert first.machine == second.machine
            assert first.machine in bench.told

        self._play(tmp_path, play, self.poweroff)

    def test_it_comes_again_after_a_reset_and_stays_alive(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(3)
            assert bench.machine.alive
            assert all(asked.machine.startswith(TOKEN) for asked in bench.server.asked)

        self._play(tmp_path, play, self.reset)

    def test_each_boot_asks_for_a_url_of_its_own_and_keeps_to_it(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(3)
            boots = [(token, [a.method for a in boot]) for token, boot in groupby(bench.server.asked, _token)]
            tokens = [token for token, _ in boots]
            assert len(tokens) >= 3, "a machine that was reset came again with the URL of its boot before"
            assert tokens == [token for token in bench.told if token in tokens], "each once, and in their order"
            assert all(methods[:2] == ["HEAD", "GET"] for _, methods in boots[:3])

        self._play(tmp_path, play, self.reset)

    def test_it_is_off_when_it_has_powered_itself_off(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            assert not bench.machine.alive
            await bench.start()
            await bench.gets(2)
            await bench.off()
            assert len(bench.server.of("GET")) == 2

        self._play(tmp_path, play, self.reset, self.poweroff)

    def test_stop_is_quick_and_may_come_at_any_time(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.stop()
            await bench.start()
            assert bench.machine.alive
            await bench.stop()
            assert not bench.machine.alive
            await bench.stop()
            await bench.start()
            await bench.gets(1)
            await bench.stop()
            assert not bench.machine.alive

        self._play(tmp_path, play, self.reset)

    def test_a_stopped_machine_asks_no_more_and_starts_again(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(1)
            await bench.stop()
            before = len(bench.server.asked)
            await bench.start(OTHER)
            await bench.gets(len(bench.server.of("GET")) + 1)
            assert all(asked.machine.startswith(OTHER) for asked in bench.server.asked[before:])

        self._play(tmp_path, play, self.reset)

    def test_start_of_a_machine_that_is_on_begins_anew(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(1)
            await bench.start(OTHER)
            await bench.server.until(lambda: bench.server.asked[-1].machine.startswith(OTHER))
            await bench.gets(len(bench.server.of("GET")) + 2)
            assert bench.server.asked[-1].machine.startswith(OTHER)
            assert bench.machine.alive

        self._play(tmp_path, play, self.reset)

    def test_its_console_has_clean_lines_without_the_tokens(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            async with reading(bench.machine) as signs:
                await bench.start()
                await bench.gets(2)
                await bench.off()
                await asyncio.sleep(0)
            assert signs
            assert not [sign for sign in signs if sign.fault]
            text = "".join(sign.text for sign in signs)
            assert text.isprintable()
            assert len(bench.told) >= 2
            assert TOKEN not in text, "what all of them begin with"

        self._play(tmp_path, play, self.reset, self.poweroff)

    def test_its_console_goes_on_over_stop_and_start_and_ends_when_closed(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            console = cast("AsyncGenerator[Sign]", bench.machine.console())
            async with aclosing(console):
                await bench.start()
                await anext(console)
                await bench.stop()
                await bench.start()
                await anext(console)
            assert await anext(console, None) is None
            assert bench.machine.alive, "whoever reads the console does not hold the power button"

        self._play(tmp_path, play, self.reset)

    def _play(self, state: Path, play: Callable[[Bench], Awaitable[None]], *plan: Offer) -> None:
        async def main() -> None:
            machine = self.make_machine(state)
            async with asyncio.timeout(self.patience), BootServer(*plan).open() as server:
                try:
                    await play(Bench(machine=machine, server=server))
                finally:
                    await machine.stop()

        asyncio.run(main())


def _token(asked: Asked) -> str:
    return asked.machine


@asynccontextmanager
async def reading(machine: Machine) -> AsyncIterator[list[Sign]]:
    """Collect what a machine's console shows inside the block."""
    signs: list[Sign] = []

    async def read() -> None:
        async for sign in machine.console():
            signs.append(sign)  # noqa: PERF401 - the loop never ends, so collect each item at once

    reader = asyncio.create_task(read())
    try:
        yield signs
    finally:
        reader.cancel()
        await asyncio.wait([reader])
