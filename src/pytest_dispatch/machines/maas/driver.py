"""Machines of a MAAS: `maas://node-7`. It powers them; what they boot, their firmware and its network decide.

MAAS has no operation that says what a machine boots once. So such a machine has no boot control: it boots the lab's URL
by itself, and is known by its address.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.machines.base import PATIENCE, DrivenMachine
from pytest_dispatch.machines.maas.options import read_options
from pytest_dispatch.machines.maas.orders import UNKNOWN, Orders, Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pytest_dispatch.maas.api import MaasMachine
    from pytest_dispatch.machines.base import Spec

DEPLOYMENT = 3600.0  # seconds that MAAS may take to deploy a machine, and to release one that failed
COMMENT = "pytest-dispatch"  # what MAAS's events say of our orders
WORDS = 200  # most characters of why a machine is broken

MARK = {"pytest-dispatch": "taken"}  # noted of a machine that we took; MAAS forgets it when the machine is released


class MaasControl:
    """Power of one machine, and MAAS as the one who lends it.

    Args:
        place: The machine, and its MAAS.
        deploys: The release that it is deployed with when it is taken; empty if it is deployed already, and stays so.
        marks: Whether MAAS is told that it is broken.

    Attributes:
        trouble: Why MAAS is asked again, or did not do what it was last asked; empty if it did.
    """

    def __init__(self, place: Place, *, deploys: str = "", marks: bool = False) -> None:
        self._place = place
        self._deploys = deploys
        self._marks = marks
        self._took = False  # we have had it deployed, and nobody has said yet that it was given back
        self._marked = False  # we said that it is broken
        self._may_be_on = False  # it was told to go on, and has not been seen off since
        self._off = asyncio.Event()
        self._off.set()
        self.trouble = ""

    def driven(self) -> DrivenMachine:
        """Return the machine with what drives it."""
        return DrivenMachine(
            name=self._place.name,
            power=self,
            lender=self if self._deploys else None,
            patience=PATIENCE + DEPLOYMENT * bool(self._deploys),
            secrets=(self._place.key.secret.reveal(),),
        )

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble

    # Power

    async def on(self) -> None:
        """Power it on; first, if it is lent for that, have it deployed, as MAAS powers on nothing else.

        Raises:
            MachineError: MAAS does not do it, or it is not deployed; says how it stands.
        """
        async with Orders(self._place, self._tell) as orders:
            await self._take(orders)
            self._may_be_on = True
            self._off.clear()
            await orders.turn("on")
            await orders.turned("on")

    async def off(self) -> None:
        """Power it off, unless it is off.

        Raises:
            MachineError: MAAS does not do it.
        """
        async with Orders(self._place, self._tell) as orders:
            await orders.look()
            if self._may_be_on or await orders.power() != "off":
                await orders.turn("off")
        self._off.set()

    async def until_off(self) -> None:
        """Return when it is off; one of which MAAS cannot tell, after `off`.

        Raises:
            MachineError: MAAS does not answer.
        """
        async with Orders(self._place, self._tell) as orders:
            await orders.look()
            while (state := await orders.power()) != "off":
                if state == UNKNOWN:
                    await self._off.wait()
                    break
                await asyncio.sleep(self._place.every)
        self._may_be_on = False

    # Who lends it

    async def release(self) -> None:
        """Release it, if a lab took it; what somebody else has deployed is left as it is.

        Raises:
            MachineError: MAAS does not do it.
        """
        async with Orders(self._place, self._tell) as orders:
            machine = await orders.look()
            if machine.owner and (self._took or _is_taken(machine)):
                await orders.order("release it", "release", again=True, comment=COMMENT)
        self._took = False

    async def broken(self, why: str) -> None:
        """Mark it as broken, if that is wanted; MAAS then takes it back and powers it off.

        Raises:
            MachineError: MAAS does not do it.
        """
        if not self._marks:
            return
        async with Orders(self._place, self._tell) as orders:
            if (await orders.look()).status_name != "Broken":
                said = f"{COMMENT}: {plain_line(why, WORDS)}"
                await orders.order("mark it as broken", "mark_broken", again=True, comment=said)
        self._marked, self._took, self._may_be_on = True, False, False

    async def fixed(self) -> None:
        """Mark it as fixed, if it is broken.

        Raises:
            MachineError: MAAS does not do it.
        """
        if not self._marks:
            return
        async with Orders(self._place, self._tell) as orders:
            if (await orders.look()).status_name == "Broken":
                await orders.order("mark it as fixed", "mark_fixed", comment=COMMENT)
        self._marked = False

    # Taking it

    async def _take(self, orders: Orders) -> None:
        """Return when it is deployed, and off if it was deployed just now."""
        begun = False
        while True:
            machine = await orders.look()
            if begun and machine.owner and not _is_taken(machine):
                await orders.order("note that the lab has it", "set_owner_data", again=True, **MARK)
            if machine.status_name == "Deployed":
                break
            step = self._steps(machine).get(machine.status_name)
            if step is None or (begun and machine.status_name == "Failed deployment"):
                raise MachineError(self._unusable(machine))
            begun = begun or step is MaasControl._deploy
            await step(self, orders)
            if step is not MaasControl._deploy:  # then it is looked at at once, and noted as taken
                await asyncio.sleep(self._place.every)
        if begun:
            await orders.turn("off")
            await orders.turned("off")

    async def _deploy(self, orders: Orders) -> None:
        self._took = True  # before the order, whose answer may be lost, or come when nobody waits for it any more
        await orders.order("deploy it", "deploy", distro_series=self._deploys, comment=COMMENT)

    async def _fix(self, orders: Orders) -> None:
        await orders.order("mark it as fixed", "mark_fixed", comment=COMMENT)
        self._marked = False

    async def _give_up(self, orders: Orders) -> None:
        await orders.order("release it", "release", again=True, comment=COMMENT)

    async def _wait(self, orders: Orders) -> None:
        """Wait for MAAS."""

    def _steps(self, machine: MaasMachine) -> Mapping[str, Callable[[MaasControl, Orders], Awaitable[None]]]:
        """Return what leads from each state towards `Deployed`."""
        if not self._deploys:
            return {}
        steps = {
            "Ready": MaasControl._deploy,
            "Deploying": MaasControl._wait,
            "Releasing": MaasControl._wait,
        }
        ours = {"Failed deployment": MaasControl._give_up} if _is_taken(machine) else {}
        return {**steps, **ours, **({"Broken": MaasControl._fix} if self._marked else {})}

    def _unusable(self, machine: MaasMachine) -> str:
        said = f": {plain_line(machine.status_message, WORDS)}" if machine.status_message else ""
        then = {
            "Broken": "mark it as fixed there",
            "Ready": "deploy it, or have the lab do that by deploy=",
            "Allocated": "deploy it, or release it and have the lab deploy it by deploy=",
        }.get(machine.status_name, "look at its events there")
        return f"{self._place.name} is {machine.status_name} in MAAS{said}; expected it to be Deployed: {then}"


def _is_taken(machine: MaasMachine) -> bool:
    return MARK.items() <= machine.owner_data.items()


def create(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the machines of a SPEC such as `maas://node-7,node-8?address=10.0.0.7,10.0.0.8`.

    Options: see `options.read_options`.

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
        MachineError: Neither the SPEC nor the environment says where MAAS is, or has a key.
    """
    del state  # it writes nothing to disk
    given = read_options(spec, os.environ)
    names = spec.url.partition("://")[2].partition("?")[0].strip("/").split(",")
    if not all(names):
        raise ConfigError(f"{spec.given}: expected names of machines, as in maas://node-7,node-8, got none")
    return [
        MaasControl(
            Place(url=given.url, key=given.key, name=name, every=given.every), deploys=given.deploy, marks=given.marks
        ).driven()
        for name in names
    ]
