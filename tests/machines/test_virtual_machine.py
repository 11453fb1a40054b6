"""A machine that this computer plays: what a driver gets by it, and what becomes of its mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.virtual_machine import VirtualMachine

pytestmark = pytest.mark.anyio


class Played(VirtualMachine):
    """One that goes on as a test says."""

    def __init__(self, before: Exception | None = None, after: Exception | None = None) -> None:
        super().__init__()
        self.may_be_on, self.may_end = asyncio.Event(), asyncio.Event()
        self.before, self.after = before, after
        self.began, self.ends = asyncio.Event(), 0

    async def live(self, is_on: Callable[[], None]) -> None:
        self.began.set()
        try:
            await self.may_be_on.wait()
            if self.before is not None:
                raise self.before
            is_on()
            await self.may_end.wait()
            if self.after is not None:
                raise self.after
        finally:
            self.ends += 1


async def test_it_is_on_when_its_driver_says_so_and_off_when_that_has_returned() -> None:
    machine = Played()
    driven = machine.driven("one")
    assert (driven.name, driven.power, driven.boot, driven.console) == ("one", machine, machine, machine.console)
    await machine.until_off()
    starting = asyncio.create_task(machine.on())
    await machine.began.wait()
    assert not starting.done()
    machine.may_be_on.set()
    await starting
    watch = asyncio.create_task(machine.until_off())
    await asyncio.sleep(0)
    assert not watch.done()
    machine.may_end.set()
    await watch
    await machine.off()
    assert machine.ends == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MachineError("no room"), r"^no room$"),
        (
            OSError("no such file"),
            r"^its driver raised OSError: no such file \(.*test_virtual_machine\.py, line \d+\)$",
        ),
    ],
)
async def test_what_keeps_it_from_being_on_is_raised_and_tried_again(error: Exception, told: str) -> None:
    machine = Played(before=error)
    machine.may_be_on.set()
    for _ in range(2):
        with pytest.raises(MachineError, match=told):
            await machine.on()
        await machine.until_off()
    machine.before = None
    await machine.on()
    await machine.off()


async def test_what_ends_it_against_the_rules_is_a_fault_of_the_lab() -> None:
    machine = Played(after=MachineError("the emulator is gone"))
    machine.may_be_on.set()
    machine.may_end.set()
    await machine.on()
    await machine.until_off()
    why = "the emulator is gone"
    assert await anext(machine.console.read()) == Sign(text=why, fault=why, lab=True)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_that_is_powered_off_while_it_is_powered_on_is_off(cancelled: bool) -> None:
    machine = Played()
    starting = asyncio.create_task(machine.on())
    await machine.began.wait()
    if cancelled:
        starting.cancel()
    else:
        await machine.off()
    with pytest.raises(asyncio.CancelledError if cancelled else MachineError):
        await starting
    await machine.until_off()
    assert machine.ends == 1
