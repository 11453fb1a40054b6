"""Runs the machines that the lab brings up itself: powers on what is off, cycles what hangs, gives up what is broken.

A machine without power control is brought up by hand: the lab says when that is due, and takes it for done.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.lab.machine_control import AGAIN, MachineControl, MachineListener
from pytest_dispatch.machines.base import DrivenMachine, Sign

STARTS = 3  # failed boots in a row, or boots after which the machine never asks, until it counts as broken
BY_HAND = "it has no power control"


@dataclass(slots=True, eq=False)
class _Cycle:
    """A power cycle in progress.

    Attributes:
        booting: The machine got a new boot URL since it was powered off, so its next boot has already begun.
        again: Whether the next boot is to be power-cycled too.
        asked: Whether the machine has asked for a workload.
        failed: Why its last try failed; empty if none has.
    """

    task: asyncio.Task[None] = field(init=False)
    booting: bool = False
    again: bool = False
    asked: bool = False
    failed: str = ""

    def boots(self) -> None:
        """Record that the machine gets a new boot URL."""
        self.booting = True


def _control(
    machine: DrivenMachine,
    *,
    url_of: Callable[[str], str],
    next_url_of: Callable[[str], str],
    listener: MachineListener,
    now: Callable[[], float],
    again: float,
) -> MachineControl:
    return MachineControl(
        machine,
        new_url=partial(url_of, machine.name),
        next_url=partial(next_url_of, machine.name),
        listener=listener,
        now=now,
        again=again,
    )


async def _not_brought_up(control: MachineControl, cycle: _Cycle) -> str:
    """Power a machine off and on, and return why that cannot be done; empty if it was."""
    for _ in range(STARTS):
        try:
            await control.off()
            cycle.booting = cycle.again = cycle.asked = False
            await control.on(cycle.boots)
        except MachineError as error:
            cycle.failed = str(error)
        else:
            return ""
    return cycle.failed


async def _ended(control: MachineControl) -> None:
    """Power a machine off for good, and give it back to whoever lends it.

    Raises:
        MachineError: It stays on.
    """
    await control.off(wait=False)
    await control.give_back()


@dataclass(frozen=True, slots=True)
class Troubles:
    """What keeps the drivers of a fleet.

    Args:
        controls: Its machines.
        cycling: The power cycles in progress.
    """

    controls: Mapping[str, MachineControl]
    cycling: Mapping[str, _Cycle]

    def by_machine(self) -> dict[str, str]:
        """Return what keeps drivers from doing what they were last told, also while that is tried again."""
        tried = {name: cycle.failed for name, cycle in self.cycling.items()}
        every = {name: control.trouble or tried.get(name, "") for name, control in self.controls.items()}
        return {name: why for name, why in every.items() if why}


class Fleet:
    """The lab's own machines, each identified by the token in its boot URL, which is replaced for every boot.

    Args:
        machines: All of them.
        url_of: Makes a new boot URL for a machine; the earlier URL stops working.
        next_url_of: Makes a boot URL that replaces the earlier one when a machine first uses it.
        listener: Gets events of the machines.
        now: Tells the time.
        expected: Since when a machine may ask any moment; infinity while it has something else to do.
        again: Seconds after which a driver is asked once more whether a machine is off, where it could not tell.

    Attributes:
        troubles: What keeps its drivers.
    """

    def __init__(
        self,
        machines: Iterable[DrivenMachine],
        *,
        url_of: Callable[[str], str],
        next_url_of: Callable[[str], str],
        listener: MachineListener,
        now: Callable[[], float],
        expected: Callable[[str], float],
        again: float = AGAIN,
    ) -> None:
        self._control = partial(
            _control, url_of=url_of, next_url_of=next_url_of, listener=listener, now=now, again=again
        )
        self._controls = {machine.name: self._control(machine) for machine in machines}
        self._reading: dict[str, list[asyncio.Task[None]]] = {}  # what reads their consoles
        self._listener = listener
        self._now = now
        self._expected = expected
        self._cycling: dict[str, _Cycle] = {}
        self._begun: set[str] = set()  # machines that were started at least once, perhaps without success
        self._prodded: dict[str, tuple[float, int]] = {}  # since when it was expected, and how often in a row
        self._broken: dict[str, str] = {}
        self.troubles = Troubles(self._controls, self._cycling)
        self._stopped = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._controls)

    def __contains__(self, name: str) -> bool:
        return name in self._controls

    @property
    def resting(self) -> bool:
        """Return whether any machine is off and stays off."""
        return any(map(self.is_off, self._controls))

    @property
    def lost(self) -> str:
        """Return a machine that cannot be started, and why, if the fleet has machines and none of them can be."""
        if not self._broken or len(self._broken) < len(self._controls):
            return ""
        name, why = list(self._broken.items())[-1]
        return f"{name}: {why}"

    def listen(self) -> list[asyncio.Task[None]]:
        """Start to read the consoles; return the tasks that do."""
        self._reading = {name: control.listen() for name, control in self._controls.items()}
        return [task for reading in self._reading.values() for task in reading]

    def admit(self, machine: DrivenMachine) -> None:
        """Add a machine, which is off, and read its console."""
        control = self._controls[machine.name] = self._control(machine)
        self._reading[machine.name] = control.listen()
        for task in self._reading[machine.name]:
            self._listener.watch(task)

    async def remove(self, name: str) -> None:
        """Power off a machine for good if it was ever started, and remove it.

        Raises:
            MachineError: It stays on; it is removed nevertheless.
        """
        control, cycle = self._controls.pop(name), self._cycling.get(name)
        tasks = [*self._reading.pop(name, ()), *([cycle.task] if cycle is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        was_on = name in self._begun
        self._begun.discard(name)
        self._broken.pop(name, None)
        self._prodded.pop(name, None)
        if was_on:
            await _ended(control)

    async def stop(self, spared: Container[str] = ()) -> None:
        """Power off all machines that were ever started, for good; the caller ends their tasks.

        Args:
            spared: Machines that stay on.
        """
        self._stopped = True
        cycling = [cycle.task for cycle in self._cycling.values()]
        for task in cycling:
            task.cancel()
        await asyncio.gather(*cycling, return_exceptions=True)
        offs = [_ended(self._controls[name]) for name in self._begun if name not in spared]
        ends = await asyncio.gather(*offs, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def has_power(self, name: str) -> bool:
        """Return whether this is one of the lab's own machines, and the lab controls its power."""
        return name in self._controls and self._controls[name].has_power

    @property
    def lent(self) -> dict[MachineControl, bool]:
        """Return the machines that somebody lends to the lab, and whether each is being powered off or on."""
        return {each: name in self._cycling for name, each in self._controls.items() if each.is_lent}

    def wake(self, leaving: Container[str] = ()) -> None:
        """Power on machines that are off, because there is work.

        Args:
            leaving: Machines that are to stay off.
        """
        for name in filter(self.is_off, self._controls):
            if name not in leaving:
                self.call(name)

    def call(self, name: str, *, anew: bool = False) -> None:
        """Power-cycle a machine so that it boots, unless a cycle is under way or the machine is broken.

        With `anew`, also a broken machine is tried: it may have been repaired.
        """
        if anew:
            self._broken.pop(name, None)
            self._prodded.pop(name, None)
        if name in self._controls and name not in self._cycling:
            self._begin(name, self._cycle)

    def cycle(self, name: str) -> None:
        """Power-cycle a machine that hangs; if the new boot of a cycle in progress hangs, cycle once more."""
        if name in self._cycling:
            self._cycling[name].again = self._cycling[name].booting
        else:
            self.call(name)

    def late(self, patience: float) -> list[str]:
        """Return the machines that are on, and have not asked for so long although they could."""
        now = self._now()
        since = {name: control.on_since for name, control in self._controls.items() if name not in self._cycling}
        on = [(name, at) for name, at in since.items() if at is not None]
        return [name for name, at in on if now - max(at, self._expected(name)) >= patience]

    def prod(self, name: str, patience: float) -> None:
        """Power-cycle a machine that has not asked in time; if that did not help before, mark it as broken."""
        expected = self._expected(name)
        before, times = self._prodded.get(name, (math.nan, 0))
        times = times + 1 if expected == before else 1
        self._prodded[name] = expected, times
        why = f"it did not ask what to boot for {format_duration(patience)}"
        done = "it is powered off and on" if self.has_power(name) else f"it has to be, by hand: {BY_HAND}"
        if times < STARTS:
            self._listener.shown(name, Sign(text=f"{why}, so {done}"))
            self.call(name)
        else:
            why = f"{why}, {STARTS} times in a row" + ("" if self.has_power(name) else f"; {BY_HAND}")
            self._begin(name, partial(self._retire, why))

    async def power_off(self, name: str) -> None:
        """Power off a machine, unless it is being power-cycled."""
        if name in self._cycling or not self.has_power(name):
            return
        try:
            await self._controls[name].off()
        except MachineError as error:
            self._listener.shown(name, Sign(text=f"it stays on: {error}"))

    def is_off(self, name: str) -> bool:
        """Return whether one of the lab's own machines is off and stays off, or was never started."""
        return name in self._controls and name not in self._cycling and self._controls[name].on_since is None

    def took_power_off(self, name: str) -> None:
        """Record that a machine took the power-off program; its driver may be unable to see that."""
        control = self._controls[name]
        if control.on_since is not None and name not in self._cycling:
            control.is_off()
            self._listener.went_off(name)

    def asks(self, name: str) -> None:
        """Record that a machine uses its boot URL."""
        if name in self._cycling:
            self._cycling[name].asked = True
        else:
            self._controls[name].begins()

    def _begin(self, name: str, work: Callable[[MachineControl, _Cycle], Awaitable[None]]) -> None:
        if self._stopped or name in self._broken:
            return
        self._begun.add(name)
        cycle = self._cycling[name] = _Cycle()
        cycle.task = asyncio.create_task(self._through(name, work), name=f"the power cycle of {name}")
        self._listener.watch(cycle.task)

    async def _through(self, name: str, work: Callable[[MachineControl, _Cycle], Awaitable[None]]) -> None:
        cycle = self._cycling[name]
        try:
            await work(self._controls[name], cycle)
        finally:
            del self._cycling[name]  # at once: a cycle requested from now on is another one
        if cycle.asked:
            self.asks(name)

    async def _cycle(self, control: MachineControl, cycle: _Cycle) -> None:
        while True:
            if why := await _not_brought_up(control, cycle):
                self._out_of_order(control.name, why)
            if not cycle.again or control.name in self._broken:
                return

    async def _retire(self, why: str, control: MachineControl, _: _Cycle) -> None:
        try:
            await control.off()
        except MachineError as error:
            why = f"{why}; {error}"
        self._out_of_order(control.name, why)

    def _out_of_order(self, name: str, why: str) -> None:
        self._broken[name] = why
        self._controls[name].is_off()  # if the driver can do it
        self._listener.out_of_order(name, why)
