"""Runs work that may hang, such as a request to GitHub, in a daemon thread that does not block the process's end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_daemon(work: Callable[[], T], name: str) -> Future[T]:
    """Start `work` in a daemon thread with this name.

    Returns:
        A future with its result or exception; it cannot be cancelled, only ignored.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - passed on to the caller
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
