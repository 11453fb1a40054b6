"""The lab's own machines: power on, off, on again, and what their drivers may do to it."""

from __future__ import annotations

import asyncio
import math

import pytest
from fleets import CYCLE, Listener, Machine, fleet_of, fleet_with, on, started
from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.lab.fleet import STARTS

pytestmark = pytest.mark.anyio


async def test_what_is_off_is_powered_on_once() -> None:
    one, two = Machine("one"), Machine("two")
    fleet, listener = fleet_of(one, two)
    await on(fleet, listener, two)
    assert fleet.resting
    fleet.wake()
    fleet.wake()
    assert not fleet.resting  # it is under way
    one.may_start.set()
    await until(lambda: one.alive)
    assert (one.calls, two.calls) == (["stop", "start url-of-one"], [])
    await listener.done()
    assert not fleet.resting
    assert [task.get_name() for task in listener.tasks] == ["the power cycle of one", "the power of one"]


async def test_each_boot_of_a_machine_has_a_url_of_its_own() -> None:
    made: list[str] = []

    def url_of(name: str) -> str:
        made.append(name)
        return f"{name}-{len(made)}"

    one, two = Machine("one"), Machine("two")
    for machine in (one, two):
        machine.may_start.set()
    listener = Listener()
    fleet = fleet_with(listener, one, two, url_of=url_of)
    fleet.wake()
    await listener.done()
    assert (one.new_url(), two.new_url(), one.new_url()) == ("one-3", "two-4", "one-5")
    assert [machine.calls for machine in (one, two)] == [["stop", "start one-1"], ["stop", "start two-2"]]


async def test_what_is_being_powered_on_is_not_powered_off_nor_off() -> None:
    one, two = Machine("one"), Machine("two")
    fleet, listener = fleet_of(one, two)
    await on(fleet, listener, two)
    assert fleet.is_off("one")
    assert not fleet.is_off("two")
    assert not fleet.is_off("192.168.1.31")
    fleet.cycle("one")
    assert not fleet.is_off("one")
    await until(lambda: len(one.calls) == 2)
    await fleet.power_off("one")
    await fleet.power_off("two")
    assert (one.calls, two.calls) == (["stop", "start url-of-one"], ["stop"])
    assert fleet.is_off("two")
    await fleet.stop()


async def test_a_power_cycle_of_a_stranger_is_none() -> None:
    fleet, listener = fleet_of(Machine("one"))
    fleet.cycle("192.168.1.31")
    assert not listener.tasks


async def test_what_hangs_before_its_power_cycle_is_over_is_cycled_once_more() -> None:
    machine = Machine("one")
    fleet, listener = fleet_of(machine)
    fleet.cycle("one")
    await until(lambda: machine.calls == CYCLE)
    fleet.cycle("one")  # it had its URL, and may have asked
    fleet.cycle("one")
    machine.may_start.set()
    await listener.done()
    assert (machine.calls, machine.alive) == (CYCLE * 2, True)


async def test_what_hung_before_its_power_cycle_is_cycled_by_it() -> None:
    may_stop, may_boot = asyncio.Event(), asyncio.Event()
    machine = Machine("one", may_stop=may_stop, may_boot=may_boot)
    machine.may_start.set()
    fleet, listener = fleet_of(machine)
    fleet.cycle("one")
    fleet.cycle("one")  # nothing was done yet
    await until(lambda: machine.calls)
    fleet.cycle("one")  # it is being powered off
    may_stop.set()
    await until(lambda: machine.new_url is not str)
    fleet.cycle("one")  # it is being powered on, and has no URL yet
    may_boot.set()
    await listener.done()
    assert machine.calls == CYCLE


async def test_a_machine_that_boots_already_need_not_be_called() -> None:
    machine = Machine("one")
    fleet, listener = fleet_of(machine)
    fleet.call("one")
    await until(lambda: machine.calls == CYCLE)
    fleet.call("one")
    fleet.wake()
    machine.may_start.set()
    await listener.done()
    assert machine.calls == CYCLE


async def test_whoever_sees_the_end_of_a_power_cycle_may_ask_for_the_next() -> None:
    class Told(Machine):
        async def on(self) -> None:
            await super().on()
            if self.calls == CYCLE:
                asyncio.get_running_loop().call_soon(fleet.cycle, "one")  # when the first one has just ended

    machine = Told("one")
    machine.may_start.set()
    fleet, listener = fleet_of(machine)
    fleet.cycle("one")
    await until(lambda: len(machine.calls) == 4)
    await listener.done()
    assert machine.calls == CYCLE * 2


