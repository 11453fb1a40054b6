"""The supply: bytes ahead of the machines, in the order of the queue, and never many more than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from boots import but
from queue_bench import QueueBench, workload

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.core.model import Run
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher, OnArrival, ignored
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.sources.streamed_asset import Arrival
from pytest_dispatch.support.file_stamp import UNKNOWN
from pytest_dispatch.workloads.boot.prefetch import AHEAD, AHEAD_BYTES, MOST, WORKERS, Prefetcher

pytestmark = pytest.mark.anyio


class SlowCache(AssetFetcher):
    """Has the bytes of a workload when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, None)
        self.asked: list[str] = []
        self.under_way: list[str] = []
        self.most = 0
        self.moved = asyncio.Condition()
        self._answers: dict[str, Exception | None] = {}

    async def fetch(self, workload: Bytes, holder: str = "", on_arrival: OnArrival = ignored) -> Asset:
        async with self.moved:
            self.asked.append(workload.name)
            self.under_way.append(workload.name)
            self.most = max(self.most, len(self.under_way))
            self.moved.notify_all()
            try:
                await self.moved.wait_for(lambda: workload.name in self._answers)
            finally:
                self.under_way.remove(workload.name)
            error = self._answers[workload.name]
        if error is not None:
            raise error
        return Asset(path=Path(workload.location), size=workload.size, digest="sha256:0", stamp=UNKNOWN)

    async def answer(self, *names: str, error: Exception | None = None) -> None:
        async with self.moved:
            self._answers.update(dict.fromkeys(names, error))
            self.moved.notify_all()


class Told:
    """A supply, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.cache = SlowCache(folder)
        self.ready: list[str] = []
        self.arriving: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.prefetcher = Prefetcher(
            self.cache, Locations(folders={"w": "/workloads"}), self.on_ready, self.on_arrival, self.on_failed
        )
        self.bench = QueueBench()
        self.tasks: list[asyncio.Task[None]] = []

    def on_ready(self, run: Run, asset: Asset) -> None:
        assert asset.path == Path(run.workload.payload["location"])
        self.ready.append(run.workload.name)

    def on_arrival(self, run: Run, _arrival: Arrival) -> None:
        self.arriving.append(run.workload.name)

    def on_failed(self, run: Run, why: str) -> None:
        self.failed.append((run.workload.name, why))

    def want(self, *names: str, size: int = 4096) -> None:
        wanted = [but(workload(name), size=size) for name in names]
        self.prefetcher.want([self.bench.submit(each, ready=False) for each in wanted])

    def taken(self, *names: str) -> None:
        for name in names:
            self.prefetcher.taken(self.bench.ids[name])

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let the workers go on until they have nothing more to do at once; then it has to be so."""
        for _ in range(1000):
            await asyncio.sleep(0)
        assert reached()


@asynccontextmanager
async def supplied(folder: Path) -> AsyncIterator[Told]:
    told = Told(folder)
    told.tasks = list(told.prefetcher.start())
    try:
        yield told
    finally:
        await told.prefetcher.stop()
        await told.cache.aclose()


def names(count: int, start: int = 0) -> list[str]:
    return [f"w{number:02}" for number in range(start, start + count)]


async def test_fetches_a_few_at_a_time_in_the_order_of_the_queue(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(8))
        await told.until(lambda: len(told.cache.asked) == WORKERS)
        assert told.cache.asked == names(WORKERS)
        await told.cache.answer(*names(8))
        await told.until(lambda: len(told.ready) == 8)
    assert told.cache.asked == names(8)
    assert sorted(told.ready) == names(8)
    assert told.cache.most == WORKERS


async def test_those_asked_for_first_come_first_whenever_they_are_wanted(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        early = [told.bench.submit(workload(name), ready=False) for name in ("a", "b")]
        told.want(*names(4))
        await told.until(lambda: len(told.cache.asked) == WORKERS)
        told.prefetcher.want(early)
        await told.cache.answer(*names(4), "a", "b")
        await told.until(lambda: len(told.ready) == 6)
    assert told.cache.asked == [*names(3), "a", "b", "w03"]


async def test_what_machines_took_while_it_arrives_holds_back_no_other(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(8))
        await told.until(lambda: len(told.cache.asked) == WORKERS)
        told.taken("w00", "w02")
        await told.until(lambda: len(told.cache.asked) == WORKERS + 2)
        assert told.cache.under_way == names(WORKERS + 2)
    assert told.cache.under_way == []


async def test_no_more_are_fetched_than_threads_are_worth(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(MOST + 5))
        for name in names(MOST):
            await told.until(lambda name=name: name in told.cache.asked)  # type: ignore[misc]
            told.taken(name)
        await told.until(lambda: len(told.cache.asked) == MOST)
        await told.cache.answer("w00")
        await told.until(lambda: len(told.cache.asked) == MOST + 1)


async def test_stays_a_few_ahead_of_the_machines(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(AHEAD + 5), size=AHEAD_BYTES // AHEAD)
        await told.cache.answer(*names(AHEAD + 5))
        await told.until(lambda: len(told.ready) == AHEAD)
        assert told.cache.asked == names(AHEAD)
        told.taken("w00", "w07")
        await told.until(lambda: len(told.ready) == AHEAD + 2)
        assert told.cache.asked == names(AHEAD + 2)


async def test_small_ones_are_fetched_further_ahead(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(3 * AHEAD), size=AHEAD_BYTES // (2 * AHEAD))
        await told.cache.answer(*names(3 * AHEAD))
        await told.until(lambda: len(told.ready) == 2 * AHEAD)


async def test_what_nobody_wants_any_more_is_not_fetched(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(6))
        await told.until(lambda: len(told.cache.asked) == WORKERS)
        told.taken("w03", "w04")
        await told.cache.answer(*names(6))
        await told.until(lambda: "w05" in told.ready)
    assert told.cache.asked == ["w00", "w01", "w02", "w05"]


async def test_a_failure_is_told_and_makes_room(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want(*names(AHEAD + 1))
        await told.cache.answer(*names(AHEAD + 1))
        await told.cache.answer("w01", error=FetchError("w01: 404 Not Found"))
        await told.until(lambda: len(told.ready) == AHEAD)
    assert told.failed == [("w01", "w01: 404 Not Found")]
    assert told.cache.asked == names(AHEAD + 1)


async def test_a_failure_that_is_none_of_a_fetch_ends_the_task_that_is_watched(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want("a")
        await told.cache.answer("a", error=ZeroDivisionError("a defect"))
        await told.until(lambda: any(task.done() for task in told.tasks))
        (died,) = [task for task in told.tasks if task.done()]
        assert isinstance(died.exception(), ZeroDivisionError)
        assert (told.ready, told.failed) == ([], [])


async def test_stopping_gives_up_what_is_under_way(tmp_path: Path) -> None:
    async with supplied(tmp_path) as told:
        told.want("a")
        await told.until(lambda: told.cache.under_way == ["a"])
    assert told.cache.under_way == []
    assert all(task.cancelled() for task in told.tasks)
    assert (told.ready, told.failed) == ([], [])
