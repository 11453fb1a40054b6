"""The lab's event loop in a thread of its own: the one place where sync meets async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TypeVar

from pytest_dispatch.core.errors import LabError

T = TypeVar("T")

STOP = 2.0  # seconds in which the loop must end


class LoopThread:
    """Runs coroutines for a caller without a loop; every call has a time limit, even if the loop is blocked."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    def start(self) -> None:
        """Start the thread and its loop."""
        running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=_run, args=(running,), name="dispatch-lab", daemon=True)
        self._thread.start()
        self._loop, self._ending = running.result()

    def call(self, work: Callable[[], Awaitable[T]], timeout: float) -> T:
        """Run `work` on the loop, and return its result or raise its error.

        Work that takes too long is cancelled, and so is work whose caller is interrupted.

        Args:
            work: Makes the coroutine.
            timeout: In seconds.

        Raises:
            LabError: It took too long, or the loop is not running or was stopped.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            raise LabError("the lab's event loop is not running; start it first")
        future = asyncio.run_coroutine_threadsafe(_awaited(work), loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():
                raise  # raised by the work itself
            raise LabError(f"the lab did not answer within {timeout:g} s") from None
        except CancelledError:
            raise LabError("the lab stopped before it answered") from None
        finally:
            future.cancel()

    def stop(self, timeout: float = STOP) -> None:
        """End the loop and its thread, and cancel what still runs; do nothing if it is not running.

        Args:
            timeout: In seconds.

        Raises:
            LabError: It took too long; the thread ends when it can, or with the process.
        """
        loop, self._loop = self._loop, None
        if loop is not None and self._ending is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._ending.set)
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise LabError(f"the lab's event loop did not end within {timeout:g} s: something blocks it")


def _run(running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Run a loop until its event is set; what then still runs is cancelled."""

    async def until_the_end() -> None:
        ending = asyncio.Event()
        running.set_result((asyncio.get_running_loop(), ending))
        await ending.wait()

    try:
        asyncio.run(until_the_end())
    except Exception as error:  # noqa: BLE001 - it goes to who waits for the loop, if somebody does
        if not running.done():
            running.set_exception(error)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
