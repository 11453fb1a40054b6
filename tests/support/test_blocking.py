"""Blocking work beside the loop is never left behind by who asked for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_dispatch.support.blocking import StoppedError, held, held_here, in_thread, try_lock

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


async def test_a_lock_is_held_until_it_is_left(tmp_path: Path) -> None:
    async with held(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None
    free = try_lock(tmp_path / "lock")
    assert free is not None
    free.release()


async def test_waiting_for_a_lock_leaves_the_loop_alone(tmp_path: Path) -> None:
    other = FileLock(tmp_path / "lock")
    other.acquire()
    got = asyncio.Event()

    async def wait() -> None:
        async with held(tmp_path / "lock"):
            got.set()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.02)
    assert not got.is_set()
    other.release()
    await task
    assert got.is_set()


async def test_waiting_for_a_lock_in_a_thread_can_be_stopped(tmp_path: Path) -> None:
    begun = threading.Event()

    def work(stop: threading.Event) -> None:
        begun.set()
        with held_here(tmp_path / "lock", stop):
            pytest.fail("somebody else has it")

    with FileLock(tmp_path / "lock"):
        task = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
