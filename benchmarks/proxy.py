"""The reference for cold labs: hands a release's assets out while they arrive, and does nothing else that a lab does.

    python benchmarks/proxy.py PORT UPSTREAM-PORT COUNT

A machine is known by its IP address. HEAD and GET get it the next of COUNT assets; POST says that it runs, so that the
next HEAD gets another one. Each HEAD and GET is asked of upstream anew, as nothing is kept: no queue, no journal, no
cache, and no digest.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

ASSETS = "repos/me/lab/releases/assets"  # where upstream has them, by their numbers


class Proxy:
    """The one handler, and what it knows of machines."""

    def __init__(self, upstream: int, assets: int) -> None:
        self._url = f"http://127.0.0.1:{upstream}/{ASSETS}"
        self._next = iter(range(assets))
        self._held: dict[str, int] = {}
        self._client: aiohttp.ClientSession | None = None

    async def connect(self, _app: web.Application) -> AsyncIterator[None]:
        """Have a client as long as the application runs."""
        async with aiohttp.ClientSession(auto_decompress=False) as self._client:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a machine."""
        machine = request.remote or ""
        if request.method == "POST":
            self._held.pop(machine, None)
            return web.Response()
        assert self._client is not None
        asset = self._held[machine] = self._held[machine] if machine in self._held else next(self._next)
        async with self._client.request(request.method, f"{self._url}/{asset}") as upstream:
            headers = {"Content-Type": "application/efi", "Content-Length": upstream.headers["Content-Length"]}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            async for piece in upstream.content.iter_any():
                await response.write(piece)
            return response


if __name__ == "__main__":
    port, upstream, assets = map(int, sys.argv[1:])
    proxy, app = Proxy(upstream, assets), web.Application()
    app.router.add_route("*", "/dispatch", proxy.handle)
    app.cleanup_ctx.append(proxy.connect)
    web.run_app(app, host="0.0.0.0", port=port, access_log=None, print=None)
