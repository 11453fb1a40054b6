"""Assembles EFI programs of one KiB, so that tests can boot machines without a compiler.

Sources: the PE32+ format (Microsoft's PE specification) and the UEFI specification 2.10, section 4 (system table:
`ConOut` at 64, `RuntimeServices` at 88; `ResetSystem` at 104 of these).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_ALIGNED = 0x200  # alignment of a file's sections in bytes
_PAGE = 0x1000
_ABORTED = 0x8000000000000015  # EFI_ABORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Processor:
    """The machine code for one processor.

    Attributes:
        machine: Number of the processor in a PE header.
        show: Returns code that shows the text that is a given number of bytes after that code.
        ends: Code for each way in which a program can end.
    """

    machine: int
    show: Callable[[int], bytes]
    ends: Mapping[str, bytes]


def _show_x64(behind: int) -> bytes:
    return (
        bytes.fromhex("53 4883ec20")  # push rbx; sub rsp, 32
        + bytes.fromhex("4889d3 488b4a40")  # mov rbx, rdx; mov rcx, [rdx+64]
        + bytes.fromhex("488d15")  # lea rdx, [rip + 3 + behind]
        + struct.pack("<i", 3 + behind)
        + bytes.fromhex("ff5108")  # call [rcx+8]
    )


def _reset_x64(kind: int) -> bytes:
    return (
        bytes([0xB9, kind, 0, 0, 0])  # mov ecx, kind
        + bytes.fromhex("31d2 4531c0 4531c9")  # xor edx, edx; xor r8d, r8d; xor r9d, r9d
        + bytes.fromhex("488b4358 ff5068")  # mov rax, [rbx+88]; call [rax+104]
    )


def _show_aa64(behind: int) -> bytes:
    return _words(
        *(0xA9BE7BFD, 0xF9000BF3),  # stp x29, x30, [sp, #-32]!; str x19, [sp, #16]
        *(0xAA0103F3, 0xF9402020),  # mov x19, x1; ldr x0, [x1, #64]
        0xF9400402,  # ldr x2, [x0, #8]
        0x10000001 | (8 + behind) // 4 << 5,  # adr x1, text
        0xD63F0040,  # blr x2
    )


def _reset_aa64(kind: int) -> bytes:
    return _words(
        *(0xF9402E63, 0xF9403464),  # ldr x3, [x19, #88]; ldr x4, [x3, #104]
        0xD2800000 | kind << 5,  # mov x0, kind
        *(0xD2800001, 0xD2800002, 0xD2800003),  # mov x1, 0; mov x2, 0; mov x3, 0
        0xD63F0080,  # blr x4
    )


def _words(*instructions: int) -> bytes:
    return struct.pack(f"<{len(instructions)}I", *instructions)


_PROCESSORS: Mapping[str, _Processor] = MappingProxyType(
    {
        "x64": _Processor(
            machine=0x8664,
            show=_show_x64,
            ends={
                "reset": _reset_x64(0),
                "poweroff": _reset_x64(2),
                "hang": bytes.fromhex("ebfe"),  # jmp here
                "crash": bytes.fromhex("0f0b"),  # ud2
                "return": bytes.fromhex("31c0 4883c420 5b c3"),  # xor eax, eax; add rsp, 32; pop rbx; ret
                "abort": bytes.fromhex("48b8") + struct.pack("<Q", _ABORTED) + bytes.fromhex("4883c420 5b c3"),
            },
        ),
        "aa64": _Processor(
            machine=0xAA64,
            show=_show_aa64,
            ends={
                "reset": _reset_aa64(0),
                "poweroff": _reset_aa64(2),
                "hang": _words(0x14000000),  # b here
                "crash": _words(0x00000000),  # udf
            },
        ),
    }
)


def program(end: str, *, text: str = "Hello", arch: str = "x64") -> bytes:
    """Return an EFI program that shows a line and then ends.

    Args:
        end: `reset`, `poweroff`, `hang` or `crash` (an invalid instruction); on x64 also `return` and `abort`, which
            return to the firmware with success or an error.
        text: The line.
        arch: `x64` or `aa64`.

    Raises:
        KeyError: The value of `end` or `arch` is unknown.
    """
    return assemble(_PROCESSORS[arch].ends[end], text=text, arch=arch)


def assemble(code: bytes, *, text: str = "Hello", arch: str = "x64") -> bytes:
    """Return a program as `program` does, but ending with the given machine code.

    The system table is in RBX on x64, and in X19 on AArch64.
    """
    processor = _PROCESSORS[arch]
    code = code.ljust(-(-len(code) // 4) * 4, b"\0")  # the text that follows must be aligned
    body = processor.show(len(code)) + code + f"{text}\r\n\0".encode("utf-16-le")
    size = -(-len(body) // _ALIGNED) * _ALIGNED
    optional = (
        struct.pack("<HBBIIIII", 0x20B, 0, 0, size, 0, 0, _PAGE, _PAGE)
        + struct.pack("<QII6HIIIIHH", 0, _PAGE, _ALIGNED, 0, 0, 0, 0, 0, 0, 0, 2 * _PAGE, _ALIGNED, 0, 10, 0)
        + struct.pack("<QQQQII", 0, 0, 0, 0, 0, 16)
        + bytes(16 * 8)  # no imports, relocations or other tables
    )
    headers = (
        b"MZ".ljust(60, b"\0")
        + struct.pack("<I", 64)
        + b"PE\0\0"
        + struct.pack("<HHIIIHH", processor.machine, 1, 0, 0, 0, len(optional), 0x22E)
        + optional
        + struct.pack("<8sIIIIIIHHI", b".text", len(body), _PAGE, size, _ALIGNED, 0, 0, 0, 0, 0xE0000060)
    )
    return headers.ljust(_ALIGNED, b"\0") + body.ljust(size, b"\0")
