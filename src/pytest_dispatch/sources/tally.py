"""How many bytes a cache folder holds, noted in a file, so that nobody has to look at all of them to know."""

from __future__ import annotations

import os
import time
from pathlib import Path

GOOD = 86400.0  # seconds for which a count is: another version of this program may add bytes and not note them

_SIZE = 20 + 1 + 12 + 1  # bytes: the number, and when all was counted, in seconds of the epoch


class Tally:
    """The file; whoever reads or writes it holds the folder's lock.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> int | None:
        """Return the number; `None` if all is to be counted anew: after a day, or where a crash has torn the note."""
        try:
            noted = self._path.read_bytes()[:_SIZE].split()
        except FileNotFoundError:
            return None
        if len(noted) != 2 or not all(number.isdigit() for number in noted):
            return None
        size, self._at = map(int, noted)
        return size if 0 <= time.time() - self._at < GOOD else None

    def counted(self) -> None:
        """Note, with the next number, that all was counted just now."""
        self._at = int(time.time())

    def write(self, size: int) -> None:
        """Note it, in place and always as long: a file that is made anew each time is no end of work for the disk."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(file, b"%020d %012d\n" % (max(0, size), self._at), 0)
        finally:
            os.close(file)
