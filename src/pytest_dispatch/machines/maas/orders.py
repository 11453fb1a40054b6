"""Orders to MAAS about one machine: each is carried out and seen to be, or says in one line what MAAS did not do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.maas.api import MaasApi
from pytest_dispatch.support.service_client import ServiceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from pytest_dispatch.maas.api import MaasKey, MaasMachine

T = TypeVar("T")

MANUAL = ("manual", "")  # power types of machines whose power MAAS does not control
UNKNOWN = "unknown"  # the power of a machine that MAAS cannot ask

#: What to do about a refusal, by its status.
_REMEDIES = {
    401: "is MAAS_API_KEY, or token=, the key that MAAS shows?",
    403: "the user of the key may not do that to it: give it to that user, and unlock it",
    404: "MAAS has it no more, or its address is wrong",
    409: "another one may use it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a machine is, and how patiently MAAS is asked about it.

    Attributes:
        url: Address of MAAS.
        key: Its API key.
        name: The machine's host name there.
        every: Seconds between two looks.
        settles: Seconds within which an order to its BMC shows.
        retries: Seconds for which an order is given again that MAAS could not take.
    """

    url: str
    key: MaasKey
    name: str
    every: float = 10.0
    settles: float = 120.0
    retries: float = 30.0


class _LostAnswerError(Exception):
    """An order was sent, and nobody knows whether it was carried out."""


class Orders:
    """What is ordered within one step; a context manager, as it has connections.

    Args:
        place: The machine, and its MAAS.
        tell: Is told why MAAS is asked again, and with an empty text that it has answered.
    """

    def __init__(self, place: Place, tell: Callable[[str], None] = lambda _why: None) -> None:
        self._place = place
        self._tell = tell
        self._api = MaasApi(place.url, place.key, time.monotonic)
        self._id = ""
        self._user = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.aclose()

    async def look(self) -> MaasMachine:
        """Return the machine as MAAS has it now.

        Raises:
            MachineError: MAAS does not answer, has no such machine, or lends it to somebody else.
        """
        if self._id:
            machine = await self._asked("look", lambda: self._api.machine(self._id))
        else:
            machine = await self._found()
        if machine.owner and machine.owner != self._user:
            raise MachineError(
                f"{self._place.name} is {machine.status_name} in MAAS, and {machine.owner}'s: expected it to be"
                f" nobody's, or that of the key's user, {self._user}"
            )
        return machine

    async def power(self) -> str:
        """Return whether it is `on`, `off`, or `unknown` where MAAS cannot ask.

        Raises:
            MachineError: MAAS does not answer, or its BMC does not.
        """
        state = await self._asked("ask for its power", lambda: self._api.power(self._id))
        if state == "error":
            raise MachineError(f"MAAS cannot ask the BMC of {self._place.name}; its events in MAAS say why")
        return state

    async def turn(self, state: str) -> None:
        """Order that it is powered on or off; returns when MAAS has taken the order.

        Raises:
            MachineError: MAAS does not answer, refuses, or has no control over its power.
        """
        if not await self.order(f"power it {state}", f"power_{state}"):
            raise MachineError(_no_power(self._place.name))

    async def turned(self, state: str) -> None:
        """Return when it is on or off, or when MAAS cannot ask.

        Raises:
            MachineError: It is not in time.
        """
        until, seen = time.monotonic() + self._place.settles, "not known"
        while time.monotonic() < until:
            try:
                seen = await self.power()
            except MachineError as error:
                seen = f"not known: {error}"
            if seen in (state, UNKNOWN):
                return
            await asyncio.sleep(self._place.every)
        took = format_duration(self._place.settles)
        raise MachineError(f"MAAS was told to power {self._place.name} {state}, and {took} later its power is {seen}")

    async def order(self, what: str, operation: str, *, again: bool = False, **form: str) -> bool:
        """Order an operation.

        Args:
            what: What it does, for messages.
            operation: Its name.
            again: Whether it may be ordered again if the answer is lost; else the caller looks at what came of it.
            form: Its parameters.

        Returns:
            Whether MAAS did anything.

        Raises:
            MachineError: MAAS does not answer, or refuses.
        """
        try:
            return await self._asked(what, lambda: self._api.operate(self._id, operation, **form), again=again)
        except _LostAnswerError:
            return True

    async def _found(self) -> MaasMachine:
        name = self._place.name
        found = await self._asked("look for it", lambda: self._api.named(name))
        if len(found) != 1:
            got = "none" if not found else f"{len(found)}, in several domains"
            raise MachineError(f"expected one machine of the name {name} in MAAS, got {got}; is the name right?")
        if found[0].power_type in MANUAL:
            raise MachineError(_no_power(name))
        self._user = await self._asked("say whose the key is", self._api.user)
        self._id = found[0].system_id
        return found[0]

    async def _asked(self, what: str, ask: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        """Ask, and again for a while where MAAS or a BMC could not answer just now.

        Raises:
            MachineError: There was no answer, or a refusal.
        """
        until = time.monotonic() + self._place.retries
        while True:
            try:
                answer = await ask()
            except ServiceError as error:
                self._tell(self._told(what, error))
                if not again and error.sent and not error.status:
                    raise _LostAnswerError from None
                if not error.passes or time.monotonic() >= until:
                    raise MachineError(self._told(what, error)) from None
            else:
                self._tell("")
                return answer
            await asyncio.sleep(self._place.every)

    def _told(self, what: str, error: ServiceError) -> str:
        remedy = _REMEDIES.get(error.status, "")
        return f"MAAS could not {what} ({self._place.name}): {error}{remedy and f'; {remedy}'}"


def _no_power(name: str) -> str:
    return (
        f"MAAS does not control the power of {name}, so the lab cannot either: set its power type in MAAS, or leave out"
        " its driver and power it by hand"
    )
