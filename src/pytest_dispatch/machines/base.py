"""What a machine that we bring up ourselves has to be able to do, and how one is found by its SPEC.

A driver is a factory registered in the entry-point group `pytest_dispatch.machines` under the SPEC's scheme
(`qemu` in `--dispatch-machine qemu:2`). It makes one `Machine` for each machine that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A `--dispatch-machine` value, taken apart: `scheme[:count][?key=value&…]` or `scheme://…`.

    Attributes:
        scheme: Which driver.
        count: How many machines.
        options: What stands behind the `?`, but for the labels.
        labels: What the machines have, for requirements: what stands there as `labels=`, and their driver.
        text: The value as it was given, for messages.
    """

    scheme: str
    count: int = 1
    options: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Something a machine showed of itself.

    Attributes:
        text: A console line without its line end, or a sentence about what happened; cut after 1,000 characters.
        fault: Names a fault that the driver recognised in it ("kernel panic", "firmware fell through its
            boot order"), else empty.
        lab: The fault is the lab's whenever it happens (the emulator was killed), not the workload's.
    """

    text: str
    fault: str = ""
    lab: bool = False


class Machine(Protocol):
    """One machine with its power button and its console.

    All methods run on the lab's event loop and must not block it. `start` and `stop` may be called again and
    again: a machine whose workload hung is stopped and started. What a driver starts ends with this process,
    however it ends.
    """

    name: str

    async def start(self, new_url: Callable[[], str]) -> None:
        """Power on and boot over UEFI HTTP boot, again after every reset, until the machine powers itself off.

        Each boot has a URL of its own, so that no workload can speak for the next one: `new_url()` is called once for
        each, when it begins, and the URL before is then good for nothing. All that firmware asks and the workload says
        within one boot goes to the same URL, however often firmware is told it.

        Returns when the machine is on, not when it has booted. A machine that is on is powered off first.
        After a fault a driver does nothing by itself: it names the fault on the console, and the lab stops and
        starts the machine.

        Args:
            new_url: Makes the boot URL of the next boot, with a token of this machine; not to be called any more once
                the machine is stopped. The URL's host is the lab as seen from this computer, a loopback address; a
                driver whose machines reach the lab by another address (QEMU's user network: 10.0.2.2) puts that in
                its place, and may add to the query. But for the token, one URL is like the other.

        Raises:
            MachineError: It cannot be brought up; says what is missing. The machine is off.
        """
        ...

    async def stop(self) -> None:
        """Power off at once, within 2 s. Does nothing if it is off."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it is powered on; a machine that resets stays on."""
        ...

    def console(self) -> AsyncIterator[Sign]:
        """What the machine shows, as it shows it, without the tokens of its boot URLs.

        An asynchronous generator for one reader: goes on over stop and start, ends with `aclose` or with the task
        that reads it. Lines that nobody reads in time may be lost, the oldest first.
        """
        ...


class Factory(Protocol):
    """What an entry point in the group `pytest_dispatch.machines` refers to."""

    def __call__(self, spec: Spec, state: Path) -> list[Machine]:
        """Make the machines of a SPEC, without starting anything.

        Args:
            spec: What the user asked for.
            state: A folder of this session alone, for sockets and logs; removed when the session ends.

        Raises:
            ConfigError: The SPEC has options that the driver does not know.
            MachineError: Something is missing on this computer; says which package has it.
        """
        ...
