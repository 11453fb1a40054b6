"""A machine that this computer plays, by a program or by code: a task is its life, from power-on to power-off."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.machines.base import DrivenMachine, Sign
from pytest_dispatch.machines.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

STOP = 1.5  # seconds in which what plays it is gone


class VirtualMachine(ABC):
    """Power, boot control and console of one; a driver adds what happens in between.

    Attributes:
        console: What is to be seen of it.
        new_url: Makes the URL of its next boot.
    """

    def __init__(self) -> None:
        self.console = Console()
        self.new_url: Callable[[], str] = _nowhere
        self._life: asyncio.Task[None] | None = None

    @abstractmethod
    async def live(self, is_on: Callable[[], None]) -> None:
        """Boot from `new_url()`, again after every reset, until the machine powers itself off; then return.

        Cancelled when the machine is powered off.

        Args:
            is_on: To be called once it is on.

        Raises:
            MachineError: It cannot be brought up, or not once more; says what is missing.
        """

    def driven(self, name: str = "") -> DrivenMachine:
        """Return it as a lab has it."""
        return DrivenMachine(name=name, power=self, boot=self, console=self.console)

    async def boot_from(self, new_url: Callable[[], str]) -> None:
        """Have its boots begin there."""
        self.new_url = new_url

    async def on(self) -> None:
        """Let it live; returns when it is on.

        Raises:
            MachineError: It cannot be brought up.
        """
        on = asyncio.Event()
        life = self._life = asyncio.create_task(self.live(on.set), name="the life of a machine")
        started = asyncio.create_task(on.wait())
        try:
            await asyncio.wait([life, started], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            _end(life)
            raise
        finally:
            started.cancel()
        if not on.is_set():
            raise _error_of(life) or MachineError("it was powered off while it was being powered on")
        life.add_done_callback(self._ended)

    async def off(self) -> None:
        """End its life at once."""
        if self._life is not None and not self._life.done():
            _end(self._life)
            await asyncio.wait([self._life], timeout=STOP)

    async def until_off(self) -> None:
        """Return when its life is over."""
        if self._life is not None:
            await asyncio.wait([self._life])

    def _ended(self, life: asyncio.Task[None]) -> None:
        """Name what ended a life against the rules."""
        if error := _error_of(life):
            self.console.show(Sign(text=str(error), fault=str(error), lab=True))


def _end(life: asyncio.Task[None]) -> None:
    """Cancel it once: a second time would cancel its cleaning up."""
    if not life.cancelling():
        life.cancel()


def _error_of(life: asyncio.Task[None]) -> MachineError | None:
    """Return what a life ended by, if that was an error."""
    error = None if life.cancelled() or not life.done() else life.exception()
    if error is None or isinstance(error, MachineError):
        return error
    told = MachineError(f"its driver raised {what_was_raised(error)}")
    told.__cause__ = error
    return told


def _nowhere() -> str:
    raise MachineError("expected to be told where to boot from before it is powered on, got nothing")
