"""Keeps the size of a cache folder in a file, so that nobody has to walk the folder to know it."""

from __future__ import annotations

import os
import time
from pathlib import Path

GOOD = 86400.0  # seconds after which all is counted again: another program may have added files and not counted them

_SIZE = 20 + 1 + 12 + 1  # bytes of the file: the size, and when all was counted, in seconds since the epoch


class CacheSize:
    """The file with the size; whoever reads or writes it holds the folder's lock.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> int | None:
        """Return the size in bytes; `None` if all has to be counted again: after a day, or after a crash in a write."""
        try:
            noted = self._path.read_bytes()[:_SIZE].split()
        except FileNotFoundError:
            return None
        if len(noted) != 2 or not all(number.isdigit() for number in noted):
            return None
        size, self._at = map(int, noted)
        return size if 0 <= time.time() - self._at < GOOD else None

    def counted(self) -> None:
        """Record, with the next `write`, that all was counted just now."""
        self._at = int(time.time())

    def write(self, size: int) -> None:
        """Write the size in place, always as long: to create a new file each time would be more work for the disk."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(file, b"%020d %012d\n" % (max(0, size), self._at), 0)
        finally:
            os.close(file)
