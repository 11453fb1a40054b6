"""A real reverse proxy for tests: it has a certificate, and tells the server behind it who asked."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import web
from waiting import PATIENCE

FROM = "127.0.0.2"  # the address from which it connects

#: Headers between two neighbours (RFC 9110, section 7.6.1), and those that this proxy writes itself.
_OWN = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "host"}


@contextmanager
def reverse_proxy(port: int, tls: ssl.SSLContext) -> Iterator[str]:
    """Run a proxy before a server on this computer, and give its URL."""
    ready, ended, where = threading.Event(), asyncio.Event(), list[str]()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        connector = aiohttp.TCPConnector(local_addr=(FROM, 0), limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app = web.Application(client_max_size=2**30)

            async def handle(request: web.Request) -> web.StreamResponse:
                return await _passed_on(session, port, request)

            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            where.append(f"https://127.0.0.1:{runner.addresses[0][1]}")
            ready.set()
            await ended.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield where[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE)
        loop.close()


async def _passed_on(session: aiohttp.ClientSession, port: int, request: web.Request) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
    headers |= {"X-Forwarded-For": request.remote or "", "X-Forwarded-Proto": "https"}
    headers |= {"X-Forwarded-Host": request.host, "Host": request.host}
    data = request.content if request.can_read_body else None
    url = f"http://127.0.0.1:{port}{request.raw_path}"
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.request(
        request.method, url, headers=headers, data=data, allow_redirects=False, timeout=timeout
    ) as answer:
        passed = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
        back = web.StreamResponse(status=answer.status, headers=passed)
        await back.prepare(request)
        async for piece in answer.content.iter_any():
            await back.write(piece)
        return back
