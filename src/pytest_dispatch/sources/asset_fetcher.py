"""Fetches the bytes of workloads into files on this computer, once for all machines and sessions that want them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.sources.cache import CacheFolder
from pytest_dispatch.sources.locations import DIGEST
from pytest_dispatch.sources.partial_file import PartialFile, Wanted
from pytest_dispatch.sources.uploads import Uploads
from pytest_dispatch.support.blocking import Threads, in_thread, try_lock, waited_for
from pytest_dispatch.support.file_stamp import FileStamp

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.sources.base import Bytes
    from pytest_dispatch.sources.download import Downloader, Patience
    from pytest_dispatch.sources.streamed_asset import Arrival
    from pytest_dispatch.support.blocking import Stop

#: Called when bytes can be read although they have not all arrived.
OnArrival: TypeAlias = "Callable[[Arrival], object]"
MOST_KNOWN = 4096  # checked assets that are remembered; others are checked again when they are wanted


def ignored(_arrival: Arrival) -> None:
    """Ignore bytes that have not all arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A workload's bytes, checked.

    Attributes:
        path: A file in the cache, which is neither changed nor removed while somebody holds it; for a workload from a
            folder, the user's own file.
        digest: `sha256:` and 64 hex digits.
        stamp: The file's stamp when it was checked.
        tag: The tag of the arrival, if machines could read the bytes while they arrived; else empty.
    """

    path: Path
    size: int
    digest: str
    stamp: FileStamp
    tag: str = field(default="", compare=False)


class _Flight:
    """An asset that is being fetched, with the number of callers that wait for it."""

    task: asyncio.Task[Asset]

    def __init__(self) -> None:
        self.waiting = 0
        self._arrival: Arrival | None = None
        self._told: list[OnArrival] = []
        self._loop = asyncio.get_running_loop()

    def tell(self, told: OnArrival) -> None:
        """Have `told` called with the arrival, now or when it begins, and with each later one."""
        self._told.append(told)
        if self._arrival is not None:
            told(self._arrival)

    def arriving(self, arrival: Arrival) -> None:
        """Report an arrival; called in the thread that downloads."""
        with suppress(RuntimeError):  # the loop has ended, and all callers with it
            self._loop.call_soon_threadsafe(self._arrived, arrival)

    def _arrived(self, arrival: Arrival) -> None:
        self._arrival = arrival
        for told in self._told:
            told(arrival)


class AssetFetcher:
    """Fetches assets, and caches them for this session and later ones.

    Files in a folder are hashed and used in place. Assets of a release are downloaded. Uploads come from sessions. If
    several tasks, sessions or processes ask for the same asset at the same time, one of them fetches it.

    Args:
        folder: The cache folder, shared by all sessions; created if needed.
        limit: Maximum size of the cache in bytes. The least recently used assets are removed first; assets in use stay.
        token: GitHub token, sent only to its own API.
        patience: Timeouts and pauses.
        token_for: Returns the token for what belongs to an owner at GitHub; by default, `token` is for all.

    Attributes:
        uploads: Files that sessions upload.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        token: Token | None,
        *,
        patience: Patience | None = None,
        token_for: Callable[[str], Token | None] | None = None,
    ) -> None:
        self._folder = folder
        self._cache_folder = CacheFolder(folder, limit)
        self._token_for = token_for or (lambda _owner: token)
        self._patience = patience
        self._downloader: Downloader | None = None
        self._door = threading.Lock()
        self._threads = Threads("dispatch-fetch")
        self._flights: dict[str, _Flight] = {}
        self._known: dict[str, Asset] = {}
        self._shared = False
        self.uploads = Uploads(self._cache_folder, limit)

    def share(self) -> None:
        """Serve sessions that may not see each other's bytes: knowing a digest is not enough, the source is needed too.

        The cache's limit becomes strict: if assets in use fill it, nothing more is fetched.
        """
        self._shared = True

    async def open(self) -> None:
        """Prepare the cache folder, so that an unusable one is reported at the start.

        Raises:
            ConfigError: The folder cannot be used.
        """
        try:
            await in_thread(self._cache_folder.open)
        except OSError as error:
            folder = self._folder
            why = "it is a file" if folder.is_file() else f"{error.strerror or error}: {error.filename or folder}"
            raise ConfigError(
                f"--dispatch-cache: expected a folder that can be written, got {folder} ({why}); name another one"
            ) from error

    async def fetch(self, workload: Bytes, holder: str = "", on_arrival: OnArrival = ignored) -> Asset:
        """Return a workload's bytes as a file, checked against the size and the digest that its source gives.

        If the last caller that waits for an asset is cancelled, its download stops; the next call resumes it.

        Args:
            workload: Where the bytes are, and their size and digest.
            holder: Who holds the bytes: they are kept until `release` is called for it; if empty, until `aclose`.
            on_arrival: Called, before this returns, when the bytes can be read while they arrive; called again if they
                start to arrive anew.

        Raises:
            FetchError: The bytes cannot be fetched, or differ in size or digest.
        """
        key = f"{workload.location}\n{workload.size}\n{workload.digest}"
        while True:
            asset = self._known.get(key)
            if asset is None or not _still(asset):
                asset = await self._fly(key, workload, holder, on_arrival)
            if await self._is_kept(asset, holder):
                if workload.session:
                    self.uploads.taken(workload.session, asset.digest)
                return asset
            self._known.pop(key, None)  # the cache has just removed it

    async def may_read(self, location: str) -> bool:
        """Return whether a release asset could be fetched: GitHub lets the owner's token, or anybody, read it."""
        return await self._threads.run(lambda stop: self._client().may_read(stop, location))

    def release(self, holder: str) -> None:
        """Release everything that a holder holds: the cache may remove it."""
        self._cache_folder.pins.release(holder)

    async def _is_kept(self, asset: Asset, holder: str) -> bool:
        digest = asset.digest.removeprefix("sha256:")
        if not self._cache_folder.has(asset.path) or self._cache_folder.pins.holds(digest, holder):
            return True
        return await in_thread(self._cache_folder.keep, digest, holder)

    async def _fly(self, key: str, workload: Bytes, holder: str, on_arrival: OnArrival) -> Asset:
        """Join those who wait for an asset, or start to fetch it."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._obtain(workload, flight))
        flight.waiting += 1
        flight.tell(on_arrival)
        try:
            asset = self._known[key] = await asyncio.shield(flight.task)
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
            if self._cache_folder.has(asset.path):  # pin it before the flight's own pin is released
                self._cache_folder.pins.add(asset.digest.removeprefix("sha256:"), holder)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                # From now on a caller starts a new flight, even while this one is still ending.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                await _end(flight.task)
                self.release(_flight_of(workload))
        return asset

    async def aclose(self) -> None:
        """Stop all downloads, and let other sessions remove what this one used."""
        for flight in list(self._flights.values()):
            await _end(flight.task)
        self._known.clear()
        await in_thread(self._close)

    def _close(self, _stop: Stop) -> None:
        self._threads.close()
        if self._downloader is not None:
            self._downloader.close()
        self._cache_folder.close()

    async def _obtain(self, workload: Bytes, flight: _Flight) -> Asset:
        try:
            if Path(workload.location).is_absolute():
                return await in_thread(self._look_at, workload)
            if DIGEST.fullmatch(workload.location):
                return await in_thread(self._look_for, workload)
            return await self._threads.run(self._from_release, workload, flight)
        except OSError as error:
            place = "" if self._shared else f": {error.filename or self._folder}"  # clients must learn no paths
            raise FetchError(f"{workload.name}: {error.strerror or error}{place}") from error

    def _look_at(self, stop: Stop, workload: Bytes) -> Asset:
        self._cache_folder.open(stop)
        path = Path(workload.location)
        if os.path.realpath(path) != str(path):  # there was no link when the folder was listed
            raise FetchError(
                f"{workload.name}: expected a file, a link has taken its place or that of a folder above it"
            )
        digest, stamp = self._cache_folder.digest_of_file(stop, path, workload.root)
        asset = _asset(path, digest, stamp)
        if stamp.size != workload.size:
            raise FetchError(
                f"{workload.name}: the file has changed: expected {workload.size} bytes, there are {stamp.size}"
            )
        if workload.digest and workload.digest != asset.digest:
            raise FetchError(f"{workload.name}: expected {workload.digest}, got {asset.digest}")
        return asset

    def _look_for(self, stop: Stop, workload: Bytes) -> Asset:
        digest = workload.location.removeprefix("sha256:")
        found = self._take(stop, workload, digest, named=True)
        if found is None:
            raise FetchError(f"{workload.name}: what was uploaded has been removed to make room; upload it again")
        return found

    def _from_release(self, stop: Stop, workload: Bytes, flight: _Flight) -> Asset:
        """Take an asset from the cache, by its digest or in a shared lab by its source, or download it."""
        digest = workload.digest.removeprefix("sha256:") if DIGEST.fullmatch(workload.digest) else ""
        address = hashlib.sha256(f"{workload.location}\n{workload.size}".encode()).hexdigest()
        named = bool(digest) and not self._shared
        key = digest if named else address
        self._cache_folder.open(stop)
        lock = try_lock(self._cache_folder.lock_of(key))
        try:
            found = self._take(stop, workload, key, named=named)
            if found is None and lock is None:  # another task or process is probably fetching it
                lock = waited_for(self._cache_folder.lock_of(key), stop)
                found = self._take(stop, workload, key, named=named)
            found = found or self._download(stop, workload, flight, key, digest)
        finally:
            if lock is not None:
                lock.release()
        if digest and found.digest != workload.digest:
            raise FetchError(f"{workload.name}: expected {workload.digest}, got {found.digest}")
        return found

    def _download(self, stop: Stop, workload: Bytes, flight: _Flight, key: str, digest: str) -> Asset:
        self._cache_folder.refuse_what_no_disk_holds(stop, workload.name, workload.size)
        wanted = Wanted(name=workload.name, url=workload.location, size=workload.size, digest=digest)
        room = self._cache_folder.need_room if self._shared else self._cache_folder.make_room
        file = PartialFile(self._cache_folder.partial_of(key), wanted, room, flight.arriving)
        with file.opened(stop):
            got = self._client().fetch(stop, wanted, file)
            path = self._cache_folder.put(stop, self._cache_folder.partial_of(key), got, _flight_of(workload))
            if got != key:
                self._cache_folder.name(key, got)
            return replace(_asset(path, got, FileStamp.of(path)), tag=file.tag)

    def _client(self) -> Downloader:
        """Return the downloader; created on first use, because it loads an HTTP client, which folders do not need."""
        with self._door:
            if self._downloader is None:
                from pytest_dispatch.sources.download import Downloader, Patience

                self._downloader = Downloader(self._token_for, self._patience or Patience(), self._threads)
            return self._downloader

    def _take(self, stop: Stop, workload: Bytes, key: str, *, named: bool) -> Asset | None:
        self._cache_folder.open(stop)
        digest = key if named else self._cache_folder.named(key)
        path = self._cache_folder.take(stop, digest, _flight_of(workload)) if digest is not None else None
        if path is None or digest is None:
            return None
        stamp = FileStamp.of(path)
        if stamp.size != workload.size:
            raise FetchError(f"{workload.name}: expected {workload.size} bytes, but sha256:{digest} has {stamp.size}")
        return _asset(path, digest, stamp)


def _flight_of(workload: Bytes) -> str:
    """Return the holder that keeps bytes until the callers waiting for them hold them."""
    return f"fetching {workload.location}"


def _asset(path: Path, digest: str, stamp: FileStamp) -> Asset:
    return Asset(path=path, size=stamp.size, digest=f"sha256:{digest}", stamp=stamp)


def _still(asset: Asset) -> bool:
    """Return whether the file is unchanged since it was checked."""
    try:
        return FileStamp.of(asset.path) == asset.stamp
    except OSError:
        return False


async def _end(task: asyncio.Task[Asset]) -> None:
    """Cancel a task if it still runs, and wait until it has ended, whatever its result."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
