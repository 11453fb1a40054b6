"""The lab's own machines: power on, off, on again, and what their drivers may do to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from by_hand import ByHand
from waiting import until

from pytest_dispatch.core.errors import LabError, MachineError
from pytest_dispatch.lab.driver_calls import within
from pytest_dispatch.lab.fleet import STARTS, Fleet
from pytest_dispatch.lab.machine_control import AGAIN
from pytest_dispatch.machines.base import DrivenMachine, Sign

pytestmark = pytest.mark.anyio


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


CYCLE = ["stop", "start url-of-one"]


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


async def started() -> tuple[Machine, Fleet, Listener]:
    machine = Machine("one")
    machine.may_start.set()
    fleet, listener = fleet_of(machine)
    fleet.wake()
    await listener.done()
    return machine, fleet, listener


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
