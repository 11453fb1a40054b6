"""An asset that is being downloaded: its bytes can be read as they arrive, the last of them once all were checked.

One thread writes it, any thread reads it. Each try that starts with the first byte is a new arrival: the bytes of an
earlier one may have been others, so its readers get an error.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path

HELD = 2**16  # bytes at the end that are held back until size and digest are checked
ENOUGH = 2**18  # bytes per second; below this a machine is told to wait instead of downloading
PAUSE = 2.0  # seconds without a byte after which a machine is told to wait


class Arrival:
    """The bytes of one try of a download.

    Args:
        path: The file that the bytes are written to.
        size: The asset's size in bytes.

    Attributes:
        tag: Unique tag of this arrival; a machine resumes its download by it.
        ready: Number of bytes that may be read.
        error: Why no more bytes will come; empty as long as they may.
        digest: `sha256:` and 64 hex digits, once all bytes are there and checked; empty before.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.tag = f"arriving:{uuid.uuid4().hex}"
        self.size = size
        self.ready = 0
        self.error = ""
        self.digest = ""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        weakref.finalize(self, os.close, self._file)  # when nothing refers to this arrival any more
        self._door = threading.Lock()
        self._readers: set[Callable[[], object]] = set()
        self._began = self._moved = time.monotonic()
        self._first = self._there = 0
        self._mark = self._before = (self._began, 0)

    # For the writer

    def begin(self, there: int) -> None:
        """Note that the bytes from offset `there` on are about to come."""
        self._began = self._moved = time.monotonic()
        self._first = self._there = there
        self._mark = self._before = (self._began, there)

    def grow(self, there: int) -> None:
        """Note that the file has so many bytes now."""
        now = self._moved = time.monotonic()
        self._there = there
        if now - self._mark[0] >= 1.0:
            self._before, self._mark = self._mark, (now, there)
        self._let(min(there, self.size - HELD))

    def finish(self, digest: str) -> None:
        """Note that all bytes are there and checked."""
        self.digest = digest
        self._let(self.size)

    def fail(self, why: str) -> None:
        """Note that no more bytes will come; do nothing if the arrival has ended."""
        if not self.digest and not self.error:
            self.error = why
            self._tell()

    # For readers

    def opened(self) -> int | None:
        """Return a new descriptor of the file, which the caller closes; None if no more bytes will come."""
        return None if self.error else os.dup(self._file)

    def follow(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in any thread, when more bytes come or none will; return what ends this."""
        with self._door:
            self._readers.add(told)
        return lambda: self._leave(told)

    def has_begun_well(self) -> bool:
        """Return whether enough bytes came fast enough for a machine to start its download."""
        came = self._there - self._first
        return came >= ENOUGH and came >= ENOUGH * (time.monotonic() - self._began)

    def is_late(self) -> bool:
        """Return whether bytes come too slowly for a machine to wait for them."""
        now = time.monotonic()
        since, there = self._before
        crawls = now - since >= 1.0 and self._there - there < ENOUGH * (now - since)
        return not self.digest and (crawls or now - self._moved > PAUSE)

    def _let(self, ready: int) -> None:
        if ready > self.ready:
            self.ready = ready
            self._tell()

    def _tell(self) -> None:
        with self._door:
            readers = list(self._readers)
        for told in readers:
            told()

    def _leave(self, told: Callable[[], object]) -> None:
        with self._door:
            self._readers.discard(told)
