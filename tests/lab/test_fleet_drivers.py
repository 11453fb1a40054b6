"""What a fleet makes of drivers that lack something, see little, or say too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from fleets import CYCLE, Listener, Machine, fleet_of, fleet_with, on, started
from waiting import until

from pytest_dispatch.core.errors import LabError, MachineError
from pytest_dispatch.lab.driver_calls import within
from pytest_dispatch.lab.fleet import STARTS
from pytest_dispatch.machines.base import Sign

pytestmark = pytest.mark.anyio


# Those that go off by themselves, and those of which that cannot be known


async def test_one_that_goes_off_by_itself_is_told_and_is_off() -> None:
    machine, fleet, listener = await started()
    machine.alive = False
    await until(lambda: listener.off == ["one"])
    assert fleet.is_off("one")
    assert fleet.resting


async def test_one_that_takes_the_power_off_program_is_off_though_its_driver_sees_nothing() -> None:
    machine, fleet, listener = await started()
    fleet.took_power_off("one")
    fleet.took_power_off("one")
    assert (listener.off, fleet.is_off("one"), machine.alive) == (["one"], True, True)
    fleet.wake()
    await listener.done()
    assert machine.calls == CYCLE * 2
    machine.alive = False
    await until(lambda: listener.off == ["one", "one"])


async def test_one_that_is_being_powered_on_does_not_go_off_by_what_it_took_before() -> None:
    machine = Machine("one")
    fleet, listener = fleet_of(machine)
    fleet.call("one")
    await until(lambda: machine.calls == CYCLE)
    fleet.took_power_off("one")
    machine.may_start.set()
    await listener.done()
    assert (listener.off, fleet.is_off("one")) == ([], False)


async def test_one_that_stays_on_when_it_is_powered_off_is_not_off() -> None:
    class Stuck(Machine):
        async def off(self) -> None:
            if self.alive:
                raise MachineError("the relay is stuck")

    machine = Stuck("one")
    fleet, listener = fleet_of(machine)
    await on(fleet, listener, machine)
    await fleet.power_off("one")
    assert not fleet.is_off("one")
    assert listener.seen == [("one", "it stays on: the relay is stuck")]
    fleet.cycle("one")
    await listener.done()
    assert listener.seen[1:] == [("one", "the relay is stuck")]
    listener.time = 901.0
    assert fleet.late(900.0) == [], "nothing more is done about it"


async def test_a_driver_that_cannot_tell_whether_a_machine_is_on_is_asked_again() -> None:
    class Vague(Machine):
        asked = 0

        async def until_off(self) -> None:
            self.asked += self.alive
            if self.asked == 1:
                raise MachineError("the BMC is busy")
            await super().until_off()

    machine, listener = Vague("one"), Listener()
    fleet = fleet_with(listener, machine, again=0.0)
    await on(fleet, listener, machine)
    await until(lambda: machine.asked == 2)
    assert listener.seen == [("one", "whether it is on cannot be told: the BMC is busy")]
    machine.alive = False
    await until(lambda: fleet.is_off("one"))


async def test_a_driver_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    machine = Machine("one", may_stop=asyncio.Event()).driven()
    assert machine.power is not None
    with pytest.raises(MachineError, match=r"^expected it to be powered off within 0s, and it was not$"):
        await within(machine, machine.power.off(), "powered off", seconds=0.01)


async def test_a_driver_s_own_time_out_is_none_of_the_lab_s() -> None:
    async def impatient() -> None:
        raise TimeoutError("no answer from the BMC")

    with pytest.raises(TimeoutError, match="no answer from the BMC"):
        await within(Machine("one").driven(), impatient(), "powered off")


# What a machine may lack


async def test_one_without_power_control_is_brought_up_by_hand() -> None:
    machine = Machine("one")
    fleet, listener = fleet_of(machine.driven(power=None))
    assert (fleet.has_power("one"), fleet.resting) == (False, True)
    fleet.wake()
    fleet.wake()
    await listener.done()
    assert (listener.hands, machine.calls, fleet.resting) == (["one"], [], False)
    assert machine.new_url() == "url-of-one"
    fleet.cycle("one")
    await listener.done()
    assert listener.hands == ["one", "one"]
    await fleet.power_off("one")
    assert not fleet.is_off("one")
    fleet.took_power_off("one")
    assert fleet.is_off("one")
    await fleet.stop()
    assert machine.calls == []


async def test_one_without_power_control_that_never_asks_is_given_up() -> None:
    fleet, listener = fleet_of(Machine("one").driven(power=None))
    fleet.wake()
    await listener.done()
    listener.time = 900.0
    for times in range(STARTS):
        assert fleet.late(900.0) == ["one"]
        fleet.prod("one", 900.0)
        await listener.done()
        listener.time += 900.0
        assert len(listener.hands) == min(times + 2, STARTS)
    why = "it did not ask what to boot for 15m"
    assert listener.seen[0] == ("one", f"{why}, so it has to be, by hand: it has no power control")
    assert fleet.lost == f"one: {why}, {STARTS} times in a row; it has no power control"


async def test_one_without_boot_control_is_powered_all_the_same() -> None:
    machine = Machine("one")
    machine.may_start.set()
    fleet, listener = fleet_of(machine.driven(boot=None))
    fleet.wake()
    await listener.done()
    assert machine.calls == ["stop", "start "]
    fleet.cycle("one")
    await listener.done()
    assert machine.calls == ["stop", "start "] * 2


async def test_one_without_a_console_has_none_to_read() -> None:
    fleet, _ = fleet_of(Machine("one").driven(console=None), Machine("two"))
    assert [task.get_name() for task in fleet.listen()] == ["the reader of two's console"]


# Those of which it has to be said beforehand what they boot


@dataclass(eq=False)
class Ahead(Machine):
    """As a BMC has it: one boot, and it is not seen when that begins."""

    booted: list[str] = field(default_factory=list)

    async def boot_from(self, new_url: Callable[[], str]) -> None:
        await super().boot_from(new_url)
        self.booted.append(new_url())


async def test_what_is_said_for_one_boot_is_said_again_as_soon_as_that_begins() -> None:
    machine = Ahead("one", may_start=asyncio.Event())
    fleet, listener = fleet_of(machine)
    fleet.wake()
    await until(lambda: len(machine.calls) == 2)
    fleet.asks("one")  # though it does not yet count as on
    assert machine.booted == ["url-of-one"]
    machine.may_start.set()
    await until(lambda: machine.booted == ["url-of-one", "next-url-of-one"])
    fleet.asks("one")
    await until(lambda: len(machine.booted) == 3)
    fleet.cycle("one")
    await listener.done()
    assert machine.booted == ["url-of-one", "next-url-of-one", "next-url-of-one", "url-of-one"]


async def test_what_sees_its_boots_is_told_once() -> None:
    machine, fleet, listener = await started()
    tasks = len(listener.tasks)
    fleet.asks("one")
    assert len(listener.tasks) == tasks
    assert machine.new_url() == "url-of-one"


async def test_one_of_which_it_cannot_be_said_what_it_boots_next_says_so() -> None:
    class Forgetful(Ahead):
        async def boot_from(self, new_url: Callable[[], str]) -> None:
            if self.booted:
                raise MachineError("the BMC is full")
            await super().boot_from(new_url)

    machine = Forgetful("one")
    fleet, listener = fleet_of(machine)
    await on(fleet, listener, machine)
    fleet.asks("one")
    await until(lambda: listener.seen == [("one", "it may not come back by itself: the BMC is full")])


# What drivers say


async def test_what_a_machine_shows_is_told_without_the_secrets_of_its_driver() -> None:
    class Teller(Machine):
        async def read(self) -> AsyncIterator[Sign]:
            yield Sign(text="by root:hunter2", fault="hunter2 is wrong", lab=True)
            raise RuntimeError("hunter2 again")

    shown: list[Sign] = []

    class Hears(Listener):
        def shown(self, machine: str, sign: Sign) -> None:
            shown.append(sign)

    [reader] = fleet_with(Hears(), Teller("one").driven(secrets=("hunter2",))).listen()
    with pytest.raises(LabError, match=r"^the lab is broken: the driver of one raised RuntimeError: \*\*\* again"):
        await reader
    assert shown == [Sign(text="by root:***", fault="*** is wrong", lab=True)]


async def test_one_that_cannot_be_powered_off_is_told_without_its_secrets() -> None:
    machine = Machine("one")
    fleet, listener = fleet_of(machine.driven(secrets=("hunter2",)))
    await on(fleet, listener, machine)
    machine.stop_fault = OSError("no way in for root:hunter2")
    with pytest.raises(LabError, match=r"raised OSError: no way in for root:\*\*\* \("):
        await fleet.stop()
