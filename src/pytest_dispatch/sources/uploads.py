"""Bytes that sessions send: written as they come, and on the shelf once they are whole and what they are said to be.

A session has what it has sent itself, all of it, and learns nothing of what others have: the same bytes are sent by
each, and kept once.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, FetchError
from pytest_dispatch.sources.blocking import in_thread
from pytest_dispatch.sources.partial import ROOM, SYNC_EVERY
from pytest_dispatch.sources.places import DIGEST
from pytest_dispatch.sources.shelf import NoRoomError, Shelf

if TYPE_CHECKING:
    from pytest_dispatch.sources.blocking import Stop

MOST = 16  # uploads of a session that are under way at once
_FULL = {errno.ENOSPC, errno.EDQUOT}


class TooLongError(ConfigError):
    """More bytes than there may be."""


class WrongPlaceError(DispatchError):
    """These bytes do not go on from those that are here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an upload is.

    Attributes:
        received: Bytes from the first one on that are here.
        complete: They are all here, and checked.
    """

    received: int
    complete: bool = False


class _Upload:
    """One under way."""

    def __init__(self, path: Path, digest: str, size: int) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.turn = asyncio.Lock()
        self.begin_anew()

    def begin_anew(self) -> None:
        self.received = 0
        self.room = 0  # bytes for which room was made
        self.read = hashlib.sha256()


class Uploads:
    """Those of all sessions. Its methods are called on the lab's event loop.

    Args:
        shelf: Where they are kept.
        limit: Bytes that one may have.
    """

    def __init__(self, shelf: Shelf, limit: int) -> None:
        self._shelf = shelf
        self._limit = limit
        self._under_way: dict[str, dict[str, _Upload]] = {}  # by session and digest
        self._sizes: dict[str, dict[str, int]] = {}  # of what each session has sent, by digest

    def has(self, session: str, digest: str, size: int) -> bool:
        """Tell whether a session has sent bytes of this digest, and so many."""
        return self._sizes.get(session, {}).get(digest) == size

    def remember(self, session: str, digest: str, size: int) -> None:
        """Note what a session had sent to an earlier lab."""
        self._sizes.setdefault(session, {})[digest] = size

    async def standing(self, session: str, digest: str) -> Standing:
        """Return how far a session's upload is; what is complete stays until a run has it, or the session is over.

        Raises:
            ConfigError: That is no digest.
            FetchError: The disk cannot be read.
        """
        _check_digest(digest)
        if digest in self._sizes.get(session, {}):
            with _told():
                kept = await in_thread(self._shelf.keep, _hex(digest), _holder(session, digest))
            if kept and (size := self._sizes.get(session, {}).get(digest)):
                return Standing(received=size, complete=True)
            self._lose(session, digest)  # it was removed to make room, or the session is over
        upload = self._under_way.get(session, {}).get(digest)
        return Standing(received=upload.received if upload else 0)

    async def begin(self, session: str, digest: str, size: int) -> Standing:
        """Let a session send bytes, or go on with it; returns how far it is.

        Raises:
            ConfigError: They cannot be what is said of them, or there are too many uploads at once.
            TooLongError: There will never be room for so many bytes.
            FetchError: There is no room for them, or the disk cannot be read.
        """
        standing = await self.standing(session, digest)
        if size <= 0:
            raise ConfigError(f"size: expected a number of bytes, got {size}")
        if size > self._limit:
            raise TooLongError(f"expected at most {self._limit} bytes (dispatch_cache_limit), got {size}")
        known = self._under_way.setdefault(session, {})
        if standing.complete:
            before = standing.received
        elif digest in known:
            before = known[digest].size
        else:
            if len(known) >= MOST:
                raise ConfigError(f"expected at most {MOST} uploads at once, got one more; complete those first")
            with _told():
                await in_thread(self._shelf.open)
                room = await in_thread(self._shelf.most_room)
            if size > room:
                raise NoRoomError(f"expected what fits on the disk of the lab's cache, got {size} bytes for {room}")
            key = hashlib.sha256(f"{session}\n{digest}".encode()).hexdigest()
            known.setdefault(digest, _Upload(self._shelf.partial_of(key), _hex(digest), size))
            before = size
        if size != before:
            raise ConfigError(f"size: expected {before}, as was said of {digest} before, got {size}")
        return standing

    async def write(self, session: str, digest: str, offset: int, piece: bytes) -> Standing:
        """Take the next bytes of an upload that was begun; returns how far it is.

        Raises:
            WrongPlaceError: They do not go on from those that are here.
            TooLongError: They are more than was said.
            ConfigError: All are here, and they are other bytes than was said: all are to be sent again.
            NoRoomError: There is no room for them.
            FetchError: They cannot be written.
        """
        upload = self._under_way.get(session, {}).get(digest)
        if upload is None:
            standing = await self.standing(session, digest)
            _check_place(standing.received, offset, piece)
            return standing
        async with upload.turn:
            _check_place(upload.received, offset, piece)
            if offset + len(piece) > upload.size:
                raise TooLongError(f"expected {upload.size} bytes, got more")
            with _told():
                await in_thread(self._append, upload, piece)
            if upload.received < upload.size:
                return Standing(received=upload.received)
            if self._under_way.get(session, {}).get(digest) is upload:  # else another connection has brought the last
                await self._finish(session, digest, upload)
        return await self.standing(session, digest)

    def _lose(self, session: str, digest: str) -> None:
        self._sizes.get(session, {}).pop(digest, None)
        self._shelf.pins.release(_holder(session, digest))

    def taken(self, session: str, digest: str) -> None:
        """Note that a run has what a session sent: from now on that holds it."""
        self._shelf.pins.release(_holder(session, digest))

    def forget(self, session: str) -> None:
        """Let go of what a session sent and no run has; what is not whole is removed when there is need of room."""
        self._under_way.pop(session, None)
        for digest in self._sizes.pop(session, {}):
            self._shelf.pins.release(_holder(session, digest))

    def expire(self, is_attended: Callable[[str], bool]) -> None:
        """Forget the sessions whose holders are gone."""
        for session in [each for each in {*self._under_way, *self._sizes} if not is_attended(each)]:
            self.forget(session)

    async def _finish(self, session: str, digest: str, upload: _Upload) -> None:
        got = f"sha256:{upload.read.hexdigest()}"
        if got != digest:
            upload.begin_anew()
            raise ConfigError(
                f"expected bytes of {digest}, got those of {got}: the file was changed meanwhile; send all of it again"
            )
        try:
            with _told():
                await in_thread(self._shelf.put, upload.path, upload.digest, _holder(session, digest))
        except FetchError:
            upload.begin_anew()
            raise
        if self._under_way.get(session, {}).pop(digest, None) is upload:
            self.remember(session, digest, upload.size)
        else:
            self._lose(session, digest)  # the session is over

    def _append(self, stop: Stop, upload: _Upload, piece: bytes) -> None:
        before, after = upload.received, upload.received + len(piece)
        if after > upload.room:
            more = max(len(piece), min(ROOM, upload.size - before))
            self._shelf.need_room(stop, more, spared=upload.path.name)
            upload.room = before + more
        handle = os.open(upload.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            if not before:
                file.truncate()
            elif os.fstat(handle).st_size < before:
                upload.begin_anew()
                raise WrongPlaceError("the first bytes were removed to make room; send all of them again")
            file.seek(before)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            if after == upload.size or before // SYNC_EVERY != after // SYNC_EVERY:
                os.fsync(handle)
        upload.read.update(piece)
        upload.received = after


def _check_digest(digest: str) -> None:
    if not DIGEST.fullmatch(digest):
        raise ConfigError(f"expected sha256: and 64 hex digits in lower case, got {digest[:80]!r}")


def _check_place(received: int, offset: int, piece: bytes) -> None:
    if offset != received and (piece or offset > received):
        raise WrongPlaceError(f"expected bytes from {received} on, got some from {offset} on")


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _holder(session: str, digest: str) -> str:
    return f"{session} sent {digest}"


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the disk become words.

    Raises:
        NoRoomError: It is full.
        FetchError: It cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoomError(f"the disk of the lab's cache is full ({error.strerror}); make room there") from error
        raise FetchError(f"the lab's cache cannot be used ({error.strerror or error})") from error
