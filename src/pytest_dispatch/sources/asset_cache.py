"""The bytes of workloads as files on this computer: each fetched once, however many machines and sessions want it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.sources.cache_folder import Shelf
from pytest_dispatch.sources.locations import DIGEST
from pytest_dispatch.sources.partial_file import Wanted
from pytest_dispatch.sources.uploads import Uploads
from pytest_dispatch.support.blocking import held, in_thread
from pytest_dispatch.support.file_stamp import FileStamp

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.sources.base import Bytes
    from pytest_dispatch.sources.download import Downloader, Patience

MOST_KNOWN = 4096  # assets that are remembered; one that is not is looked at anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A workload's bytes, checked.

    Attributes:
        path: A file that nobody changes, nor removes while somebody holds it; for a workload from a folder, the user's
            own file.
        digest: `sha256:` and 64 hex digits.
        stamp: The file's, as it was when it was checked.
    """

    path: Path
    size: int
    digest: str
    stamp: FileStamp


@dataclass(slots=True)
class _Flight:
    """One asset on its way, and how many wait for it."""

    task: asyncio.Task[Asset]
    waiting: int = 0


class AssetCache:
    """Fetches assets, and keeps them for this session and the next ones.

    Files of a folder are used where they are, and only hashed; assets of a release are downloaded; and there is what
    sessions upload. Several tasks, sessions and processes may ask for the same asset at the same time: one of them
    fetches it.

    Args:
        folder: Where to keep them, for all sessions; made where there is none.
        limit: How many bytes to keep. Those not used for longest go first; what is in use stays.
        token: Signs requests to its own API, and to no other server.
        on_progress: Called with the workload and the bytes that are there, as they come in.
        patience: Timeouts and pauses.

    Attributes:
        uploads: What sessions send.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        token: Token | None,
        *,
        on_progress: Callable[[Bytes, int], None] = lambda _workload, _bytes_done: None,
        patience: Patience | None = None,
    ) -> None:
        self._folder = folder
        self._shelf = Shelf(folder, limit)
        self._token = token
        self._patience = patience
        self._downloader: Downloader | None = None
        self._on_progress = on_progress
        self._flights: dict[str, _Flight] = {}
        self._known: dict[str, Asset] = {}
        self._shared = False
        self.uploads = Uploads(self._shelf, limit)

    def share(self) -> None:
        """Serve sessions that may not see each other's bytes: who knows a digest must know the source too.

        The limit is then strict, even if assets in use take all of it.
        """
        self._shared = True

    async def open(self) -> None:
        """Make the folder ready, so that a bad one is reported before anything begins.

        Raises:
            ConfigError: It cannot be used.
        """
        try:
            await in_thread(self._shelf.open)
        except OSError as error:
            folder = self._folder
            why = "it is a file" if folder.is_file() else f"{error.strerror or error}: {error.filename or folder}"
            raise ConfigError(
                f"--dispatch-cache: expected a folder that can be written, got {folder} ({why}); name another one"
            ) from error

    async def fetch(self, workload: Bytes, holder: str = "") -> Asset:
        """Have a workload's bytes here, checked against the size and the digest that its source told.

        Cancelling the last one who waits for an asset ends its download; it is resumed when it is next asked
        for.

        Args:
            workload: Says where they are.
            holder: Until when they are kept: until this one is released, or, if it is empty, the cache is closed.

        Raises:
            FetchError: They cannot be had, or are not what was promised.
        """
        key = f"{workload.location}\n{workload.size}\n{workload.digest}"
        while True:
            asset = self._known.get(key)
            if asset is None or not _still(asset):
                asset = await self._fly(key, workload, holder)
            if await self._is_kept(asset, holder):
                if workload.session:
                    self.uploads.taken(workload.session, asset.digest)
                return asset
            self._known.pop(key, None)  # it has just been removed to make room

    def release(self, holder: str) -> None:
        """Let go of what somebody holds: it may be removed to make room."""
        self._shelf.pins.release(holder)

    async def _is_kept(self, asset: Asset, holder: str) -> bool:
        digest = asset.digest.removeprefix("sha256:")
        if not self._shelf.has(asset.path) or self._shelf.pins.holds(digest, holder):
            return True
        return await in_thread(self._shelf.keep, digest, holder)

    async def _fly(self, key: str, workload: Bytes, holder: str) -> Asset:
        """Wait for an asset that is being fetched, or start to fetch it."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._obtain(workload)))
        flight.waiting += 1
        try:
            asset = self._known[key] = await asyncio.shield(flight.task)
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
            await self._is_kept(asset, holder)  # from before the flight lets go of it
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                # From now on whoever asks begins anew, even while this one is still ending.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                await _end(flight.task)
                self.release(_flight_of(workload))
        return asset

    async def aclose(self) -> None:
        """End all downloads, and let other sessions remove what this one used."""
        for flight in list(self._flights.values()):
            await _end(flight.task)
        self._known.clear()
        if self._downloader is not None:
            await self._downloader.aclose()
        await in_thread(lambda _stop: self._shelf.close())

    async def _obtain(self, workload: Bytes) -> Asset:
        try:
            if Path(workload.location).is_absolute():
                return await in_thread(self._look_at, workload)
            if DIGEST.fullmatch(workload.location):
                return await in_thread(self._look_for, workload)
            return await self._from_release(workload)
        except OSError as error:
            place = "" if self._shared else f": {error.filename or self._folder}"  # clients must learn no paths
            raise FetchError(f"{workload.name}: {error.strerror or error}{place}") from error

    def _look_at(self, stop: threading.Event, workload: Bytes) -> Asset:
        self._shelf.open(stop)
        path = Path(workload.location)
        if os.path.realpath(path) != str(path):  # it was none when the folder was listed
            raise FetchError(
                f"{workload.name}: expected a file, a link has taken its place or that of a folder above it"
            )
        digest, stamp = self._shelf.digest_of_file(stop, path, workload.root)
        asset = _asset(path, digest, stamp)
        if stamp.size != workload.size:
            raise FetchError(
                f"{workload.name}: the file has changed: expected {workload.size} bytes, there are {stamp.size}"
            )
        if workload.digest and workload.digest != asset.digest:
            raise FetchError(f"{workload.name}: expected {workload.digest}, got {asset.digest}")
        return asset

    def _look_for(self, stop: threading.Event, workload: Bytes) -> Asset:
        digest = workload.location.removeprefix("sha256:")
        found = self._take(stop, workload, digest, named=True)
        if found is None:
            raise FetchError(f"{workload.name}: what was uploaded has been removed to make room; upload it again")
        return found

    async def _from_release(self, workload: Bytes) -> Asset:
        """Download it, unless it is here: by its digest, or where others share the cache, by where it is from."""
        digest = workload.digest.removeprefix("sha256:") if DIGEST.fullmatch(workload.digest) else ""
        address = hashlib.sha256(f"{workload.location}\n{workload.size}".encode()).hexdigest()
        named = bool(digest) and not self._shared
        key = digest if named else address
        found = await in_thread(self._take, workload, key, named=named)
        if found is None:
            async with held(self._shelf.lock_of(key)):
                found = await in_thread(self._take, workload, key, named=named)
                found = found or await self._download(workload, key, digest)
        if digest and found.digest != workload.digest:
            raise FetchError(f"{workload.name}: expected {workload.digest}, got {found.digest}")
        return found

    async def _download(self, workload: Bytes, key: str, digest: str) -> Asset:
        await in_thread(self._shelf.refuse_what_no_disk_holds, workload.name, workload.size)
        partial = self._shelf.partial_of(key)
        wanted = Wanted(name=workload.name, url=workload.location, size=workload.size, digest=digest)
        got = await self._client().fetch(wanted, partial, lambda done: self._on_progress(workload, done))
        return await in_thread(self._keep, workload, partial, got, "" if key == digest else key)

    def _client(self) -> Downloader:
        """Return the HTTP client, which is made for the first download because folders do not need it."""
        if self._downloader is None:
            from pytest_dispatch.sources.download import Downloader, Patience

            room = self._shelf.need_room if self._shared else self._shelf.make_room
            self._downloader = Downloader(self._token, self._patience or Patience(), room)
        return self._downloader

    def _keep(self, stop: threading.Event, workload: Bytes, partial: Path, digest: str, key: str) -> Asset:
        path = self._shelf.put(stop, partial, digest, _flight_of(workload))
        if key:
            self._shelf.name(key, digest)
        return _asset(path, digest, FileStamp.of(path))

    def _take(self, stop: threading.Event, workload: Bytes, key: str, *, named: bool) -> Asset | None:
        self._shelf.open(stop)
        digest = key if named else self._shelf.named(key)
        path = self._shelf.take(stop, digest, _flight_of(workload)) if digest is not None else None
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
    """Cancel it if it still runs, and wait until it has ended, however it ended."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
