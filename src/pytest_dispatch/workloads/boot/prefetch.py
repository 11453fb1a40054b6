"""Has the bytes of the next workloads ready before a machine asks for them, and never many more than that."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.core.media import BootPayload
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.locations import DIGEST

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.sources.asset_cache import Asset, AssetCache
    from pytest_dispatch.sources.locations import Places

WORKERS = 3  # assets fetched or hashed at the same time
AHEAD = 16  # assets that may lie ready without a machine having taken them, however large they are
AHEAD_BYTES = 2 * 2**30  # and beyond those, as many as are no larger than this together


class Supply:
    """Fetches assets in the order of the queue, some way ahead of the machines.

    Args:
        cache: Has the bytes, or gets them.
        places: Where they may be.
        on_ready: Told when a run's bytes are there.
        on_failed: Told when they cannot be had, and why.
    """

    def __init__(
        self,
        cache: AssetCache,
        places: Places,
        on_ready: Callable[[Run, Asset], None],
        on_failed: Callable[[Run, str], None],
    ) -> None:
        self._cache = cache
        self._places = places
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._wanted: list[tuple[int, str]] = []
        self._runs: dict[str, Run] = {}
        self._ahead: dict[str, int] = {}  # size by run
        self._ahead_bytes = 0
        self._changed = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to fetch; returns the tasks that do, for whoever has to know when one dies."""
        self._workers = [asyncio.create_task(self._work(), name="the supply of bytes") for _ in range(WORKERS)]
        return self._workers

    async def stop(self) -> None:
        """Give up what is being fetched."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

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
        while self._wanted and (len(self._ahead) < AHEAD or self._ahead_bytes < AHEAD_BYTES):
            _, run_id = heapq.heappop(self._wanted)
            if run_id in self._runs:
                self._ahead[run_id] = size = BootPayload.of(self._runs[run_id].workload).size
                self._ahead_bytes += size
                return self._runs[run_id]
        return None

    async def _work(self) -> None:
        while True:
            while (run := self._next()) is None:
                self._changed.clear()
                await self._changed.wait()
            try:
                asset = await self._cache.fetch(_bytes_of(run, self._places), run.id)
            except FetchError as error:
                self._on_failed(run, str(error))
                self.taken(run.id)
            else:
                self._on_ready(run, asset)


def _bytes_of(run: Run, places: Places) -> Bytes:
    workload, payload = run.workload, BootPayload.of(run.workload)
    try:
        location, root = places.find(payload.location)
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
