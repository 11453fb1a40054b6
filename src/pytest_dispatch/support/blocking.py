"""Blocking work beside an event loop: in a thread, but never left running there by a cancelled caller."""

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

POLL = 0.05  # seconds between two looks at a lock that somebody else holds


class StoppedError(Exception):
    """Raised by blocking work that found its `stop` set; nobody but the thread sees it."""


async def in_thread(work: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread, and return what it returns.

    Its first argument is an event. If the caller is cancelled the event is set, and the work waited for: so
    nothing that the caller owns (a file, a lock) is closed under it. Work that takes longer than a moment
    has to look at the event and raise `StoppedError`.
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
                continue  # once more; the first one is raised below, when the thread has ended
        working.exception()  # looked at, so that asyncio does not complain that nobody did
        raise


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[None]:
    """Hold a lock that other processes respect, waiting for it as long as it takes."""
    lock = FileLock(path, thread_local=False)
    try:
        while not await in_thread(_try, lock):  # noqa: ASYNC110 - another process's lock sends no event
            await asyncio.sleep(POLL)
        yield
    finally:
        lock.release()


@contextmanager
def held_here(path: Path, stop: threading.Event) -> Iterator[None]:
    """Like `held`, for work that is in a thread already.

    Raises:
        StoppedError: `stop` was set while it waited.
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
    """The lock, held, unless somebody holds it already."""
    lock = FileLock(path, thread_local=False)
    return lock if _try(threading.Event(), lock) else None


def _try(_stop: threading.Event, lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
