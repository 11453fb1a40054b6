"""The storage host of a `FakeGitHub`: sends release assets to every client with a signed URL."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.testing.faults import hang_up

if TYPE_CHECKING:
    from pytest_dispatch.testing.faults import Fault, Faults
    from pytest_dispatch.testing.github_requests import RequestLog
    from pytest_dispatch.testing.github_state import FakeAsset, FakeState

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Storage:
    """Serves assets with `Range` and `If-Range`, and refuses requests that still contain a token.

    Args:
        state: The repositories with their assets.
        faults: The faults to simulate.
        log: Counts downloads.
    """

    def __init__(self, state: FakeState, faults: Faults, log: RequestLog) -> None:
        self._state = state
        self._faults = faults
        self._log = log
        self._signature = secrets.token_hex(8)
        self.table = [web.get(r"/storage/{asset:\d+}/{name}", self._serve, allow_head=False)]

    def path(self, asset: FakeAsset) -> str:
        """Return the path of an asset with its signature."""
        return f"/storage/{asset.id}/{asset.name}?sig={self._signature}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self._log.requests[f"GET {request.path}"] += 1
        fault = self._faults.take("GET", request.path)
        if fault is not None and not fault.after:
            await fault.pause()
            if fault.drop:
                return hang_up(request)
            if fault.status:
                return web.Response(status=fault.status, text=fault.message, headers=fault.headers)
        asset = self._state.asset(int(request.match_info["asset"]))
        if "Authorization" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        if asset is None or request.query.get("sig") != self._signature:
            return web.Response(status=403, text="Signature not valid")
        return await self._hand_out(request, asset, fault)

    async def _hand_out(self, request: web.Request, asset: FakeAsset, fault: Fault | None) -> web.StreamResponse:
        size, etag = len(asset), asset.etag()
        start, stop = _span(request, size, etag)
        if start >= size > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        partial = (start, stop) != (0, size)
        response = web.StreamResponse(status=206 if partial else 200)
        response.headers.update({"ETag": etag, "Accept-Ranges": "bytes"})
        response.content_type = "application/octet-stream"
        response.content_length = stop - start
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        await response.prepare(request)
        self._log.downloads[asset.name] += 1
        return await self._body(request, response, asset, (start, stop), fault)

    async def _body(
        self,
        request: web.Request,
        response: web.StreamResponse,
        asset: FakeAsset,
        span: tuple[int, int],
        fault: Fault | None,
    ) -> web.StreamResponse:
        start, stop = span
        if fault is None:
            await self._write(response, asset, start, stop)
            return response
        cut = min(stop, start + fault.after) if fault.after or fault.trickle else stop
        await self._write(response, asset, start, cut)
        if fault.after:
            await fault.pause()
            if fault.drop:
                return hang_up(request, response)
        if fault.trickle:
            return await self._trickle(response, asset, (cut, stop), fault.trickle)
        await self._write(response, asset, cut, stop)
        return response

    async def _trickle(
        self, response: web.StreamResponse, asset: FakeAsset, span: tuple[int, int], seconds: float
    ) -> web.StreamResponse:
        for at in range(*span):
            await self._write(response, asset, at, at + 1)
            await asyncio.sleep(seconds)
        return response

    async def _write(self, response: web.StreamResponse, asset: FakeAsset, start: int, stop: int) -> None:
        for piece in asset.read(start, stop):
            self._log.bytes_served += len(piece)  # first, so that it is true once the client has them
            await response.write(piece)


def _span(request: web.Request, size: int, etag: str) -> tuple[int, int]:
    """Return the requested range of bytes (RFC 9110, sections 13.1.5 and 14.2)."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return 0, size
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
