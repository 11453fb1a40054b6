"""Handles Ctrl-C and SIGTERM: both end a session in order, and neither interrupts its cleanup."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GAP = 0.2  # seconds within which a second signal counts as the same one; nobody presses Ctrl-C faster

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def heed_termination() -> Callable[[], None]:
    """Make SIGTERM interrupt pytest as Ctrl-C does, so that it cleans up; handle a signal that comes twice only once.

    SIGTERM is what stops a container or a CI job. Handlers installed by others are left in place.

    Returns:
        A function that restores the previous handlers.
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
    """Raises KeyboardInterrupt, as Python's own handler does, but ignores a signal that follows within `GAP`.

    A program that started pytest at a terminal gets Ctrl-C too, and may forward it to pytest. That second signal would
    interrupt pytest's cleanup after the first.
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
    """Ignore SIGINT and SIGTERM inside the block, which is short and must not be left half done."""
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
    """Return whether this is the main thread, the only one in which Python handles signals."""
    return threading.current_thread() is threading.main_thread()
