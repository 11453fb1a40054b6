"""The part of an asset that is on disk already, and what it takes to add the rest to it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.sources.digests import feed

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

SYNC_EVERY = 32 << 20  # bytes
ROOM = 64 << 20  # bytes for which room is made at once
SHOWN = 12  # hex digits of a digest, so that the line still has room for what it means


CHANGED = "the asset was changed after the release was listed"


class PassingError(Exception):
    """Something that may be better the next time; becomes a FetchError if it is not.

    Attributes:
        wait: Seconds after which the other side wants to be asked again, where it said so.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class StartOverError(PassingError):
    """The bytes on disk cannot be continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be fetched.

    Attributes:
        digest: 64 hex digits, or empty where the source tells none.
    """

    name: str
    url: str
    size: int
    digest: str


class Partial:
    """The bytes that are there so far; its methods but `resume_headers` block.

    Args:
        path: Where they are.
        wanted: What they are to become.
        make_room: Called before so many more bytes are written. Room is made for what comes, not for what is announced.
    """

    def __init__(self, path: Path, wanted: Wanted, make_room: Callable[[threading.Event, int], object]) -> None:
        self.size = 0
        self._path = path
        self._tag_path = path.with_suffix(".etag")
        self._wanted = wanted
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._etag = ""
        self._resumed = False
        self._make_room = make_room
        self._room = 0

    def open(self, stop: threading.Event) -> None:
        """Read what is there, and decide whether to go on from there."""
        self._path.touch(mode=0o600)
        self._file = self._path.open("r+b")
        self._digest = hashlib.sha256()
        feed(self._digest.update, self._file, stop)
        self.size = self._room = self._file.tell()
        self._etag = self._tag_path.read_text("latin-1") if self._tag_path.exists() else ""
        # Without a digest nothing but the tag says that old bytes and new ones belong together.
        known = bool(self._wanted.digest) or (bool(self._etag) and self.size < self._wanted.size)
        if not known or self.size > self._wanted.size:
            self.discard(stop)
        self._resumed = self.size > 0

    def resume_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest; none if all bytes are needed."""
        if not self.size:
            return {}
        unchanged = {"If-Range": self._etag} if self._etag else {}
        return {"Range": f"bytes={self.size}-", **unchanged}

    def begin(self, stop: threading.Event, start: int, etag: str) -> None:
        """Prepare for the bytes from `start` on."""
        if start != self.size:
            self.discard(stop)
        strong = etag if etag.startswith('"') else ""
        if strong != self._etag:
            self._etag = strong
            self._tag_path.write_text(strong, "latin-1")

    def write(self, stop: threading.Event, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            FetchError: There are more than promised.
        """
        if self.size + len(chunk) > self._wanted.size:
            raise FetchError(f"{self._wanted.name}: expected {self._wanted.size} bytes, got more: {CHANGED}")
        if self._file is None:
            raise ValueError("the file is not open")
        if self.size + len(chunk) > self._room:
            more = max(len(chunk), min(ROOM, self._wanted.size - self.size))
            self._make_room(stop, more)
            self._room = self.size + more
        self._file.write(chunk)
        self._digest.update(chunk)
        # Now and then, so that the last time does not take long.
        if self.size // SYNC_EVERY != (self.size + len(chunk)) // SYNC_EVERY:
            self._sync(self._file)
        self.size += len(chunk)

    def finish(self, stop: threading.Event) -> str:
        """See that all is there and as promised, and safe on the disk; returns the digest."""
        wanted = self._wanted
        if self.size < wanted.size:
            raise PassingError(f"the download ended after {self.size} of {wanted.size} bytes")
        got = self._digest.hexdigest()
        if wanted.digest and got != wanted.digest:
            if self._resumed:
                raise StartOverError("old bytes and new ones do not belong together")
            self.discard(stop)
            digests = f"expected sha256:{wanted.digest[:SHOWN]}…, got sha256:{got[:SHOWN]}…"
            raise FetchError(f"{wanted.name}: {digests}: {CHANGED}")
        if self._file is not None:
            self._sync(self._file)
        self._tag_path.unlink(missing_ok=True)
        return got

    def discard(self, _stop: threading.Event) -> None:
        """Begin again from nothing."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0
        self._resumed = False

    def close(self, _stop: threading.Event) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @staticmethod
    def _sync(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
