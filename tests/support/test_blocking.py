"""Blocking work beside the loop is never left behind by who asked for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from waiting import until

from pytest_dispatch.support.blocking import Stop, StoppedError, Threads, held_here, in_thread, try_lock

pytestmark = pytest.mark.anyio


async def test_what_the_work_returns_and_raises() -> None:
    def work(_stop: threading.Event, given: int) -> int:
        return 10 // given

    assert await in_thread(work, 5) == 2
    with pytest.raises(ZeroDivisionError):
        await in_thread(work, 0)


async def test_a_cancelled_caller_stops_the_work_and_waits_for_its_end() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(stop: threading.Event) -> None:
        begun.set()
        stop.wait()
        ended.set()
        raise StoppedError

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_even_if_it_is_cancelled_twice() -> None:
    begun, ended, go_on = threading.Event(), threading.Event(), threading.Event()

    def work(_stop: threading.Event) -> None:
        begun.set()
        go_on.wait()
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.005)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_a_lock_is_held_until_it_is_left(tmp_path: Path) -> None:
    with held_here(tmp_path / "lock", Stop()):
        assert try_lock(tmp_path / "lock") is None
    free = try_lock(tmp_path / "lock")
    assert free is not None
    free.release()


def test_a_lock_and_that_of_others_are_the_same(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None
    with held_here(tmp_path / "lock", Stop()), pytest.raises(Timeout):
        FileLock(tmp_path / "lock").acquire(blocking=False)


async def test_waiting_for_a_lock_ends_when_it_is_let_go(tmp_path: Path) -> None:
    other = FileLock(tmp_path / "lock", thread_local=False)
    other.acquire()
    begun, let_go = threading.Event(), threading.Event()

    def work(stop: Stop) -> bool:
        begun.set()
        with held_here(tmp_path / "lock", stop):
            return let_go.is_set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    let_go.set()
    other.release()
    assert await task


@pytest.mark.parametrize("run", [in_thread, Threads("test").run])
async def test_waiting_for_a_lock_can_be_stopped(tmp_path: Path, run: Any) -> None:
    """What waited for it lets it go as soon as it has it."""
    begun = threading.Event()

    def work(stop: Stop) -> None:
        begun.set()
        with held_here(tmp_path / "lock", stop):
            pytest.fail("somebody else has it")

    with FileLock(tmp_path / "lock"):
        task = asyncio.create_task(run(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with held_here(tmp_path / "lock", Stop()):
        pass


async def test_work_that_hangs_is_left_alone() -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def work(_stop: Stop) -> None:
        hangs.set()
        go_on.wait()

    threads = Threads("test")
    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(hangs.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not go_on.is_set()
    go_on.set()
    threads.close()


async def test_threads_that_are_done_are_used_again_and_end() -> None:
    threads = Threads("again")

    def work(_stop: Stop, given: int) -> threading.Thread:
        return threading.current_thread() if given else 1 / given  # type: ignore[return-value]

    first = await threads.run(work, 1)
    assert first.name == "again"
    await until(lambda: threads.idle)
    assert await threads.run(work, 1) is first
    with pytest.raises(ZeroDivisionError):
        await threads.run(work, 0)
    threads.close()
    await asyncio.to_thread(first.join)


def test_what_is_stopped_before_it_waits_is_woken_at_once() -> None:
    stop, woken = Stop(), threading.Event()
    stop.set()
    with stop.waking(woken.set):
        assert woken.is_set()
