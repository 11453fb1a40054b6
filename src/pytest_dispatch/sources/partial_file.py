"""An incomplete download on disk: its bytes so far, and what is needed to resume and check it."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.sources.digests import feed
from pytest_dispatch.sources.streamed_asset import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_dispatch.support.blocking import Stop

SYNC_EVERY = 32 << 20  # bytes of an upload between two flushes to disk
ROOM = 64 << 20  # bytes for which the cache makes room at a time
WORTH = 1 << 20  # bytes from which the entity tag is stored, so that a killed lab's download can be resumed by it
SHOWN = 12  # hex digits of a digest in messages


CHANGED = "the asset was changed after the release was listed"


class PassingError(Exception):
    """An error that may not occur in the next try; after the last try it becomes a FetchError.

    Attributes:
        wait: Seconds until the next try, if the server said so.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class StartOverError(PassingError):
    """The bytes on disk cannot be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An asset to download.

    Attributes:
        digest: 64 hex digits; empty if the source gives none.
    """

    name: str
    url: str
    size: int
    digest: str


class PartialFile:
    """The bytes of a download so far. All methods block, and are called in one thread.

    Args:
        path: Path of the file.
        wanted: The asset.
        make_room: Called with the number of bytes that are about to be written: room is made for bytes that come, not
            for those that are announced.
        arriving: Called with each arrival that machines may begin to read.

    Attributes:
        size: Number of bytes so far.
    """

    def __init__(
        self,
        path: Path,
        wanted: Wanted,
        make_room: Callable[[Stop, int], object],
        arriving: Callable[[Arrival], object],
    ) -> None:
        self.size = 0
        self._path = path
        self._tag_path = path.with_suffix(".etag")
        self._wanted = wanted
        self._digest = hashlib.sha256()
        self._etag = ""
        self._noted = ""  # the tag as stored beside the file
        self._resumed = False
        self._make_room = make_room
        self._room = 0
        self._arriving = arriving
        self._told = False

    @contextmanager
    def opened(self, stop: Stop) -> Iterator[None]:
        """Open the file, hash what it has, and decide whether to resume from there; close it in the end.

        Raises:
            OSError: The file cannot be read or written.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as self._file:
            self._arrival = Arrival(self._path, self._wanted.size)
            try:
                self._look(stop)
                yield
            except BaseException as error:
                self._arrival.fail(str(error) or "the lab is about to end")
                with suppress(OSError):  # the disk may be full: then the download starts anew
                    self._note_tag()
                raise

    def _look(self, stop: Stop) -> None:
        feed(self._digest.update, self._file, stop)
        self.size = self._room = self._file.tell()
        self._etag = self._noted = self._tag_path.read_text("latin-1") if self._tag_path.exists() else ""
        if self.size > self._wanted.size or (self.size == self._wanted.size and not self._wanted.digest):
            self.discard("")
        self._resumed = self.size > 0

    @property
    def tag(self) -> str:
        """Return the tag of the arrival that machines may have read; empty if there is none."""
        return self._arrival.tag if self._told else ""

    def resume_headers(self) -> dict[str, str]:
        """Return the headers that request the rest; empty if only all bytes will do, as the asset may have changed."""
        if self.size and not self._wanted.digest and not self._etag:
            self.discard(CHANGED)
        self._resumed = self.size > 0
        if not self.size:
            return {}
        unchanged = {"If-Range": self._etag} if self._etag else {}
        return {"Range": f"bytes={self.size}-", **unchanged}

    def begin(self, start: int, etag: str) -> None:
        """Prepare to write the bytes from offset `start` on.

        Raises:
            StartOverError: They do not belong to the bytes on disk.
        """
        strong = etag if etag.startswith('"') else ""
        if start != self.size:
            self.discard(CHANGED)
        elif start and self._etag and strong not in ("", self._etag):
            raise StartOverError(f"{CHANGED}: the rest is of {strong[:SHOWN]}…")
        self._etag = strong
        self._arrival.begin(self.size)

    def write(self, stop: Stop, piece: bytes) -> None:
        """Write the next bytes.

        Raises:
            FetchError: There are more bytes than the asset has.
            OSError: They cannot be written.
        """
        after = self.size + len(piece)
        if after > self._wanted.size:
            raise FetchError(f"{self._wanted.name}: expected {self._wanted.size} bytes, got more: {CHANGED}")
        if after > self._room:
            more = max(len(piece), min(ROOM, self._wanted.size - self.size))
            self._make_room(stop, more)
            self._room = self.size + more
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
        self._digest.update(piece)
        self.size = after
        if after >= WORTH:
            self._note_tag()
        self._arrival.grow(after)
        if not self._told and self._arrival.has_begun_well():
            self._told = True
            self._arriving(self._arrival)

    def finish(self) -> str:
        """Check size and digest, hand the last bytes out to readers, and flush the file to disk.

        Returns:
            The digest in hex digits.
        """
        wanted = self._wanted
        if self.size < wanted.size:
            raise PassingError(f"the download ended after {self.size} of {wanted.size} bytes")
        got = self._digest.hexdigest()
        if wanted.digest and got != wanted.digest:
            if self._resumed:
                raise StartOverError("old bytes and new ones do not belong together")
            digests = f"expected sha256:{wanted.digest[:SHOWN]}…, got sha256:{got[:SHOWN]}…"
            self.discard(f"{digests}: {CHANGED}")
            raise FetchError(f"{wanted.name}: {digests}: {CHANGED}")
        self._arrival.finish(f"sha256:{got}")
        os.fsync(self._file.fileno())
        self._etag = ""
        self._note_tag()
        return got

    def discard(self, why: str) -> None:
        """Start again from the first byte; whoever reads the old bytes gets no more of them."""
        old, self._arrival = self._arrival, Arrival(self._path, self._wanted.size)
        old.fail(why)
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0
        self._resumed = self._told = False
        self._etag = ""
        self._note_tag()

    def _note_tag(self) -> None:
        """Store the entity tag beside the file, so that the download can be resumed."""
        if self._noted != self._etag:
            self._noted = self._etag
            if self._etag:
                self._tag_path.write_text(self._etag, "latin-1")
            else:
                self._tag_path.unlink(missing_ok=True)
