"""Blocking work for an event loop: runs in a thread, and never goes on there after its caller was cancelled."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

POLL = 0.05  # seconds between attempts to take a lock


class StoppedError(Exception):
    """Raised by blocking work whose `stop` event was set; it never leaves the thread."""


async def in_thread(work: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread, and return its result.

    The first argument of `work` is an event. If the caller is cancelled, the event is set and the work is awaited, so
    that nothing the caller owns (a file, a lock) is closed while the work uses it. Work that takes longer than a
    moment must check the event and raise `StoppedError`.
    """
    stop = threading.Event()
    working = asyncio.get_running_loop().run_in_executor(None, partial(work, stop, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        while not working.done():
            try:
                await asyncio.wait([working])
            except asyncio.CancelledError:
                continue  # wait again; the first cancellation is raised below, when the thread has ended
        working.exception()  # retrieved, so that asyncio does not log it as never retrieved
        raise


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[None]:
    """Hold a lock shared with other processes, waiting for it without a limit."""
    lock = FileLock(path, thread_local=False)
    try:
        while not await in_thread(_try, lock):  # noqa: ASYNC110 - another process's lock sends no event
            await asyncio.sleep(POLL)
        yield
    finally:
        lock.release()


@contextmanager
def held_here(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold a lock like `held`, for work that is already in a thread.

    Raises:
        StoppedError: `stop` was set during the wait.
    """
    lock = FileLock(path, thread_local=False)
    while not _try(stop, lock):
        if stop.wait(POLL):
            raise StoppedError
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> FileLock | None:
    """Return the held lock, or None if it is held elsewhere."""
    lock = FileLock(path, thread_local=False)
    return lock if _try(threading.Event(), lock) else None


def _try(_stop: threading.Event, lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
