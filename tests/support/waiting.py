"""Waits for what can only be looked at, as it sends no event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 120.0  # seconds that anything may take that a test waits for; nothing takes as long


async def until(holds: Callable[[], object]) -> None:
    """Return when it holds; fail when it does not in a long while."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is seen from outside, and sends no event
            await asyncio.sleep(0.002)


def wait_until(holds: Callable[[], object]) -> None:
    """As `until`, in a test without an event loop."""
    ends = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"it did not hold within {PATIENCE:g} s")
        time.sleep(0.002)
