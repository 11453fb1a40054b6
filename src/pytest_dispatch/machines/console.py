"""A serial line as clean lines of text, the faults that they tell of, and the queue in which they wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.machines.base import Sign

WIDTH = 1000  # bytes after which a line is broken
KEPT = 2000  # signs kept for a reader who is late

# What ends a line: firmware also writes a lone carriage return, and moves the cursor or clears the screen instead
_BREAK = re.compile(rb"[\r\n]+|\x1b\[[0-9;]*[HJf]")

#: What a console line shows, and the fault that it names. Texts of EDK II (MdeModulePkg, NetworkPkg, UefiCpuPkg,
#: ArmPkg, ShellPkg) and of Linux (kernel/panic.c).
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
    """The name of the fault that a console line tells of, or empty."""
    for pattern, fault in FAULTS:
        if found := pattern.search(line):
            return fault.format(found[1].rstrip(". "))
    return ""


class Lines:
    """Cuts what comes over a serial line into lines without control characters; empty ones are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *whole, self._rest = _BREAK.split(self._rest + data)
        while len(self._rest) > WIDTH:
            whole.append(self._rest[:WIDTH])
            self._rest = self._rest[WIDTH:]
        return self._clean(whole)

    def flush(self) -> list[str]:
        """The last line, if it has no end."""
        whole, self._rest = [self._rest], b""
        return self._clean(whole)

    def _clean(self, whole: list[bytes]) -> list[str]:
        pieces = (line[at : at + WIDTH] for line in whole for at in range(0, len(line), WIDTH))
        texts = (plain(piece.decode(errors="replace")).replace("\t", " ") for piece in pieces)
        lines = ("".join(filter(str.isprintable, text)).rstrip() for text in texts)
        return [line for line in lines if line.strip()]


class Console:
    """What one machine shows, over all its boots, for one reader; see `machines.base.Console`."""

    def __init__(self) -> None:
        self._signs: asyncio.Queue[Sign] = asyncio.Queue(KEPT)

    def show(self, sign: Sign) -> None:
        """Put a sign at the end; if the reader is too late, the oldest is lost."""
        if self._signs.full():
            self._signs.get_nowait()
        self._signs.put_nowait(sign)

    async def read(self) -> AsyncIterator[Sign]:
        """The signs as they come, without end."""
        while True:
            yield await self._signs.get()
