"""A serial line as clean lines, and the faults that they tell of."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.console import KEPT, WIDTH, Console, Lines, fault_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BOOT = 'Boot0001 "UEFI HTTPv4 (MAC:525400123456)" from PciRoot(0x0)/Pci(0x1,0x0)/MAC(525400123456,0x1)/Uri()'


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\ntwo\n\n\r\n  \n", ["one", "two"]),
        (b"\r  Downloading...50%\r  Downloading...100%\r\n", ["  Downloading...50%", "  Downloading...100%"]),
        (b"\x1b[2J\x1b[01;01H\x1b[0m\x1b[37m\x1b[40mBdsDxe: loading\r\n", ["\x1b[0m\x1b[37m\x1b[40mBdsDxe: loading"]),
        (b"\x1b[08;04HSelect Language   \x1b[10;02H>\x1b[10;04HBoot\r\n", ["Select Language", ">", "Boot"]),
        (b"a\x1b]0;title\x07b\tc\x00d\x7fe\xc2\x9bf\r\n", ["ab cdef"]),
        ("Grüße \u202egnp.exe\r\n".encode(), ["Grüße gnp.exe"]),
        (b"\x1b[1;31mred\x1b[0m \x1b[5Aup\n\x1b[32m  \x1b[0m\n", ["\x1b[1;31mred\x1b[0m up"]),
        (b"\xff\xfe broken\n", ["\ufffd\ufffd broken"]),
        (b"no end", []),
        (b"x" * (WIDTH + 1) + b"\ny\n", ["x" * WIDTH, "x", "y"]),
        (b"x" * (WIDTH + 1), ["x" * WIDTH]),
    ],
)
def test_lines_are_cut_and_cleaned(data: bytes, lines: list[str]) -> None:
    assert Lines().feed(data) == lines


def test_a_line_without_an_end_is_given_at_the_end() -> None:
    lines = Lines()
    assert lines.feed(b"done\nShe") == ["done"]
    assert lines.feed(b"ll> \x1b[3") == []
    assert lines.flush() == ["Shell> 3"]
    assert lines.flush() == []


@given(st.lists(st.binary(max_size=40)))
def test_however_it_is_cut_into_pieces_the_text_is_the_same(pieces: list[bytes]) -> None:
    whole, cut = Lines(), Lines()
    expected = whole.feed(b"".join(pieces)) + whole.flush()
    got = [line for piece in pieces for line in cut.feed(piece)] + cut.flush()
    assert got == expected
    assert all(plain(line).isprintable() and len(line) <= WIDTH for line in got)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "!!!! X64 Exception Type - 0D(#GP - General Protection)  CPU Apic ID - 00000000 !!!!",
            "EFI exception 0D(#GP - General Protection)",
        ),
        (
            "!!!! IA32 Exception Type - 0E(#PF - Page-Fault)  CPU Apic ID - 00000000 !!!!",
            "EFI exception 0E(#PF - Page-Fault)",
        ),
        ("Synchronous Exception at 0x000000004C74301C", "EFI exception: Synchronous Exception at 0x000000004C74301C"),
        ("SError Exception at 0x0000000000000000", "EFI exception: SError Exception at 0x0000000000000000"),
        (
            "ASSERT [DxeCore] /edk2/Dxe/Hand.c(12): Handle != ((void *) 0)",
            "firmware stopped at an ASSERT [DxeCore] /edk2/Dxe/Hand.c(12): Handle != ((void *) 0)",
        ),
        (
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs",
            "kernel panic: VFS: Unable to mount root fs",
        ),
        ("  Client Error: 404 Not Found", "firmware was answered with an error (Client Error: 404 Not Found)"),
        (
            "  Server Error: 503 Service Unavailable",
            "firmware was answered with an error (Server Error: 503 Service Unavailable)",
        ),
        ("  Redirection: 302 Found", "firmware was redirected, which it does not follow (Redirection: 302 Found)"),
        (
            "  Error: Could not retrieve NBP file size from HTTP server.",
            "firmware got no answer that it can use (Could not retrieve NBP file size from HTTP server)",
        ),
        ("  PXE-E18: Server response timeout.", "firmware found no boot server (PXE-E18: Server response timeout)"),
        (f"BdsDxe: failed to load {BOOT}: Not Found", "firmware could not load what it was given (Not Found)"),
        (f"  Downloading...100%BdsDxe: failed to start {BOOT}: Aborted", "the EFI program returned an error (Aborted)"),
        ('BdsDxe: starting Boot0000 "UiApp" from Fv(7CB8BDC9)', "firmware went on to its setup screen (UiApp)"),
        (
            "BdsDxe: No bootable option or device was found.",
            "firmware fell through its boot order (No bootable option or device was found)",
        ),
        ("UEFI Interactive Shell v2.2", "firmware fell through its boot order (UEFI Interactive Shell v2.2)"),
        (f"BdsDxe: starting {BOOT}", ""),
        ("---[ end Kernel panic - not syncing: VFS ]---", ""),
        ("GET /x: Client Error: 404 Not Found", ""),
        ("retrying after Error: Could not retrieve NBP file size", ""),
        ("Welcome to the UEFI Interactive Shell", ""),
        ("", ""),
    ],
)
def test_faults_are_named(line: str, fault: str) -> None:
    assert fault_of(line) == fault


@pytest.mark.anyio
async def test_a_reader_gets_every_sign_and_may_end() -> None:
    console = Console()
    console.show(Sign(text="one"))
    reader = cast("AsyncGenerator[Sign]", console.read())
    async with aclosing(reader):
        assert await anext(reader) == Sign(text="one")
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        console.show(Sign(text="two", fault="kernel panic"))
        assert await waiting == Sign(text="two", fault="kernel panic")
    assert await anext(reader, None) is None


@pytest.mark.anyio
async def test_a_console_that_nobody_reads_keeps_the_newest() -> None:
    console = Console()
    for number in range(KEPT + 5):
        console.show(Sign(text=str(number)))
    reader = cast("AsyncGenerator[Sign]", console.read())
    async with aclosing(reader):
        assert [(await anext(reader)).text for _ in range(KEPT)] == [str(number) for number in range(5, KEPT + 5)]
