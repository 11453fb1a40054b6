"""Calls of drivers: bounded in time, and what comes of them without the secrets that the drivers were given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import LabError, MachineError
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.core.secrets import blotted
from pytest_dispatch.machines.base import PATIENCE, DrivenMachine, Sign


async def within(machine: DrivenMachine, step: Awaitable[None], what: str, seconds: float = PATIENCE) -> None:
    """Wait for a driver, but not for ever.

    Raises:
        MachineError: It says so, or does not get it done in time.
        LabError: It raised something else, with a secret in its words.
    """
    with discreet(machine):
        try:
            async with asyncio.timeout(seconds) as limit:
                await step
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise MachineError(f"expected it to be {what} within {format_duration(seconds)}, and it was not") from error


def without_secrets(machine: DrivenMachine, sign: Sign) -> Sign:
    """Return a sign of a machine without the machine's secrets."""
    if not machine.secrets:
        return sign
    return replace(sign, text=blotted(sign.text, machine.secrets), fault=blotted(sign.fault, machine.secrets))


@contextmanager
def discreet(machine: DrivenMachine) -> Iterator[None]:
    """Let nothing be raised that has one of a machine's secrets in its words.

    Raises:
        MachineError: What was raised is one, here in other words.
        LabError: It is something else.
    """
    try:
        yield
    except Exception as error:
        said = str(error) if isinstance(error, MachineError) else what_was_raised(error)
        told = blotted(said, machine.secrets)
        if told == said:
            raise
        if isinstance(error, MachineError):
            raise MachineError(told) from None
        why = f"the lab is broken: the driver of {machine.name} raised {told}; report this to the driver's author"
        raise LabError(why) from None
