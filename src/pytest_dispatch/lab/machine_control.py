"""One machine that the lab brings up itself: switched off and on, told what it boots, watched until it goes off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.secrets import blotted
from pytest_dispatch.lab.driver_calls import discreet, within, without_secrets
from pytest_dispatch.machines.base import BootControl, Console, DrivenMachine, Power, Sign, Troubled

AGAIN = 5.0  # seconds


class MachineListener(Protocol):
    """Who is told what becomes of machines."""

    def shown(self, machine: str, sign: Sign) -> None:
        """Note what a machine showed."""
        ...

    def went_off(self, machine: str) -> None:
        """Note that a machine is off which the lab has not powered off."""
        ...

    def by_hand(self, machine: str) -> None:
        """Note that somebody has to power a machine on, or off and on: the lab cannot."""
        ...

    def out_of_order(self, machine: str, why: str) -> None:
        """Note that a machine cannot be brought up."""
        ...

    def watch(self, task: asyncio.Task[None]) -> None:
        """Watch a task that must not die unnoticed."""
        ...


class MachineControl:
    """Whatever the machine's drivers can do; what it lacks is left out.

    Args:
        machine: With its drivers.
        new_url: Makes the URL of a boot, which replaces the one before.
        next_url: Makes one that does so once it is asked at.
        listener: Is told what becomes of it.
        now: Tells the time.
        again: Seconds after which a driver is asked once more whether a machine is off, where it could not tell.

    Attributes:
        on_since: When it was brought up; None if it was not, or is known to be off since.
    """

    def __init__(
        self,
        machine: DrivenMachine,
        *,
        new_url: Callable[[], str],
        next_url: Callable[[], str],
        listener: MachineListener,
        now: Callable[[], float],
        again: float = AGAIN,
    ) -> None:
        self._machine = machine
        self._new_url = new_url
        self._next_url = next_url
        self._listener = listener
        self._now = now
        self._again = again
        self._boots_once = False  # what it boots has to be said beforehand for each boot
        self._tasks: list[asyncio.Task[None]] = []  # what is done about it while it is on
        self.on_since: float | None = None

    @property
    def name(self) -> str:
        """Return how it is called."""
        return self._machine.name

    @property
    def has_power(self) -> bool:
        """Tell whether the lab controls its power."""
        return self._machine.power is not None

    @property
    def is_lent(self) -> bool:
        """Tell whether somebody lends it to the lab, who is told how it is."""
        return self._machine.lender is not None

    @property
    def trouble(self) -> str:
        """Return what keeps its drivers, as they say it; empty if nothing is known to."""
        driver: object = self._machine.power
        return blotted(driver.trouble, self._machine.secrets) if isinstance(driver, Troubled) else ""

    def listen(self) -> list[asyncio.Task[None]]:
        """Read its console, if it has one; returns the task that does."""
        if self._machine.console is None:
            return []
        reading = self._read(self._machine.console)
        return [asyncio.create_task(reading, name=f"the reader of {self.name}'s console")]

    async def off(self, *, wait: bool = True) -> None:
        """Power it off, and wait until it is.

        Args:
            wait: Longer than its driver does.

        Raises:
            MachineError: It stays on.
        """
        if self._machine.power is not None:
            await within(self._machine, self._machine.power.off(), "powered off")
        self.is_off()
        if self._machine.power is not None and wait:
            await within(self._machine, self._machine.power.until_off(), "off")

    async def on(self, boots: Callable[[], None]) -> None:
        """Have it boot, which is off; where the lab cannot, it says that somebody has to.

        Args:
            boots: Called when it is told what to boot, or would boot by itself.

        Raises:
            MachineError: It cannot be brought up.
        """
        asked = 0

        def new_url() -> str:
            nonlocal asked
            asked += 1
            boots()
            return self._new_url()

        if self._machine.boot is None:
            boots()
        else:
            await within(self._machine, self._machine.boot.boot_from(new_url), "told what to boot")
            self._boots_once = asked > 0
        if self._machine.power is None:
            self._listener.by_hand(self.name)
        else:
            await within(self._machine, self._machine.power.on(), "powered on", self._machine.patience)
            self._begin(self._watch(self._machine.power), f"the power of {self.name}")
        self.on_since = self._now()

    async def give_back(self) -> None:
        """Give it back, which is off for good, to whoever lends it; shows why that cannot be done."""
        if self._machine.lender is None:
            return
        try:
            await within(self._machine, self._machine.lender.release(), "given back")
        except MachineError as error:
            self._listener.shown(self.name, Sign(text=f"it was not given back: {error}"))

    async def say(self, why_broken: str) -> None:
        """Tell whoever lends it that it is broken, and why, or with an empty reason that it is not.

        Raises:
            MachineError: That was not possible.
        """
        if self._machine.lender is not None:
            lender = self._machine.lender
            word = lender.broken(why_broken) if why_broken else lender.fixed()
            await within(self._machine, word, "said to be broken" if why_broken else "said to be fixed")

    def is_off(self) -> None:
        """Note that it is off, or about to be; nothing more is done about it."""
        self.on_since = None
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def begins(self) -> None:
        """Say what it boots next, now that a boot has begun, where that cannot be said later."""
        if self._boots_once and self._machine.boot is not None:
            self._begin(self._arm(self._machine.boot), f"the next boot of {self.name}")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        self._listener.watch(task)

    async def _arm(self, boot: BootControl) -> None:
        try:
            await within(self._machine, boot.boot_from(self._next_url), "told what to boot next")
        except MachineError as error:
            self._listener.shown(self.name, Sign(text=f"it may not come back by itself: {error}"))

    async def _watch(self, power: Power) -> None:
        """Wait for it to go off by itself."""
        while True:
            try:
                with discreet(self._machine):
                    await power.until_off()
                break
            except MachineError as error:
                self._listener.shown(self.name, Sign(text=f"whether it is on cannot be told: {error}"))
                await asyncio.sleep(self._again)
        self.on_since = None
        self._listener.went_off(self.name)

    async def _read(self, console: Console) -> None:
        with discreet(self._machine):
            async for sign in console.read():
                self._listener.shown(self.name, without_secrets(self._machine, sign))
