"""Blocking work beside an event loop: in a thread, but never left running there by a cancelled caller.

Locks are the operating system's: whoever dies holds none. Nobody looks now and then whether one is free: a thread of
its own waits for it, and lets it go again if it was given up meanwhile.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from pytest_dispatch.support.daemon_thread import in_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

ENDING = 1.0  # seconds that work which is told to stop may take to end


class StoppedError(Exception):
    """Raised by blocking work whose `stop` event was set; it never leaves the thread."""


class Stop(threading.Event):
    """Tells blocking work that nobody wants it any more."""

    def __init__(self) -> None:
        super().__init__()
        self._door = threading.Lock()
        self._wakers: list[Callable[[], object]] = []

    def set(self) -> None:
        """Tell it, and wake it where it waits for something else."""
        super().set()
        with self._door:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Have `wake` called, in any thread and perhaps twice, when it is set while the block runs."""
        with self._door:
            self._wakers.append(wake)
        try:
            if self.is_set():
                wake()
            yield
        finally:
            with self._door:
                self._wakers.remove(wake)


async def in_thread(work: Callable[Concatenate[Stop, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread, and return what it returns.

    The first argument of `work` is an event. If the caller is cancelled, the event is set and the work is awaited, so
    that nothing the caller owns (a file, a lock) is closed while the work uses it. Work that takes longer than a
    moment must check the event and raise `StoppedError`.
    """
    stop = Stop()
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


class Threads:
    """Threads for work that may hang for long: nobody has to wait for it, and the process ends all the same.

    A thread that is done waits for more to do, as starting one takes longer than much of what they are for.

    Args:
        name: Of each of them.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._door = threading.Lock()
        self._idle: list[SimpleQueue[Callable[[], object] | None]] = []
        self._closed = False

    @property
    def idle(self) -> int:
        """How many wait for more to do."""
        return len(self._idle)

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """Begin `work`; returns what it returns or raises: too late to be cancelled, only to be left alone."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()
        with self._door:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name=self._name, daemon=True).start()
        inbox.put(partial(_carry_out, work, done))
        return done

    async def run(self, work: Callable[Concatenate[Stop, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` and return what it returns; it owns all that it uses.

        If the caller is cancelled it is told to stop, and left alone if it does not within `ENDING`.
        """
        stop = Stop()
        working = asyncio.wrap_future(self.begin(partial(work, stop, *args, **kwargs)))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([working], timeout=ENDING)
            working.add_done_callback(lambda _: working.exception())
            raise

    def close(self) -> None:
        """Let those end that are done, and the others when they are."""
        with self._door:
            self._closed = True
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()

    def _serve(self, inbox: SimpleQueue[Callable[[], object] | None]) -> None:
        while (work := inbox.get()) is not None:
            work()
            del work  # and with it what it returned
            with self._door:
                if self._closed:
                    return
                self._idle.append(inbox)


def _carry_out(work: Callable[[], T], done: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - not caught but carried over to whoever waits
        done.set_exception(error)
    else:
        done.set_result(result)


class Lock:
    """A lock on a file that is held; other processes respect it, and other holders in this one."""

    def __init__(self, file: int) -> None:
        self._file = file

    def release(self) -> None:
        """Let go of it."""
        os.close(self._file)


def try_lock(path: Path) -> Lock | None:
    """Return the lock, held, unless somebody holds it already."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


@contextmanager
def held_here(path: Path, stop: Stop) -> Iterator[None]:
    """Hold a lock, for work that is in a thread; waits for it as long as it takes.

    Raises:
        StoppedError: `stop` was set during the wait.
    """
    lock = try_lock(path) or waited_for(path, stop)
    try:
        yield
    finally:
        lock.release()


def waited_for(path: Path, stop: Stop) -> Lock:
    """Return the lock, held, as soon as whoever holds it lets it go.

    Raises:
        StoppedError: `stop` was set before.
    """
    woken = threading.Event()
    lock = in_daemon(lambda: _locked(path, fcntl.LOCK_EX), "dispatch-lock")
    lock.add_done_callback(lambda _: woken.set())
    with stop.waking(woken.set):
        woken.wait()
    if stop.is_set():
        lock.add_done_callback(_let_go)
        raise StoppedError
    return lock.result()


def _let_go(lock: Future[Lock]) -> None:
    if lock.exception() is None:
        lock.result().release()


def _locked(path: Path, how: int) -> Lock:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return Lock(file)
