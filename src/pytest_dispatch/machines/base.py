"""The protocol of machines that the lab starts itself, and of the drivers that make them.

A driver is a factory registered in the entry-point group `pytest_dispatch.machines` under the SPEC's scheme (`qemu` in
`--dispatch-machine qemu:2`). It makes one `Machine` for each machine that is asked for.
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
    """A parsed `--dispatch-machine` value: `scheme[:count][?key=value&…]` or `scheme://…`.

    Attributes:
        scheme: The name of the driver.
        count: How many machines.
        options: The options after the `?`, without the labels.
        labels: Labels of the machines, for requirements: those given as `labels=`, and the driver's name.
        text: The value as it was given, for messages.
    """

    scheme: str
    count: int = 1
    options: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A console line, or another observation of a machine.

    Attributes:
        text: A console line without its line end, or a sentence about what happened; cut after 1,000 characters.
        fault: Names a fault that the driver recognised in it ("kernel panic", "firmware fell through its
            boot order"), else empty.
        lab: Whether the lab is at fault in any case (the emulator was killed), not the workload.
    """

    text: str
    fault: str = ""
    lab: bool = False


class Machine(Protocol):
    """One machine with its power button and its console.

    All methods run on the lab's event loop and must not block it. `start` and `stop` may be called repeatedly: a
    machine whose workload hung is stopped and started. Everything that a driver starts ends with this process, however
    the process ends.
    """

    name: str

    async def start(self, new_url: Callable[[], str]) -> None:
        """Power on and boot over UEFI HTTP boot, again after every reset, until the machine powers itself off.

        Each boot has its own URL, so that a workload cannot send messages in the name of the next one. `new_url()` is
        called once at the beginning of each boot, and invalidates the previous URL. All requests of firmware and
        workload within one boot go to the same URL, however often firmware is told it.

        Returns when the machine is on, not when it has booted. A machine that is on is powered off first. After a fault
        a driver takes no action itself: it names the fault on the console, and the lab stops and starts the machine.

        Args:
            new_url: Makes the URL of the next boot, with a token of this machine; must not be called after the machine
                was stopped. The URL's host is the lab as seen from this computer, a loopback address. A driver whose
                machines reach the lab by another address (QEMU's user network: 10.0.2.2) replaces the host, and may add
                to the query. The URLs differ in the token only.

        Raises:
            MachineError: It cannot be started; says what is missing. The machine is off.
        """
        ...

    async def stop(self) -> None:
        """Power off at once, within 2 s; do nothing if it is off."""
        ...

    @property
    def alive(self) -> bool:
        """Return whether it is powered on; a machine that resets stays on."""
        ...

    def console(self) -> AsyncIterator[Sign]:
        """Return the machine's console lines as they come, without the tokens of its boot URLs.

        An asynchronous generator for one reader. It continues across stop and start, and ends with `aclose` or with the
        task that reads it. Lines that are not read in time may be lost, the oldest first.
        """
        ...


class Factory(Protocol):
    """The object that an entry point in the group `pytest_dispatch.machines` refers to."""

    def __call__(self, spec: Spec, state: Path) -> list[Machine]:
        """Make the machines of a SPEC, without starting anything.

        Args:
            spec: What the user asked for.
            state: A folder for this session only, for sockets and logs; removed when the session ends.

        Raises:
            ConfigError: The SPEC has options that the driver does not know.
            MachineError: Something is missing on this computer; says which package contains it.
        """
        ...
