"""Looks at an external system that are under way, one for each thing: no look waits for another that takes long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

TICK = 0.2  # seconds between looks at what is due

_log = logging.getLogger(__name__)


class Looks:
    """Begins looks, and cancels those under way at its end; a context manager.

    Args:
        forgiven: What a look may fail with: the next one comes, and deadlines say for how long.
    """

    def __init__(self, *forgiven: type[Exception]) -> None:
        self._forgiven = forgiven
        self._under_way: dict[object, asyncio.Task[None]] = {}

    def begin(self, thing: object, look: Callable[[], Awaitable[None]]) -> None:
        """Look at a thing, unless it is looked at already."""
        if thing not in self._under_way:
            self._under_way[thing] = asyncio.create_task(tried(look(), *self._forgiven), name=f"a look at {thing}")

    async def rest(self) -> None:
        """Wait until something may be due; raises what went wrong with a look."""
        await asyncio.sleep(TICK)
        for thing in [thing for thing, task in self._under_way.items() if task.done()]:
            self._under_way.pop(thing).result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)


async def tried(look: Awaitable[None], *forgiven: type[Exception]) -> None:
    """Let a look fail whose system does not answer; that is logged."""
    try:
        await look
    except forgiven as error:
        _log.info("%s", error)
