"""Ctrl-C and SIGTERM: either ends a session tidily, and neither disturbs its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def heed_termination() -> Callable[[], None]:
    """Let SIGTERM end pytest as Ctrl-C does, or else it would leave everything as it stands.

    Who stops a container or a CI job sends it. A handler of somebody else's is left alone.

    Returns:
        What undoes it.
    """
    if not _heard_here() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return lambda: None
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def undo() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return undo


@contextmanager
def not_interrupted() -> Iterator[None]:
    """While inside, none of them is heard: what happens here is short, and must not be left half done."""
    if not _heard_here():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heard_here() -> bool:
    """Python hears signals in its main thread alone."""
    return threading.current_thread() is threading.main_thread()
