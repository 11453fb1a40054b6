"""Machines with real UEFI firmware under QEMU, booted over HTTP from the lab: no root, no setup, half a second a boot.

To its firmware each such machine is a new, unconfigured computer, so no preparation is needed. `machines.qemu.boot`
explains why it boots so fast, `machines.qemu.board` describes the machine.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
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
from pytest_dispatch.machines.base import DrivenMachine, Sign, Spec
from pytest_dispatch.machines.qemu.board import AARCH64, LAB, X86_64, Board, Build, find_firmware
from pytest_dispatch.machines.qemu.boot import Boot
from pytest_dispatch.machines.qemu.proxydhcp import LONGEST_URL
from pytest_dispatch.machines.qemu.saved_state import SavedStates, key_of
from pytest_dispatch.machines.virtual_machine import VirtualMachine
from pytest_dispatch.support.file_stamp import FileStamp
from pytest_dispatch.support.network_errors import is_loopback

OLDEST = (6, 0)  # the first QEMU with `-action` and `pvpanic-pci`
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


class QemuMachine(VirtualMachine):
    """A machine that QEMU plays.

    Args:
        build: What it is made of.
        states: Where its saved firmware is.
        saved: Whether to use it.
        log: A file for what QEMU says.
    """

    def __init__(self, build: Build, *, states: Path, saved: bool, log: Path) -> None:
        super().__init__()
        self._build = build
        self._states = SavedStates(states, self._unsaved, wanted=saved)
        self._log = log

    async def live(self, is_on: Callable[[], None]) -> None:
        """Boot, again after every reset, until the machine powers itself off.

        Raises:
            MachineError: QEMU does not start, or firmware cannot take the URL.
        """
        again = True
        while again:
            url = url_for(self._build.board, self.new_url())
            boot = Boot(build=self._build, url=url, states=self._states, console=self.console, log=self._log)
            again = await boot.run(is_on)

    def _unsaved(self, why: str) -> None:
        self.console.show(Sign(text=f"Firmware is not saved, so each boot takes some seconds more: {why}"))


def create(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the x86-64 machines of a SPEC such as `qemu:2?memory=1024`; see `Options` for what it may hold.

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
        MachineError: QEMU or its firmware is missing or too old; says how to install it.
    """
    return _create(X86_64, spec, state)


def create_aarch64(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the AArch64 machines of a SPEC such as `qemu-aarch64`; like `create`."""
    return _create(AARCH64, spec, state)


def _create(board: Board, spec: Spec, state: Path) -> list[DrivenMachine]:
    options = read_options(spec)
    build = build_for(board, options)
    states = user_cache_path("pytest-dispatch") / "firmware-state" / _key(build)
    saved = options.saved and options.accel == "tcg"
    logs = [state / f"{spec.scheme}-{secrets.token_hex(4)}.log" for _ in range(spec.count)]
    return [QemuMachine(build, states=states, saved=saved, log=log).driven() for log in logs]


def read_options(spec: Spec) -> Options:
    """Parse the options of a SPEC.

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
    """
    values: dict[str, Any] = {}
    for key, text in spec.options:
        if key not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise ConfigError(f"{spec.given}: unknown option {key!r}; {spec.scheme} knows {known}")
        try:
            values[key] = _OPTIONS[key](text)
        except ConfigError as error:
            raise ConfigError(f"{spec.given}: expected {error} behind {key}=, got {text!r}") from error
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
