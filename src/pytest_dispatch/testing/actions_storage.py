"""Logs and artifacts of a fake GitHub's Actions, on the host of storage, for those who have a signed URL."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_dispatch.testing.github_requests import RequestLog


class Blobs:
    """Serves bytes at signed URLs, and refuses requests that still contain a token.

    Args:
        storage: The base URL of storage.
        log: Counts requests.
    """

    def __init__(self, storage: str, log: RequestLog) -> None:
        self._storage = storage
        self._log = log
        self._contents: dict[str, Callable[[], bytes]] = {}
        self.table = [web.get("/blobs/{signature}/{name}", self._serve)]

    def url(self, name: str, content: Callable[[], bytes]) -> str:
        """Return a new URL at which a content can be fetched."""
        signature = secrets.token_hex(8)
        self._contents[signature] = content
        return f"{self._storage}/blobs/{signature}/{name}"

    async def _serve(self, request: web.Request) -> web.Response:
        self._log.requests[f"GET /blobs/{request.match_info['name']}"] += 1
        if "Authorization" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        content = self._contents.get(request.match_info["signature"])
        if content is None:
            return web.Response(status=403, text="Signature not valid")
        return web.Response(body=content(), content_type="application/octet-stream")
