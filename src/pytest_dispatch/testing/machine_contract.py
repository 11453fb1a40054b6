"""What drivers must do, as classes of tests, one for each protocol; sockets and time are real.

Subclass those for what your driver has, under a name that pytest collects, and make your machine:

    class TestMyMachine(PowerContract, BootControlContract, ConsoleContract):
        def make_machine(self, state: Path) -> DrivenMachine:
            return DrivenMachine(power=..., boot=..., console=...)
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

from pytest_dispatch.core.plain_text import painted, plain
from pytest_dispatch.machines.base import BootControl, Console, DrivenMachine, Lender, Power, Sign
from pytest_dispatch.testing.boot_server import POWEROFF, RESET, Asked, BootServer, Offer

STOP = (
    20.0  # seconds after which a power-off counts as one that hangs; a lab gives it 2, a busy computer may need longer
)
TOKEN = "token-of-the-first-start"  # noqa: S105 - opens nothing; the number of the boot follows
OTHER = "token-of-the-second-start"


@dataclass(slots=True, kw_only=True)
class Bench:
    """A machine and the server that it boots from.

    Attributes:
        told: The tokens created for the machine, in order.
    """

    machine: DrivenMachine
    server: BootServer
    told: list[str] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def power(self) -> Power:
        """Its power."""
        assert self.machine.power is not None, "this contract is for a machine with power control"
        return self.machine.power

    @property
    def lender(self) -> Lender:
        """Who lends it."""
        assert self.machine.lender is not None, "this contract is for a machine that somebody lends"
        return self.machine.lender

    @property
    def console(self) -> Console:
        """Its console."""
        assert self.machine.console is not None, "this contract is for a machine with a console"
        return self.machine.console

    async def start(self, token: str = TOKEN) -> None:
        """Power on what is off, as a lab does it; each boot has a token of its own that begins like this."""

        def new_url() -> str:
            self.told.append(f"{token}-{len(self.told)}")
            return self.server.url(self.told[-1])

        if self.machine.boot is not None:
            before = len(self.told)
            await self.machine.boot.boot_from(new_url)
            if len(self.told) > before:
                self._begin(self._say_each(self.machine.boot, new_url))
        await self.power.on()

    async def gets(self, count: int) -> None:
        """Wait until `count` programs were fetched."""
        await self.server.until(lambda: len(self.server.of("GET")) >= count)

    async def is_off(self) -> None:
        """Wait until its driver says that it is off, which may have to ask."""
        async with asyncio.timeout(STOP):
            await self.power.until_off()

    async def stays_on(self) -> bool:
        """Tell whether it is on."""
        watch = asyncio.create_task(self.power.until_off())
        over, _ = await asyncio.wait([watch], timeout=0.01)
        watch.cancel()
        return not over

    async def stop(self) -> None:
        """Power off within the bound."""
        for task in self._tasks:
            task.cancel()
        async with asyncio.timeout(STOP):
            await self.power.off()
            await self.power.until_off()

    def _begin(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _say_each(self, boot: BootControl, new_url: Callable[[], str]) -> None:
        """Say what the next boot is from as soon as one has begun, for a driver that cannot see that."""
        while True:
            await self.server.until(lambda: [each.machine for each in self.server.asked[-1:]] == self.told[-1:])
            await boot.boot_from(new_url)


class Contract(ABC):
    """What the contracts of all protocols have in common.

    Attributes:
        patience: Seconds that one test may take.
        reset: What the server offers so that the machine resets; by default a real EFI program for x64 or AArch64,
            which tells a `sim` machine to play the same.
        poweroff: What it offers so that the machine powers itself off.
    """

    patience: float = 120.0
    reset: Offer = RESET
    poweroff: Offer = POWEROFF

    @abstractmethod
    def make_machine(self, state: Path) -> DrivenMachine:
        """Make a machine that is off. `state` is an empty folder for what it needs on disk."""

    def _play(self, state: Path, play: Callable[[Bench], Awaitable[None]], *plan: Offer) -> None:
        async def main() -> None:
            async with asyncio.timeout(self.patience), BootServer(*plan).open() as server:
                bench = Bench(machine=self.make_machine(state), server=server)
                try:
                    await play(bench)
                finally:
                    await bench.stop()

        asyncio.run(main())


class PowerContract(Contract):
    """The tests of `machines.base.Power`."""

    def test_it_is_on_from_power_on_to_power_off(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.power.until_off()
            await bench.start()
            assert await bench.stays_on()
            watch = asyncio.create_task(bench.power.until_off())
            await bench.stop()
            await watch
            await bench.is_off()

        self._play(tmp_path, play, self.reset)

    def test_power_off_is_quick_and_may_come_at_any_time(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.stop()
            await bench.start()
            await bench.stop()
            await bench.stop()

        self._play(tmp_path, play, self.reset)

    def test_it_goes_on_and_off_again_and_again(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            for _ in range(3):
                await bench.start()
                assert await bench.stays_on()
                await bench.stop()
                await bench.is_off()

        self._play(tmp_path, play, self.reset)


class BootControlContract(Contract):
    """The tests of `machines.base.BootControl`, for a machine that has power control too."""

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

    def test_it_comes_again_after_a_reset_and_stays_on(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(3)
            assert await bench.stays_on()
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
            await bench.start()
            await bench.gets(2)
            await bench.power.until_off()
            assert len(bench.server.of("GET")) == 2

        self._play(tmp_path, play, self.reset, self.poweroff)

    def test_one_that_was_powered_off_asks_no_more_and_boots_from_elsewhere(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.gets(1)
            await bench.stop()
            before = len(bench.server.asked)
            await bench.start(OTHER)
            await bench.gets(len(bench.server.of("GET")) + 1)
            assert all(asked.machine.startswith(OTHER) for asked in bench.server.asked[before:])

        self._play(tmp_path, play, self.reset)


class LenderContract(Contract):
    """The tests of `machines.base.Lender`, for a machine that has power control too."""

    def test_one_that_was_given_back_can_be_taken_again(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            for _ in range(2):
                await bench.start()
                await bench.stop()
                await bench.lender.release()
                await bench.lender.release()

        self._play(tmp_path, play, self.reset)

    def test_what_is_said_of_it_may_be_said_again(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.lender.fixed()
            for why in ("its disk is gone", "so is its fan"):
                await bench.lender.broken(why)
            for _ in range(2):
                await bench.lender.fixed()

        self._play(tmp_path, play, self.reset)

    def test_one_that_is_broken_goes_off_and_on_again_for_its_check(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            await bench.start()
            await bench.lender.broken("its disk is gone")
            await bench.stop()
            await bench.start()
            assert await bench.stays_on()
            await bench.lender.fixed()
            assert await bench.stays_on()

        self._play(tmp_path, play, self.reset)


class ConsoleContract(Contract):
    """The tests of `machines.base.Console`, for a machine that has power and boot control too."""

    def test_its_console_has_clean_lines_without_the_tokens(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            async with reading(bench.console) as signs:
                await bench.start()
                await bench.gets(2)
                await bench.power.until_off()
                await asyncio.sleep(0)
            assert signs
            assert not [sign for sign in signs if sign.fault]
            text = "".join(sign.text for sign in signs)
            assert plain(text).isprintable()
            assert painted(text) == text, "but for colours"
            assert len(bench.told) >= 2
            assert TOKEN not in text, "what all of them begin with"

        self._play(tmp_path, play, self.reset, self.poweroff)

    def test_its_console_goes_on_over_off_and_on_and_ends_when_closed(self, tmp_path: Path) -> None:
        async def play(bench: Bench) -> None:
            console = cast("AsyncGenerator[Sign]", bench.console.read())
            async with aclosing(console):
                await bench.start()
                await anext(console)
                await bench.stop()
                await bench.start()
                await anext(console)
            assert await anext(console, None) is None
            assert await bench.stays_on(), "whoever reads the console does not hold the power button"

        self._play(tmp_path, play, self.reset)


def _token(asked: Asked) -> str:
    return asked.machine


@asynccontextmanager
async def reading(console: Console) -> AsyncIterator[list[Sign]]:
    """Collect what a machine shows meanwhile."""
    signs: list[Sign] = []

    async def read() -> None:
        async for sign in console.read():
            signs.append(sign)  # noqa: PERF401 - each as it comes, not all at an end that never is

    reader = asyncio.create_task(read())
    try:
        yield signs
    finally:
        reader.cancel()
        await asyncio.wait([reader])
