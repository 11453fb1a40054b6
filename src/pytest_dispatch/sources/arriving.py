"""An asset on its way here: its bytes are handed out as they come, and the last of them once all were checked.

Written to by the one thread that downloads it, and read by any. Each try that begins with the first byte is another
arrival: who has read from an earlier one has read what may be other bytes, and is told so.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path

HELD = 2**16  # bytes at the end that are held back until all are known to be right
ENOUGH = 2**18  # bytes a second: slower, a machine is better told to wait than to download
PAUSE = 2.0  # seconds without a byte after which it is the same


class Arrival:
    """See the module's docstring.

    Args:
        path: Where the bytes are written.
        size: How many there will be.

    Attributes:
        tag: What no other arrival is called; whoever has read from this one may go on by it.
        ready: How many may be read.
        error: Why there will be no more; empty as long as there may be.
        digest: Of all of them, as `sha256:` and 64 hex digits, when they are there and right; empty before.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.tag = f"arriving:{uuid.uuid4().hex}"
        self.size = size
        self.ready = 0
        self.error = ""
        self.digest = ""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        weakref.finalize(self, os.close, self._file)  # when nobody can ask for it any more
        self._door = threading.Lock()
        self._readers: set[Callable[[], object]] = set()
        self._began = self._moved = time.monotonic()
        self._first = self._there = 0
        self._mark = self._before = (self._began, 0)

    # For who writes

    def begin(self, there: int) -> None:
        """Note that from so many bytes on they are about to come."""
        self._began = self._moved = time.monotonic()
        self._first = self._there = there
        self._mark = self._before = (self._began, there)

    def grow(self, there: int) -> None:
        """Note that so many bytes are written."""
        now = self._moved = time.monotonic()
        self._there = there
        if now - self._mark[0] >= 1.0:
            self._before, self._mark = self._mark, (now, there)
        self._let(min(there, self.size - HELD))

    def finish(self, digest: str) -> None:
        """Note that all are there, and right."""
        self.digest = digest
        self._let(self.size)

    def fail(self, why: str) -> None:
        """Note that there will be no more; where it has ended already, nothing."""
        if not self.digest and not self.error:
            self.error = why
            self._tell()

    # For who reads

    def opened(self) -> int | None:
        """Return a descriptor of the file, which is the caller's to close; None if there will be no more."""
        return None if self.error else os.dup(self._file)

    def follow(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in any thread, when there is more, or will be none; returns what ends that."""
        with self._door:
            self._readers.add(told)
        return lambda: self._leave(told)

    def has_begun_well(self) -> bool:
        """Tell whether so much came so fast that a machine may begin to download it."""
        came = self._there - self._first
        return came >= ENOUGH and came >= ENOUGH * (time.monotonic() - self._began)

    def is_late(self) -> bool:
        """Tell whether bytes come so slowly that a machine would not wait for them."""
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
