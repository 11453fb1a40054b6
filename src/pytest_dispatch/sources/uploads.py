"""Bytes uploaded by sessions: written as they come, and put into the cache once complete and checked.

A session may use only bytes that it has uploaded completely itself, and learns nothing of other sessions' uploads. If
several sessions upload the same bytes, each sends all of them, but they are kept once.
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
from pytest_dispatch.sources.cache import CacheFolder, NoRoomError
from pytest_dispatch.sources.locations import DIGEST
from pytest_dispatch.sources.partial_file import ROOM, SYNC_EVERY
from pytest_dispatch.support.blocking import in_thread

if TYPE_CHECKING:
    from pytest_dispatch.support.blocking import Stop

MOST = 16  # most uploads of a session at the same time
_FULL = {errno.ENOSPC, errno.EDQUOT}


class TooLongError(ConfigError):
    """More bytes than announced or allowed."""


class WrongPlaceError(DispatchError):
    """The bytes do not continue those received so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The progress of an upload.

    Attributes:
        received: Bytes received, from the first one on.
        complete: Whether all bytes are here and checked.
    """

    received: int
    complete: bool = False


class _Upload:
    """An upload in progress."""

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
    """The uploads of all sessions. The methods are called on the lab's event loop.

    Args:
        cache_folder: The cache that keeps them.
        limit: The most bytes of one upload.
    """

    def __init__(self, cache_folder: CacheFolder, limit: int) -> None:
        self._cache_folder = cache_folder
        self._limit = limit
        self._under_way: dict[str, dict[str, _Upload]] = {}  # by session and digest
        self._sizes: dict[str, dict[str, int]] = {}  # sizes of completed uploads, by session and digest

    def has(self, session: str, digest: str, size: int) -> bool:
        """Return whether a session has uploaded bytes with this digest and size."""
        return self._sizes.get(session, {}).get(digest) == size

    def remember(self, session: str, digest: str, size: int) -> None:
        """Record what a session had uploaded to an earlier lab."""
        self._sizes.setdefault(session, {})[digest] = size

    async def standing(self, session: str, digest: str) -> Standing:
        """Return a session's progress; complete bytes are kept until a run holds them, or the session is over.

        Raises:
            ConfigError: The digest is invalid.
            FetchError: The disk cannot be read.
        """
        _check_digest(digest)
        if digest in self._sizes.get(session, {}):
            with _told():
                kept = await in_thread(self._cache_folder.keep, _hex(digest), _holder(session, digest))
            if kept and (size := self._sizes.get(session, {}).get(digest)):
                return Standing(received=size, complete=True)
            self._lose(session, digest)  # it was removed to make room, or the session is over
        upload = self._under_way.get(session, {}).get(digest)
        return Standing(received=upload.received if upload else 0)

    async def begin(self, session: str, digest: str, size: int) -> Standing:
        """Begin or continue an upload of a session, and return its progress.

        Raises:
            ConfigError: The size contradicts an earlier one, or there are too many uploads at once.
            TooLongError: The size is over the limit.
            FetchError: There is no room, or the disk cannot be read.
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
                await in_thread(self._cache_folder.open)
                room = await in_thread(self._cache_folder.most_room)
            if size > room:
                raise NoRoomError(f"expected what fits on the disk of the lab's cache, got {size} bytes for {room}")
            key = hashlib.sha256(f"{session}\n{digest}".encode()).hexdigest()
            known.setdefault(digest, _Upload(self._cache_folder.partial_of(key), _hex(digest), size))
            before = size
        if size != before:
            raise ConfigError(f"size: expected {before}, as was said of {digest} before, got {size}")
        return standing

    async def write(self, session: str, digest: str, offset: int, piece: bytes) -> Standing:
        """Write the next bytes of an upload that was begun, and return its progress.

        Raises:
            WrongPlaceError: They do not continue the bytes received so far.
            TooLongError: There are more than announced.
            ConfigError: All bytes are here, but their digest is another one: all must be sent again.
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
            if self._under_way.get(session, {}).get(digest) is upload:  # else another connection sent the last bytes
                await self._finish(session, digest, upload)
        return await self.standing(session, digest)

    def _lose(self, session: str, digest: str) -> None:
        self._sizes.get(session, {}).pop(digest, None)
        self._cache_folder.pins.release(_holder(session, digest))

    def taken(self, session: str, digest: str) -> None:
        """Release an upload that a run now holds."""
        self._cache_folder.pins.release(_holder(session, digest))

    def forget(self, session: str) -> None:
        """Release the uploads of a session that no run holds; incomplete ones are removed when room is needed."""
        self._under_way.pop(session, None)
        for digest in self._sizes.pop(session, {}):
            self._cache_folder.pins.release(_holder(session, digest))

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
                await in_thread(self._cache_folder.put, upload.path, upload.digest, _holder(session, digest))
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
            self._cache_folder.need_room(stop, more, spared=upload.path.name)
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
    """Turn errors of the disk into errors with a message.

    Raises:
        NoRoomError: The disk is full.
        FetchError: It cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoomError(f"the disk of the lab's cache is full ({error.strerror}); make room there") from error
        raise FetchError(f"the lab's cache cannot be used ({error.strerror or error})") from error
