"""Release assets that a shared lab cannot read: pytest fetches them with its own token, which never leaves it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.media import BootPayload
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.base import Bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.core.secrets import Token


def fetcher(cache: Path, limit: int, token: Token) -> Callable[[Workload], Path]:
    """Return what fetches the bytes of a workload into this user's cache, checked, and gives the file.

    Args:
        cache: The cache folder.
        limit: Maximum size of the cache in bytes.
        token: GitHub token, sent only to its own API.
    """

    async def fetch(workload: Workload) -> Path:
        payload = BootPayload.of(workload)
        wanted = Bytes(name=workload.name, location=payload.location, size=payload.size, digest=workload.digest)
        async with aclosing(AssetFetcher(cache, limit, token)) as assets:
            return (await assets.fetch(wanted)).path

    return lambda workload: asyncio.run(fetch(workload))
