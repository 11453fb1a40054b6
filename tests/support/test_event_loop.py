"""The event loop in a thread: every call has a bound, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.support.event_loop import LoopThread

NAMES = {"dispatch-lab"}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in NAMES]


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    loop.start()
    yield loop
    loop.stop()
    for thread in threads():
        thread.join(20)
    assert not threads()


async def _give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def _fail(error: Exception) -> None:
    raise error


def test_a_result_comes_back(loop: LoopThread) -> None:
    assert loop.call(lambda: _give(7), 20) == 7
    assert [thread.name for thread in threads()] == ["dispatch-lab"]


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("its own"), LabError("taken")])
def test_an_error_comes_back(loop: LoopThread, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        loop.call(lambda: _fail(error), 20)


def test_what_takes_too_long_is_cancelled(loop: LoopThread) -> None:
    cancelled = threading.Event()

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(LabError, match=r"the lab did not answer within 0\.01 s"):
        loop.call(for_ever, 0.01)
    assert cancelled.wait(20)


def test_what_still_runs_when_it_is_stopped_is_cancelled(loop: LoopThread) -> None:
    begun = threading.Event()
    raised: list[BaseException] = []

    async def for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            loop.call(for_ever, 20)
        except LabError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(20)
    loop.stop()
    waiter.join(20)
    assert [str(error) for error in raised] == ["the lab stopped before it answered"]


def test_a_loop_that_is_not_running_says_so() -> None:
    loop = LoopThread()
    with pytest.raises(LabError, match="the lab's event loop is not running; start it first"):
        loop.call(lambda: _give(1), 1)
    loop.stop()


def test_it_may_be_stopped_twice(loop: LoopThread) -> None:
    loop.stop()
    loop.stop()
    assert not threads()


def test_a_loop_that_is_blocked_does_not_block_its_caller(loop: LoopThread) -> None:
    release = threading.Event()

    async def block() -> None:
        release.wait(20)

    with pytest.raises(LabError, match=r"did not answer within 0\.01 s"):
        loop.call(block, 0.01)
    with pytest.raises(LabError, match=r"the lab's event loop did not end within 0\.01 s: something blocks it"):
        loop.stop(0.01)
    release.set()


def test_a_loop_that_ended_by_itself_is_stopped_all_the_same(loop: LoopThread) -> None:
    async def end() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)

    loop.call(end, 20)
    deadline = time.monotonic() + 60
    while threads() and time.monotonic() < deadline:
        time.sleep(0.002)
    loop.stop()
