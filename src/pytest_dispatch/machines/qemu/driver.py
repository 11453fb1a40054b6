"""Machines with real UEFI firmware under QEMU, booted over HTTP from the lab: no root, no setup, half a second a boot.

To its firmware each such machine is a new, unconfigured computer, so no preparation is needed. `machines.qemu.boot`
explains why it boots so fast, `machines.qemu.board` describes the machine.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from platformdirs import user_cache_path

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import without_secrets
from pytest_dispatch.machines.base import Machine, Sign, Spec
from pytest_dispatch.machines.console import Console
from pytest_dispatch.machines.qemu.board import AARCH64, LAB, X86_64, Board, Build, find_firmware
from pytest_dispatch.machines.qemu.boot import Boot
from pytest_dispatch.machines.qemu.proxydhcp import LONGEST_URL
from pytest_dispatch.machines.qemu.saved_state import SavedStates, key_of
from pytest_dispatch.support.file_stamp import FileStamp
from pytest_dispatch.support.network_errors import is_loopback

OLDEST = (6, 0)  # the first QEMU with `-action` and `pvpanic-pci`
STOP = 1.5  # seconds in which a killed QEMU must be gone
_ANSWER = 10.0  # seconds that `--version` may take
_FORMAT = 1  # increase it to invalidate the states that earlier versions saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options after the `?` of a SPEC.

    Attributes:
        memory: MiB. A disk image is booted from memory, so it needs twice its size and 256 MiB more.
        accel: QEMU's accelerator: `tcg` (default) or `kvm`.
        code: The firmware's code, if not the distribution's.
        vars: Its empty variables.
        saved: Whether boots start from saved firmware; not with KVM, whose states are bound to one processor.
    """

    memory: int = 512
    accel: str = "tcg"
    code: str = ""
    vars: str = ""
    saved: bool = True


def _number(least: int, most: int, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(f"a number from {least} to {most}")
    return int(text)


def _one_of(values: Mapping[str, Any], text: str) -> Any:
    if text not in values:
        raise ConfigError(" or ".join(values))
    return values[text]


_OPTIONS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "memory": partial(_number, 128, 1 << 20),
        "accel": partial(_one_of, {"tcg": "tcg", "kvm": "kvm"}),
        "code": str,
        "vars": str,
        "saved": partial(_one_of, {"on": True, "off": False}),
    }
)


class QemuMachine:
    """A machine emulated by QEMU. See `machines.base.Machine` for its methods.

    Args:
        name: Its name.
        build: What determines the machine.
        states: The folder of its saved firmware.
        saved: Whether to use saved firmware.
        log: A file for QEMU's output.
    """

    def __init__(self, name: str, build: Build, *, states: Path, saved: bool, log: Path) -> None:
        self.name = name
        self._build = build
        self._console = Console()
        self._states = SavedStates(states, self._unsaved, wanted=saved)
        self._log = log
        self._life: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Return whether it is powered on."""
        return self._life is not None and not self._life.done()

    async def start(self, new_url: Callable[[], str]) -> None:
        """Power on and boot, again after every reset, until the machine powers itself off.

        Raises:
            MachineError: QEMU does not start, or firmware cannot take the URL.
        """
        await self.stop()
        on = asyncio.Event()
        self._life = asyncio.create_task(self._live(new_url, on), name=self.name)
        started = asyncio.create_task(on.wait())
        try:
            await asyncio.wait([self._life, started], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            _end(self._life)
            raise
        finally:
            started.cancel()
        if not on.is_set():
            self._refuse(self._life)
        self._life.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Power off at once."""
        if self._life is not None and self.alive:
            _end(self._life)
            await asyncio.wait([self._life], timeout=STOP)

    def console(self) -> AsyncIterator[Sign]:
        """Return its console lines as they come."""
        return self._console.read()

    async def _live(self, new_url: Callable[[], str], on: asyncio.Event) -> None:
        again = True
        while again:
            url = url_for(self._build.board, new_url())
            boot = Boot(build=self._build, url=url, states=self._states, console=self._console, log=self._log)
            again = await boot.run(on.set)

    def _refuse(self, life: asyncio.Task[None]) -> None:
        """Raise the error with which a machine ended before it was on."""
        error = None if life.cancelled() else life.exception()
        raise error or MachineError(f"{self.name} was stopped while it was being started")

    def _ended(self, life: asyncio.Task[None]) -> None:
        """Report the error that ended a machine, such as a QEMU that did not start again after a reset."""
        error = None if life.cancelled() else life.exception()
        if error is not None:
            why = f"{self.name}: {error}"
            self._console.show(Sign(text=why, fault=why, lab=True))

    def _unsaved(self, why: str) -> None:
        self._console.show(Sign(text=f"Firmware is not saved, so each boot takes some seconds more: {why}"))


