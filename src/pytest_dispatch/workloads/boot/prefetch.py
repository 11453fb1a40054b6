"""Fetches the bytes of the next workloads before machines ask for them, but not many more."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.core.media import BootPayload
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.locations import DIGEST

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher
    from pytest_dispatch.sources.locations import Locations
    from pytest_dispatch.sources.streamed_asset import Arrival

WORKERS = 3  # assets fetched or hashed at the same time, without those that machines have taken
MOST = 64  # assets fetched at the same time, including those that machines have taken
AHEAD = 16  # assets that may be ready before machines take them, whatever their size
AHEAD_BYTES = 2 * 2**30  # beyond those, as many as fit into this total size


class Prefetcher:
    """Fetches assets in the order of the queue, some of them ahead of the machines.

    Args:
        cache: Fetches and caches the bytes.
        locations: The places from which the lab may read.
        on_ready: Called when a run's bytes are there.
        on_arrival: Called when they can be read while they arrive.
        on_failed: Called with the reason when they cannot be fetched.
    """

    def __init__(
        self,
        cache: AssetFetcher,
        locations: Locations,
        on_ready: Callable[[Run, Asset], None],
        on_arrival: Callable[[Run, Arrival], None],
        on_failed: Callable[[Run, str], None],
    ) -> None:
        self._cache = cache
        self._locations = locations
        self._on_ready = on_ready
        self._on_arrival = on_arrival
        self._on_failed = on_failed
        self._wanted: list[tuple[int, str]] = []
        self._runs: dict[str, Run] = {}
        self._ahead: dict[str, int] = {}  # size by run
        self._ahead_bytes = 0
        self._changed = asyncio.Event()
        self._fetching: dict[str, asyncio.Task[None]] = {}  # by run
        self._broken: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> list[asyncio.Task[None]]:
        """Start to fetch, and return the task that does it, so that the caller notices if it dies."""
        self._task = asyncio.create_task(self._work(), name="the supply of bytes")
        return [self._task]

    async def stop(self) -> None:
        """Cancel all fetches."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def want(self, runs: list[Run]) -> None:
        """Fetch what these runs need, in their order."""
        for run in runs:
            self._runs[run.id] = run
            heapq.heappush(self._wanted, (run.position, run.id))
        self._changed.set()

    def taken(self, run_id: str) -> None:
        """Make room for one more asset, because a machine took the run or nobody wants it any more."""
        self._runs.pop(run_id, None)
        self._ahead_bytes -= self._ahead.pop(run_id, 0)
        if self._wanted:
            self._changed.set()

    def _next(self) -> Run | None:
        while self._wanted and self._may_begin():
            _, run_id = heapq.heappop(self._wanted)
            if run_id in self._runs:
                self._ahead[run_id] = size = BootPayload.of(self._runs[run_id].workload).size
                self._ahead_bytes += size
                return self._runs[run_id]
        return None

    def _may_begin(self) -> bool:
        """Return whether one more may be fetched; assets that machines read while they arrive do not count as ahead."""
        if len(self._ahead) >= AHEAD and self._ahead_bytes >= AHEAD_BYTES:
            return False
        return len(self._fetching) < MOST and sum(run in self._ahead for run in self._fetching) < WORKERS

    async def _work(self) -> None:
        try:
            while self._broken is None:
                self._changed.clear()
                while run := self._next():
                    task = self._fetching[run.id] = asyncio.create_task(self._fetch(run))
                    task.add_done_callback(partial(self._fetched, run.id))
                await self._changed.wait()
            raise self._broken
        finally:
            for task in self._fetching.values():
                task.cancel()
            await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    def _fetched(self, run_id: str, task: asyncio.Task[None]) -> None:
        if self._fetching.get(run_id) is task:
            del self._fetching[run_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._changed.set()

    async def _fetch(self, run: Run) -> None:
        try:
            asset = await self._cache.fetch(_bytes_of(run, self._locations), run.id, partial(self._on_arrival, run))
        except FetchError as error:
            self._on_failed(run, str(error))
            self.taken(run.id)
        else:
            self._on_ready(run, asset)


def _bytes_of(run: Run, locations: Locations) -> Bytes:
    workload, payload = run.workload, BootPayload.of(run.workload)
    try:
        location, root = locations.find(payload.location)
    except ConfigError as error:  # the folder of an earlier lab
        raise FetchError(f"{workload.name}: {error}") from None
    return Bytes(
        name=workload.name,
        location=location,
        size=payload.size,
        digest=workload.digest,
        root=root,
        session=run.session if DIGEST.fullmatch(location) else "",
    )
