"""Ctrl-C and SIGTERM: either ends a session tidily, and neither disturbs its end."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GAP = 0.2  # seconds between two signals that are not the same; nobody types faster

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def heed_termination() -> Callable[[], None]:
    """Let SIGTERM end pytest as Ctrl-C does, or else it would leave everything as it stands; and let either come once.

    Who stops a container or a CI job sends it. A handler of somebody else's is left alone.

    Returns:
        What undoes it.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {number: each for number, each in usual.items() if _heard_here() and signal.getsignal(number) == each}
    interrupt = _Interrupt()
    for number in ours:
        signal.signal(number, interrupt)

    def undo() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    return undo


class _Interrupt:
    """Raises KeyboardInterrupt, as Python's own handler does; but a signal that comes right after another is the same.

    A program that started pytest at a terminal hears Ctrl-C too, and may hand it on. The second would disturb pytest
    while it unwinds what it was doing.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= GAP:
            self._last = now
            raise KeyboardInterrupt


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
