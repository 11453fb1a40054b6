"""Fleets of machines whose drivers are as slow and as broken as a test wants."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from by_hand import ByHand

from pytest_dispatch.lab.fleet import Fleet
from pytest_dispatch.lab.machine_control import AGAIN
from pytest_dispatch.machines.base import DrivenMachine, Sign

CYCLE = ["stop", "start url-of-one"]


@dataclass(eq=False)
class Machine(ByHand):
    """A driver's machine, as slow and as broken as a test wants."""

    calls: list[str] = field(default_factory=list)
    stop_fault: OSError | None = None
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    may_stop: asyncio.Event | None = None
    may_boot: asyncio.Event | None = None  # its driver has to see to something before that

    async def on(self) -> None:
        if self.may_boot is not None:
            await self.may_boot.wait()
        self.calls.append(f"start {self.new_url()}")
        await self.may_start.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.alive = True

    async def off(self) -> None:
        self.calls.append("stop")
        if self.may_stop is not None:
            await self.may_stop.wait()
        self.alive = False
        if self.stop_fault is not None:
            raise self.stop_fault

    async def read(self) -> AsyncIterator[Sign]:
        for n in range(2):
            yield Sign(text=f"{self.name} {n}")


class Listener:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.time = 0.0
        self.asked: dict[str, float] = {}
        self.off: list[str] = []
        self.hands: list[str] = []

    def now(self) -> float:
        return self.time

    def expected(self, machine: str) -> float:
        return self.asked.get(machine, -math.inf)

    def shown(self, machine: str, sign: Sign) -> None:
        self.seen.append((machine, sign.text))

    def went_off(self, machine: str) -> None:
        self.off.append(machine)

    def by_hand(self, machine: str) -> None:
        self.hands.append(machine)

    def out_of_order(self, machine: str, why: str) -> None:
        self.seen.append((machine, why))

    def watch(self, task: asyncio.Task[None]) -> None:
        self.tasks.append(task)

    async def done(self) -> None:
        """Return when the power cycles are over that were begun so far."""
        await asyncio.gather(*(task for task in self.tasks if task.get_name().startswith("the power cycle")))


def fleet_with(
    listener: Listener,
    *machines: ByHand | DrivenMachine,
    url_of: Callable[[str], str] = "url-of-{}".format,
    again: float = AGAIN,
) -> Fleet:
    return Fleet(
        [each.driven() if isinstance(each, ByHand) else each for each in machines],
        url_of=url_of,
        next_url_of="next-url-of-{}".format,
        listener=listener,
        now=listener.now,
        expected=listener.expected,
        again=again,
    )


def fleet_of(*machines: ByHand | DrivenMachine) -> tuple[Fleet, Listener]:
    listener = Listener()
    return fleet_with(listener, *machines), listener


async def on(fleet: Fleet, listener: Listener, *machines: Machine) -> None:
    """Bring these up."""
    for machine in machines:
        machine.may_start.set()
        fleet.call(machine.name)
    await listener.done()
    for machine in machines:
        machine.calls.clear()
    listener.tasks.clear()


async def started() -> tuple[Machine, Fleet, Listener]:
    machine = Machine("one")
    machine.may_start.set()
    fleet, listener = fleet_of(machine)
    fleet.wake()
    await listener.done()
    return machine, fleet, listener
