"""A thread that reads the journal, one query after the other, for callers on an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pytest_dispatch.core.errors import JournalError

T = TypeVar("T")


class ReadingThread:
    """A thread that begins with the first question. `close` after use.

    Args:
        name: The thread's name.
        error: Raised for questions after `close`.
    """

    def __init__(self, name: str, error: JournalError) -> None:
        self._name = name
        self._error = error
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._door = threading.Lock()
        self._closed = False

    async def ask(self, question: Callable[[], T]) -> T:
        """Return what a function returns that is called in the thread.

        Raises:
            JournalError: The thread was closed.
        """
        answer: Future[T] = Future()

        def work() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(question())
                except BaseException as error:  # noqa: BLE001 - passed on to the caller
                    answer.set_exception(error)

        with self._door:
            if self._closed:
                raise self._error
            self._inbox.put(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(answer)

    def close(self, timeout: float = 2.0) -> None:
        """Stop reading. A read that hangs for longer than `timeout` ends with the process."""
        with self._door:
            self._closed = True
            self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        while (work := self._inbox.get()) is not None:
            work()
