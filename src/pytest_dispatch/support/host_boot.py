"""Tells one boot of this computer from another."""

from __future__ import annotations

import zlib
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc(5); the same in all containers of a computer


def boot_number() -> int:
    """Return a number that this computer has until it is started again; 0 where the system does not tell."""
    try:
        return zlib.crc32(_BOOT_ID.read_bytes()) & 0x7FFFFFFF
    except OSError:
        return 0
