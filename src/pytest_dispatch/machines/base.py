"""What the lab does to a machine that it brings up itself, and how one is found by its SPEC.

Three small protocols, any of which a machine may lack: `Power`, `BootControl`, `Console`; and a fourth, `Lender`, for
one that somebody lends to the lab. All their methods run on the lab's event loop and must not block it. A driver is a
factory registered in the entry-point group `pytest_dispatch.machines` under the SPEC's scheme (`qemu` in
`--dispatch-machine qemu:2`). It makes a `DrivenMachine` for each machine that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path


OPTION = "--dispatch-machine"
PATIENCE = 300.0  # seconds that a driver may take to power a machine off or on, or to set what it boots


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A `--dispatch-machine` value, taken apart: `scheme[:count][?key=value&…]` or `scheme://…[?key=value&…]`.

    Attributes:
        scheme: The name of the driver.
        count: How many machines.
        options: What stands behind the `?`, but for what is the same for all drivers. There may be secrets in it.
        labels: What the machines have, for requirements: what stands there as `labels=`, and their driver.
        addresses: What stands there as `address=`, one for each machine that has no boot control.
        url: The value as it was given, if it is a URL, without what is the same for all drivers. There may be secrets
            in it.
        text: The value for messages, without secrets.
        option: Where it was given, for messages: an option, or a place in the lab's configuration.
        secrets: Those that are in it.
    """

    scheme: str
    count: int = 1
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    url: str = field(default="", repr=False)
    text: str = ""
    option: str = OPTION
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def given(self) -> str:
        """Return where it was given, and the value: how messages begin."""
        return f"{self.option} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A console line, or another observation of a machine.

    Attributes:
        text: A console line without its line end, or a sentence about what happened; cut after 1,000 characters. It
            may have colours (SGR sequences), which the pages of a service show, and all others leave out.
        fault: Names a fault that the driver recognised in it ("kernel panic", "firmware fell through its
            boot order"), else empty.
        lab: Whether the lab is at fault in any case (the emulator was killed), not the workload.
    """

    text: str
    fault: str = ""
    lab: bool = False


class Power(Protocol):
    """The power of a machine. What a driver starts in this computer ends with this process, however that ends.

    Each method may raise `MachineError`, which says what is missing.
    """

    async def on(self) -> None:
        """Power on a machine that is off; returns when it is on, not when it has booted."""
        ...

    async def off(self) -> None:
        """Power off at once, within 2 s where a lab is to end in them. Does nothing if it is off."""
        ...

    async def until_off(self) -> None:
        """Return when the machine is off, whoever powered it off; at once if it is. One that resets stays on.

        A driver that has to ask for that, such as one for a BMC, asks every few seconds. One that cannot know what
        the machine does by itself, such as one for an outlet, returns after `off`.
        """
        ...


@runtime_checkable
class Troubled(Protocol):
    """A driver that says what keeps it while it goes on trying, such as somebody who does not answer.

    Attributes:
        trouble: What it is, in a sentence without secrets; empty if nothing is wrong.
    """

    @property
    def trouble(self) -> str:
        """Return it."""
        ...


class BootControl(Protocol):
    """What a machine boots.

    Each boot has a URL of its own, so that no workload can speak for the next one. All that firmware asks and the
    workload says within one boot goes to the same URL, however often firmware is told it.
    """

    async def boot_from(self, new_url: Callable[[], str]) -> None:
        """Have the machine boot over UEFI HTTP boot; called while it is off, before each power-on.

        Args:
            new_url: Makes the URL of one boot, with a token of this machine, and makes the one before good for nothing.
                A driver that sees its machine boot, also after a reset, calls it whenever that begins. One that can
                only say beforehand what is booted once, such as one for a BMC, calls it before it returns; then
                `boot_from` is called again as soon as the machine asks at that URL, for the boot that follows.
                The URL's host is the lab as seen from this computer, a loopback address unless the lab listens at
                another; a driver whose machines reach the lab elsewhere (QEMU's user network: 10.0.2.2) puts that in
                its place, and may add to the query. But for the token, one URL is like the other.

        Raises:
            MachineError: It cannot be set; says what is missing.
        """
        ...


class Console(Protocol):
    """What a machine shows."""

    def read(self) -> AsyncIterator[Sign]:
        """Yield what the machine shows, as it shows it, without the tokens of its boot URLs.

        An asynchronous generator for one reader: goes on while the machine is powered off and on, ends with `aclose`
        or with the task that reads it. Lines that nobody reads in time may be lost, the oldest first.
        """
        ...


class Lender(Protocol):
    """Whoever lends a machine to the lab, and wants to know how it is. The machine is taken by `Power.on`.

    Each method may be called again, and may raise `MachineError`, which says what was not done.
    """

    async def release(self) -> None:
        """Give the machine back, which is off; does nothing if it was not taken."""
        ...

    async def broken(self, why: str) -> None:
        """Note that the lab does not use the machine any more, because it holds it as broken; it may be on.

        It is powered on again, without `fixed`, when it is checked.
        """
        ...

    async def fixed(self) -> None:
        """Note that the machine is back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenMachine:
    """One machine, and what drives it; None for what it lacks.

    Attributes:
        name: How it is called; empty for the scheme and a number.
        labels: What it has, for requirements. Those of the SPEC are added.
        address: By which it is known if it has no boot control. The SPEC says it.
        lender: Who lends it to the lab; None if nobody is to be told.
        patience: Seconds within which it is powered on.
        secrets: Texts that are not to be shown, such as the password of its BMC. Those of the SPEC are added.
    """

    name: str = ""
    power: Power | None = None
    boot: BootControl | None = None
    console: Console | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    lender: Lender | None = None
    patience: float = PATIENCE
    secrets: tuple[str, ...] = field(default=(), repr=False)


class Factory(Protocol):
    """The object that an entry point in the group `pytest_dispatch.machines` refers to."""

    def __call__(self, spec: Spec, state: Path) -> Sequence[DrivenMachine]:
        """Make the machines of a SPEC, without starting anything.

        Args:
            spec: What the user asked for.
            state: A folder for this session only, for sockets and logs; removed when the session ends.

        Raises:
            ConfigError: The SPEC has options that the driver does not know.
            MachineError: Something is missing on this computer; says which package contains it.
        """
        ...
