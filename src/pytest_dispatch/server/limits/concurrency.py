"""Limits how many operations each caller may do at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLimiter:
    """Lets each caller do a number of operations at once; further ones wait.

    Args:
        most: Maximum number of operations at once, for each caller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, list[asyncio.Semaphore]] = {}  # by caller; the same semaphore once for each current turn

    def __len__(self) -> int:
        return len(self._of)

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait until the caller may begin another operation, and hold its turn inside the block."""
        waiting = self._of.setdefault(caller, [])
        semaphore = waiting[0] if waiting else asyncio.Semaphore(self._most)
        waiting.append(semaphore)
        try:
            async with semaphore:
                yield
        finally:
            waiting.pop()
            if not waiting:
                del self._of[caller]
