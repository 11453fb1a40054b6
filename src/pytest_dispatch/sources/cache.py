"""The cache on disk: its files, who uses them, and which are removed when it is full.

    sha256/HEX      an asset's bytes, named by their digest, read-only
    records/HEX     the file's stamp when its bytes were checked; this record's own time is their last use
    names/KEY       the digest of an asset whose source gives none, by its address and size
    files/KEY       the digest and the stamp of a larger file outside the cache, by its path
    partial/KEY     an incomplete download, with its entity tag in KEY.etag
    locks/NNN       locked while such an asset is being downloaded
    users/ID.lock   locked as long as a lab runs; ID.pins lists the digests that its runs use
    lock            locked for a moment while assets are taken, added or removed
    size            the size of all of this in bytes, including downloads under way, so that it need not be counted

The next session finds everything again. Locks are the operating system's, so a killed process leaves none behind.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.sources.digests import digest_of, noted_digest, read_small, write_small
from pytest_dispatch.sources.folder_size import CacheSize
from pytest_dispatch.sources.pins import Pins
from pytest_dispatch.support.blocking import held_here, try_lock
from pytest_dispatch.support.file_stamp import FileStamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_dispatch.support.blocking import Lock, Stop

SLACK = 20  # when room is made, one part in so many of the limit is freed in addition
MOST_NOTES = 4096  # maximum number of entries in `names`, and in `files`
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This is a cache: https://bford.info/cachedir/\n"

_RECORD = 256  # bytes, more than four numbers take
_HEX = re.compile(r"[0-9a-f]{64}")


class NoRoomError(FetchError):
    """The cache or its disk is full."""


class _Stored(NamedTuple):
    used: int
    size: int
    paths: tuple[Path, ...]


class CacheFolder:
    """One session's view of a cache folder, which other sessions use at the same time.

    All methods block, and run in threads; `stop` ends them early by `StoppedError`.

    Args:
        folder: Created if needed.
        limit: Maximum size of all assets in bytes. Assets in use are never removed, even above the limit.

    Attributes:
        pins: The digests in use, with their holders.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._id = uuid.uuid4().hex
        self._lock: Lock | None = None
        self._opening = threading.Lock()
        self._door = threading.Lock()  # so that only one thread of this process at a time waits for other processes
        self._full = 0  # size in bytes up to which no removal is tried again, because assets in use exceed the limit
        self._noted_size = CacheSize(folder / "size")
        self.pins = Pins()

    def lock_of(self, key: str) -> Path:
        """Return the path of the lock to hold while the asset of this key is downloaded; keys may share a lock."""
        return self._folder / "locks" / key[:3]

    def partial_of(self, key: str) -> Path:
        """Return the path of the incomplete download of this key."""
        return self._folder / "partial" / key

    def open(self, stop: Stop) -> None:
        """Create the folders, and register as a user of the cache; do nothing if that is done."""
        with self._opening:
            if self._lock is not None:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("sha256", "records", "names", "files", "partial", "locks", "users"):
                (self._folder / name).mkdir(mode=0o700, exist_ok=True)  # whoever may look into the folder itself
            write_small(self._folder / "CACHEDIR.TAG", TAG.encode())
            with self._guard(stop):
                self._lock = try_lock(self._user(self._id, "lock"))
                for name in ("names", "files"):
                    _forget_oldest(self._folder / name)

    def close(self) -> None:
        """Unregister as a user of the cache."""
        if self._lock is not None:
            for suffix in ("pins", "lock"):
                self._user(self._id, suffix).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
            self.pins.clear()

    def named(self, key: str) -> str | None:
        """Return the digest of the asset of this key; None if it was never fetched."""
        lines = _lines(self._folder / "names" / key)
        return lines[0] if lines and _HEX.fullmatch(lines[0]) else None

    def name(self, key: str, digest: str) -> None:
        """Store the digest of the asset of this key."""
        write_small(self._folder / "names" / key, digest.encode())

    def has(self, path: Path) -> bool:
        """Return whether a file is an asset of this cache."""
        return path.parent == self._folder / "sha256"

    def keep(self, stop: Stop, digest: str, holder: str) -> bool:
        """Pin an asset for one more holder, and return whether the cache has it."""
        self.open(stop)
        with self._guard(stop):
            if not (self._folder / "sha256" / digest).exists():
                return False
            self._pin(digest, holder)
            return True

    def take(self, stop: Stop, digest: str, holder: str = "") -> Path | None:
        """Return the asset with this digest, pinned for its holder; None if the cache does not have it."""
        path = self._folder / "sha256" / digest
        with self._guard(stop):
            self._pin(digest, holder)
            stamp = _stamp(path)
            if stamp is None:
                return None
            record = self._recorded(digest)
        if record == stamp:
            os.utime(self._folder / "records" / digest)
            return path
        # Somebody touched the file, or a crash came between the bytes and their record: hash it again.
        if digest_of(path, stop) != digest:
            return None
        self._record(digest, stamp)
        return path

    def put(self, stop: Stop, partial: Path, digest: str, holder: str = "") -> Path:
        """Move a checked download into the cache, and pin it for its holder."""
        path = self._folder / "sha256" / digest
        partial.chmod(0o444)
        with self._guard(stop):
            self._pin(digest, holder)
            stamp = _stamp(path)
            if stamp is not None and stamp == self._recorded(digest):  # it is there already, and may be in use
                partial.unlink()
                if (known := self._noted_size.read()) is not None:
                    self._noted_size.write(known - stamp.size)
                return path
            # Write the record first, since bytes without one are never removed. Moving the file changes its stamp.
            self._record(digest, FileStamp.of(partial))
            partial.replace(path)
            self._record(digest, FileStamp.of(path))
        return path

    def refuse_what_no_disk_holds(self, stop: Stop, name: str, size: int) -> None:
        """Check that so many more bytes can fit on the disk at all, before anything is removed for them.

        Raises:
            NoRoomError: They cannot.
        """
        if size > shutil.disk_usage(self._folder).free and size > (room := self.most_room(stop)):
            raise NoRoomError(
                f"{name}: expected an asset that fits on the disk of {self._folder}, got one of {size} bytes, and at"
                f" most {room} can be had; name a folder on another disk (--dispatch-cache)"
            )

    def most_room(self, stop: Stop) -> int:
        """Return the number of bytes that are free if the whole cache is removed."""
        with self._guard(stop):
            return shutil.disk_usage(self._folder).free + sum(each.size for each in self._stored())

    def make_room(self, stop: Stop, size: int, spared: str = "") -> None:
        """Make room for `size` more bytes, and count them as used; remove the least recently used assets if needed.

        As long as they fit, only the stored count is read. If they do not, a little more than needed is removed, so
        that the next ones fit. Assets in use stay, even if the cache then exceeds its limit.

        Args:
            stop: Ends the work early.
            size: In bytes.
            spared: Key of the download that needs the room, which is not removed.
        """
        with self._guard(stop):
            self._noted_size.write(self._cleared(size, spared, max(self._limit, self._full)) + size)

    def need_room(self, stop: Stop, size: int, spared: str = "") -> None:
        """Make room as `make_room` does, but never exceed the limit.

        Raises:
            NoRoomError: Assets in use take the room.
        """
        with self._guard(stop):
            before = self._cleared(size, spared, self._limit)
            if before + size <= self._limit:
                self._noted_size.write(before + size)
                return
        excess = before + size - self._limit
        raise NoRoomError(
            f"the lab's cache is full: {excess} bytes too many for its {self._limit}, and what is in it is in use; wait"
            " until runs are over, or have a larger one (dispatch_cache_limit)"
        )

    def _cleared(self, size: int, spared: str, enough: int) -> int:
        """Remove assets until `size` more bytes make at most `enough`; return the size of what is left."""
        known = self._noted_size.read()
        if known is not None and known + size <= enough:
            return known
        slack, stored = self._limit // SLACK, sorted(self._stored())
        total = sum(each.size for each in stored)
        self._noted_size.counted()
        if total + size <= self._limit:
            return total
        pinned = self._all_pinned() | {spared}
        for each in stored:
            if total + size + slack <= self._limit:
                break
            if self._remove(each, pinned):
                total -= each.size
        self._full = total + size + slack
        return total

    def digest_of_file(self, stop: Stop, path: Path, root: str = "") -> tuple[str, FileStamp]:
        """Return `noted_digest` of a file outside the cache."""
        return noted_digest(stop, self._folder / "files", path, root)

    @contextmanager
    def _guard(self, stop: Stop) -> Iterator[None]:
        with self._door, held_here(self._folder / "lock", stop):
            yield

    def _pin(self, digest: str, holder: str) -> None:
        """Pin a digest, and tell other processes at once; they learn of releases later."""
        path = self._user(self._id, "pins")
        news = self.pins.add(digest, holder)
        if (told := self.pins.outdated()) is not None:
            write_small(path, "".join(f"{each}\n" for each in told).encode())
        elif news:
            with path.open("a", encoding="ascii") as pins:
                pins.write(f"{digest}\n")

    def _all_pinned(self) -> set[str]:
        pinned = self.pins.all()
        for path in (self._folder / "users").glob("*.lock"):
            if path.stem == self._id:
                continue
            pins = self._user(path.stem, "pins")
            abandoned = try_lock(path)
            if abandoned is None:
                pinned.update(_lines(pins))
                continue
            pins.unlink(missing_ok=True)
            path.unlink()
            abandoned.release()
        return pinned

    def _user(self, session: str, suffix: str) -> Path:
        return self._folder / "users" / f"{session}.{suffix}"

    def _recorded(self, digest: str) -> FileStamp | None:
        return read_small(self._folder / "records" / digest, FileStamp)

    def _record(self, digest: str, stamp: FileStamp) -> None:
        """Write a record in place, which is faster than replacing it; if it is torn, the asset is hashed again."""
        file = os.open(self._folder / "records" / digest, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(file, msgspec.json.encode(stamp).ljust(_RECORD), 0)
        finally:
            os.close(file)

    def _stored(self) -> Iterator[_Stored]:
        """Yield what may be removed: assets with a record, and incomplete downloads."""
        for record in _keys(self._folder / "records"):
            path = self._folder / "sha256" / record.name
            stamp = _stamp(path)
            yield _Stored(record.stat().st_mtime_ns, stamp.size if stamp else 0, (path, record))
        for partial in _keys(self._folder / "partial"):
            stamp = FileStamp.of(partial)
            yield _Stored(stamp.mtime_ns, stamp.size, (partial, partial.with_suffix(".etag")))

    def _remove(self, stored: _Stored, pinned: set[str]) -> bool:
        first = stored.paths[0]
        if first.name in pinned:
            return False
        fetching = try_lock(self.lock_of(first.name))
        if fetching is None:
            return False
        for path in stored.paths:
            path.unlink(missing_ok=True)
        fetching.release()
        return True


def _keys(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if _HEX.fullmatch(path.name))


def _stamp(path: Path) -> FileStamp | None:
    try:
        return FileStamp.of(path)
    except FileNotFoundError:
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").split()
    except FileNotFoundError:
        return []


def _forget_oldest(folder: Path) -> None:
    notes = list(_keys(folder))
    if len(notes) > MOST_NOTES:
        notes.sort(key=lambda note: note.stat().st_mtime_ns)
        for note in notes[: -MOST_NOTES // 2]:
            note.unlink(missing_ok=True)
