"""The order of events in the double of a service: each happens at its own time, whenever somebody looks."""

from __future__ import annotations

import asyncio
import heapq
import threading
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_dispatch.testing.clock import Clock


class Timeline:
    """What is due, and the time at which it is made to happen.

    Attributes:
        at: The time of the event that is happening, or of the last look.
        woken: Called, in any thread, when what is due next may have changed.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.at = clock.now()
        self.woken: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        clock.listen(self.settle)

    @contextmanager
    def current(self) -> Iterator[float]:
        """Let all happen that is due, and hold the state still for a look or a change; yields the time."""
        with self._lock:
            self._catch_up()
            yield self.at
            self._catch_up()
        self.woken()

    def settle(self) -> None:
        """Let all happen that is due; it wakes nobody, as those who wait do this themselves."""
        with self._lock:
            self._catch_up()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen in so many seconds; infinitely many are never."""
        heapq.heappush(self._due, (self.at + seconds, next(self._order), act))

    def wait(self) -> float | None:
        """Return the real seconds until the next event; None if there is none before somebody acts."""
        with self._lock:
            return self.clock.until(self._due[0][0]) if self._due and self._due[0][0] != float("inf") else None

    async def pass_time(self) -> None:
        """Have everything happen when it is due, until it is cancelled."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        self.woken = lambda: _call_soon(loop, wake)
        while True:
            self.settle()
            wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), self.wait())

    def _catch_up(self) -> None:
        now = self.clock.now()
        while self._due and self._due[0][0] <= now:
            at, _, act = heapq.heappop(self._due)
            self.at = max(self.at, at)
            act()
        self.at = max(self.at, now)


def _call_soon(loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the server has stopped; time passes when somebody looks
        loop.call_soon_threadsafe(wake.set)