async def test_what_is_given_up_is_not_cycled_once_more() -> None:
    """It was given its URL each time, and may have taken a workload, whose attempt ends now."""

    class Cycler(Listener):
        def out_of_order(self, machine: str, why: str) -> None:
            super().out_of_order(machine, why)
            fleet.cycle(machine)

    machine, listener = Machine("one", faults=[MachineError("no room")] * (STARTS + 1)), Cycler()
    machine.may_start.set()
    fleet = fleet_with(listener, machine)
    fleet.cycle("one")
    await listener.done()
    assert machine.calls == CYCLE * STARTS


# Those that do not ask


async def test_a_machine_is_late_that_asked_for_nothing_since_it_is_on() -> None:
    _, fleet, listener = await started()
    listener.time = 899.0
    assert fleet.late(900.0) == []
    listener.time = 900.0
    assert fleet.late(900.0) == ["one"]
    listener.asked["one"] = 850.0  # it waits for work
    assert fleet.late(900.0) == []
    listener.time = 1750.0
    assert fleet.late(900.0) == ["one"]
    listener.asked["one"] = math.inf  # it runs a workload
    assert fleet.late(900.0) == []


async def test_time_counts_from_when_a_machine_is_on() -> None:
    """However long its driver takes for that."""
    slow, other = Machine("one"), Machine("two")
    fleet, listener = fleet_of(slow, other)
    await on(fleet, listener, other)
    fleet.cycle("one")
    await until(lambda: slow.calls == CYCLE)
    slow.alive = True
    assert fleet.late(900.0) == []
    listener.time = 1000.0
    assert fleet.late(900.0) == ["two"]
    listener.asked["two"] = 1000.0
    slow.may_start.set()
    await listener.done()
    listener.time = 1899.0
    assert fleet.late(900.0) == []
    listener.time = 1900.0
    assert fleet.late(900.0) == ["one", "two"]


async def test_one_that_is_late_is_cycled_and_at_last_given_up() -> None:
    machine, fleet, listener = await started()
    why = "it did not ask what to boot for 15m"
    for times in range(1, STARTS):
        fleet.prod("one", 900.0)
        assert listener.seen[times - 1 :] == [("one", f"{why}, so it is powered off and on")]
        await listener.done()
        assert (machine.calls, machine.alive) == (CYCLE * (times + 1), True)
    fleet.prod("one", 900.0)
    await listener.done()
    assert (machine.calls, machine.alive) == ([*CYCLE * STARTS, "stop"], False)
    assert listener.seen[STARTS - 1 :] == [("one", f"{why}, {STARTS} times in a row")]
    assert fleet.lost == f"one: {why}, {STARTS} times in a row"


async def test_one_that_asks_at_last_has_all_its_tries_again() -> None:
    machine, fleet, listener = await started()
    for asked in (1.0, 2.0, 3.0):
        for _ in range(STARTS - 1):
            fleet.prod("one", 900.0)
            await listener.done()
        listener.asked["one"] = asked
    assert machine.alive
    assert not fleet.lost


async def test_a_machine_is_given_up_after_some_tries() -> None:
    machine, other = Machine("one", faults=[MachineError(f"no {n}") for n in range(STARTS)]), Machine("two")
    machine.may_start.set()
    fleet, listener = fleet_of(machine, other)
    await on(fleet, listener, other)
    fleet.cycle("one")
    await listener.done()
    assert machine.calls.count("start url-of-one") == STARTS
    assert listener.seen == [("one", f"no {STARTS - 1}")]
    assert not fleet.lost  # the other one is there
    fleet.wake()
    assert len(listener.tasks) == 1


async def test_without_machines_none_is_lost() -> None:
    fleet, _ = fleet_of()
    assert not fleet.lost
    assert not fleet.resting
    await fleet.stop()


async def test_consoles_are_read() -> None:
    fleet, listener = fleet_of(Machine("one"), Machine("two"))
    await asyncio.gather(*fleet.listen())
    assert sorted(listener.seen) == [("one", "one 0"), ("one", "one 1"), ("two", "two 0"), ("two", "two 1")]


async def test_all_are_powered_off_also_what_is_just_being_powered_on() -> None:
    """But not what the lab never brought up: it may be somebody else's to use."""
    one, two, three = Machine("one"), Machine("two"), Machine("three")
    fleet, listener = fleet_of(one, two, three)
    await on(fleet, listener, two)
    fleet.cycle("one")
    await until(lambda: len(one.calls) == 2)
    await fleet.stop()
    assert one.calls[-1] == two.calls[-1] == "stop"
    assert three.calls == []
    assert [task.cancelled() for task in listener.tasks] == [True]
    fleet.wake()
    assert len(listener.tasks) == 1  # for good


async def test_one_that_cannot_be_stopped_does_not_keep_the_others_on() -> None:
    broken, other = Machine("one"), Machine("two")
    fleet, listener = fleet_of(broken, other)
    await on(fleet, listener, broken, other)
    broken.stop_fault = OSError("a socket")
    with pytest.raises(OSError, match="a socket"):
        await fleet.stop()
    assert other.calls == ["stop"]
