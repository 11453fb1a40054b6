"""Pauses by the lab's clock, for work that is done now and then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock

LOOK = 1.0  # most seconds between looks at the clock


async def pause(clock: Clock, seconds: float, ends: asyncio.Event | None = None) -> None:
    """Return when this much of the clock's time has passed, or when `ends` is set."""
    due, ends = clock.now() + seconds, ends or asyncio.Event()
    while (left := due - clock.now()) > 0 and not ends.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, LOOK)):
                await ends.wait()
