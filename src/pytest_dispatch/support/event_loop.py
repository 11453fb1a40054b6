"""The lab's event loop in a thread of its own: the one place where sync meets async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import TypeVar

from pytest_dispatch.core.errors import LabError

T = TypeVar("T")

STOP = 2.0  # seconds in which the loop must end


class LoopThread:
    """Runs coroutines for a caller without a loop; every call has a time limit, even if the loop is blocked."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread and its loop."""
        from anyio.from_thread import start_blocking_portal

        portal = self._stack.enter_context(start_blocking_portal("asyncio", name="dispatch-lab"))
        self._loop = portal.call(asyncio.get_running_loop)

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
        # Not the portal's own method: it waits without a limit for the loop to take the task, and to cancel it.
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
        self._loop = None
        end = threading.Thread(target=self._stack.close, name="dispatch-lab-end", daemon=True)
        end.start()
        end.join(timeout)
        if end.is_alive():
            raise LabError(f"the lab's event loop did not end within {timeout:g} s: something blocks it")


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