def _end(life: asyncio.Task[None]) -> None:
    """Cancel a task once: a second cancellation would interrupt its cleanup."""
    if not life.cancelling():
        life.cancel()


def create(spec: Spec, state: Path) -> list[Machine]:
    """Make the x86-64 machines of a SPEC such as `qemu:2?memory=1024`; see `Options` for its options.

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
        MachineError: QEMU or its firmware is missing or too old; says how to install it.
    """
    return _create(X86_64, spec, state)


def create_aarch64(spec: Spec, state: Path) -> list[Machine]:
    """Make the AArch64 machines of a SPEC such as `qemu-aarch64`; like `create`."""
    return _create(AARCH64, spec, state)


def _create(board: Board, spec: Spec, state: Path) -> list[Machine]:
    options = read_options(spec)
    build = build_for(board, options)
    states = user_cache_path("pytest-dispatch") / "firmware-state" / _key(build)
    names = [f"{spec.scheme}-{number}" for number in range(1, spec.count + 1)]
    return [
        QemuMachine(
            name, build, states=states, saved=options.saved and options.accel == "tcg", log=state / f"{name}.log"
        )
        for name in names
    ]


def read_options(spec: Spec) -> Options:
    """Parse the options of a SPEC.

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
    """
    values: dict[str, Any] = {}
    for key, text in spec.options:
        if key not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise ConfigError(f"--dispatch-machine {spec.text}: unknown option {key!r}; {spec.scheme} knows {known}")
        try:
            values[key] = _OPTIONS[key](text)
        except ConfigError as error:
            raise ConfigError(
                f"--dispatch-machine {spec.text}: expected {error} behind {key}=, got {text!r}"
            ) from error
    return Options(**values)


def build_for(board: Board, options: Options, environ: Mapping[str, str] = os.environ) -> Build:
    """Find QEMU and firmware on this computer, and return the machine to build.

    Raises:
        MachineError: Something is missing or too old; says how to install it.
    """
    found = shutil.which(board.binary, path=environ.get("PATH"))
    if found is None:
        raise MachineError(f"expected {board.binary} on this computer, found none: {board.qemu}")
    version = _version(board, Path(found))
    if options.accel == "kvm" and (platform.machine() != board.host or not os.access("/dev/kvm", os.R_OK | os.W_OK)):
        raise MachineError(
            f"accel=kvm needs an {board.name} computer and write access to /dev/kvm: "
            f"load its module, join the group kvm, or leave accel=kvm out"
        )
    return Build(
        board=board,
        binary=Path(found),
        version=version,
        firmware=find_firmware(board, (options.code, options.vars), environ),
        memory=options.memory,
        accel=options.accel,
    )


def _version(board: Board, binary: Path) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed list of arguments, and no shell
            [binary, "--version"],
            env=without_secrets(os.environ),
            capture_output=True,
            text=True,
            timeout=_ANSWER,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"expected {binary} --version to answer, got {error}: {board.qemu}") from error
    line = answer.stdout.partition("\n")[0]
    number = re.search(r"version (\d+)\.(\d+)", line)
    if number is None or (int(number[1]), int(number[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        said = line or plain_line(answer.stderr) or "no answer"
        raise MachineError(f"expected QEMU {wanted} or later as {binary}, got {said!r}: {board.qemu}")
    return line


def url_for(board: Board, url: str) -> str:
    """Return the boot URL with the lab's address in QEMU's user network, and with the board's `arch`.

    That address leads to 127.0.0.1 of this computer, whichever loopback address the lab was given by.

    Raises:
        MachineError: It is longer than a DHCP option can hold.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        parts = parts._replace(netloc=LAB if parts.port is None else f"{LAB}:{parts.port}")
    if board.arch:
        parts = parts._replace(query="&".join(filter(None, [parts.query, f"arch={board.arch}"])))
    target = urlunsplit(parts)
    if len(target.encode()) > LONGEST_URL or not target.isascii():
        raise MachineError(
            f"expected a boot URL of at most {LONGEST_URL} ASCII characters (one DHCP option), "
            f"got {len(target)}: choose a shorter --dispatch-path"
        )
    return target


def _key(build: Build) -> str:
    """Return the key of everything that a saved state of this machine depends on."""
    files = (build.binary, build.firmware.code, build.firmware.vars)
    return key_of(_FORMAT, build.version, [(path, FileStamp.of(path)) for path in files], build.hardware())
