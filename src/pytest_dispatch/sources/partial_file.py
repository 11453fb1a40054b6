"""The part of an asset that is on disk already, and what it takes to add the rest to it."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.sources.arriving import Arrival
from pytest_dispatch.sources.digests import feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_dispatch.support.blocking import Stop

SYNC_EVERY = 32 << 20  # bytes of an upload
ROOM = 64 << 20  # bytes for which room is made at once
WORTH = 1 << 20  # bytes that are worth going on with after the lab was killed, where only a tag says what they are of
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


class PartialFile:
    """The bytes that are there so far; all of it blocks, and is called in one thread.

    Args:
        path: Where they are.
        wanted: What they are to become.
        make_room: Called before so many more bytes are written. Room is made for what comes, not for what is announced.
        arriving: Told of each arrival that machines may begin to read.

    Attributes:
        size: How many there are.
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
        self._noted = ""  # the tag that is beside the file
        self._resumed = False
        self._make_room = make_room
        self._room = 0
        self._arriving = arriving
        self._told = False

    @contextmanager
    def opened(self, stop: Stop) -> Iterator[None]:
        """Read what is there, and decide whether to go on from there; let go of it in the end.

        Raises:
            OSError: It cannot be read or written.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as self._file:
            self._arrival = Arrival(self._path, self._wanted.size)
            try:
                self._look(stop)
                yield
            except BaseException as error:
                self._arrival.fail(str(error) or "the lab is about to end")
                with suppress(OSError):  # the disk may be full: then it is begun anew
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
        """What the bytes are called of which was told; empty if of none."""
        return self._arrival.tag if self._told else ""

    def resume_headers(self) -> dict[str, str]:
        """Return what to request: the rest; or all of it, if nothing says that old and new bytes belong together."""
        if self.size and not self._wanted.digest and not self._etag:
            self.discard(CHANGED)
        self._resumed = self.size > 0
        if not self.size:
            return {}
        unchanged = {"If-Range": self._etag} if self._etag else {}
        return {"Range": f"bytes={self.size}-", **unchanged}

    def begin(self, start: int, etag: str) -> None:
        """Begin to write the bytes from `start` on.

        Raises:
            StartOverError: They do not belong to those that are there.
        """
        strong = etag if etag.startswith('"') else ""
        if start != self.size:
            self.discard(CHANGED)
        elif start and self._etag and strong not in ("", self._etag):
            raise StartOverError(f"{CHANGED}: the rest is of {strong[:SHOWN]}…")
        self._etag = strong
        self._arrival.begin(self.size)

    def write(self, stop: Stop, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            FetchError: There are more than promised.
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
        """See that all is there and as promised, hand the last bytes out, and have them safe on the disk.

        Returns:
            The digest, as hex digits.
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
        """Begin again from nothing; whoever reads what is there gets no more of it."""
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
        """Have the tag of what is there beside it, for who goes on with it."""
        if self._noted != self._etag:
            self._noted = self._etag
            if self._etag:
                self._tag_path.write_text(self._etag, "latin-1")
            else:
                self._tag_path.unlink(missing_ok=True)
