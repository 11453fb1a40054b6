"""Serial console output: split into clean lines, checked for faults, and queued for one reader."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from pytest_dispatch.core.plain_text import painted, plain
from pytest_dispatch.machines.base import Sign

WIDTH = 1000  # bytes after which a line is broken
KEPT = 2000  # signs kept for a slow reader

# Ends of lines: firmware also writes a lone carriage return, or moves the cursor or clears the screen instead
_BREAK = re.compile(rb"[\r\n]+|\x1b\[[0-9;]*[HJf]")

#: Patterns of console lines, and the faults that they indicate. From texts of EDK II (MdeModulePkg, NetworkPkg,
#: UefiCpuPkg, ArmPkg, ShellPkg) and of Linux (kernel/panic.c).
FAULTS = tuple(
    (re.compile(pattern), fault)
    for pattern, fault in (
        (r"!!!! \w+ Exception Type - (\w+\([^)]*\)?)", "EFI exception {}"),
        (r"^((?:Synchronous|IRQ|FIQ|SError) Exception at 0x\w+)", "EFI exception: {}"),
        (r"^(ASSERT(?:_EFI_ERROR)? \[.+)", "firmware stopped at an {}"),
        (r"(?<!end )Kernel panic - not syncing: (.*)", "kernel panic: {}"),
        (r"^\s*((?:Client|Server) Error: \d{3}\b.*)", "firmware was answered with an error ({})"),
        (r"^\s*(Redirection: \d{3}\b.*)", "firmware was redirected, which it does not follow ({})"),
        (r"^\s*Error: (Could not retrieve NBP file size.*)", "firmware got no answer that it can use ({})"),
        (r"^\s*(PXE-E\d+: .*)", "firmware found no boot server ({})"),
        (r"BdsDxe: failed to load Boot\w{4} .*: (.+)", "firmware could not load what it was given ({})"),
        (r"BdsDxe: failed to start Boot\w{4} .*: (.+)", "the EFI program returned an error ({})"),
        (r'BdsDxe: starting Boot\w{4} "(UiApp|\w*Menu\w*)"', "firmware went on to its setup screen ({})"),
        (r"BdsDxe: (No bootable option or device was found)", "firmware fell through its boot order ({})"),
        (r"^(UEFI Interactive Shell\b.*)", "firmware fell through its boot order ({})"),
    )
)


def fault_of(line: str) -> str:
    """Return the fault that a console line indicates, or an empty string."""
    line = plain(line)
    for pattern, fault in FAULTS:
        if found := pattern.search(line):
            return fault.format(found[1].rstrip(". "))
    return ""


class Lines:
    """Splits serial output into lines without control characters but for colours; empty lines are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Add data, and return the lines that are now complete."""
        *whole, self._rest = _BREAK.split(self._rest + data)
        while len(self._rest) > WIDTH:
            whole.append(self._rest[:WIDTH])
            self._rest = self._rest[WIDTH:]
        return self._clean(whole)

    def flush(self) -> list[str]:
        """Return the last line, if it has no end yet."""
        whole, self._rest = [self._rest], b""
        return self._clean(whole)

    def _clean(self, whole: list[bytes]) -> list[str]:
        pieces = (line[at : at + WIDTH] for line in whole for at in range(0, len(line), WIDTH))
        texts = (painted(piece.decode(errors="replace")).replace("\t", " ") for piece in pieces)
        lines = ("".join(each for each in text if each == "\x1b" or each.isprintable()).rstrip() for text in texts)
        return [line for line in lines if plain(line).strip()]


class Console:
    """What one machine shows, over all its boots, for one reader; see `machines.base.Console`."""

    def __init__(self) -> None:
        self._signs: asyncio.Queue[Sign] = asyncio.Queue(KEPT)

    def show(self, sign: Sign) -> None:
        """Append a sign; if the queue is full, drop the oldest."""
        if self._signs.full():
            self._signs.get_nowait()
        self._signs.put_nowait(sign)

    async def read(self) -> AsyncIterator[Sign]:
        """Yield the signs as they come, without end."""
        while True:
            yield await self._signs.get()
