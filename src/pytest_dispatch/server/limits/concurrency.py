"""Who may do something at the same time, and who has to wait until another is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets each caller do so many things at once; further ones wait for these.

    Args:
        most: At once, for each caller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[str, list[asyncio.Semaphore]] = {}  # one entry for each turn that is taken or waited for

    def __len__(self) -> int:
        return len(self._of)

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """A turn, as soon as there is one."""
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
