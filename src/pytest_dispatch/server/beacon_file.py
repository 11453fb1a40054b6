"""GET and HEAD on /beacon.pyz: the program by which workloads report, for images that do not bring it.

Anybody may have it, whichever tool asks: it holds no secret, and to fetch it changes nothing for any machine.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from functools import cache

from aiohttp import web

from pytest_dispatch.beacon.archive import archive

PATH = "/beacon.pyz"
METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class _File:
    """What is served, and the headers that go with it."""

    data: bytes
    headers: dict[str, str]


@cache
def _file() -> _File:
    """Make the file of the installed package, once."""
    data = archive()
    digest = hashlib.sha256(data)
    headers = {
        "Content-Type": "application/zip",
        "ETag": f'"{digest.hexdigest()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",  # RFC 9530, section 3
        "Accept-Ranges": "bytes",
    }
    return _File(data, headers)


async def answer(request: web.Request) -> web.Response:
    """Hand over the file, or a part of it."""
    if request.method not in METHODS:
        allowed = ", ".join(METHODS)
        return web.Response(status=405, text=f"expected one of {allowed}\n", headers={"Allow": allowed})
    try:
        file = await asyncio.to_thread(_file)
    except OSError as error:
        return web.Response(status=503, text=f"beacon.pyz cannot be made: {error}\n")
    etag = file.headers["ETag"]
    known = request.headers.get("If-None-Match", "").replace("W/", "").split(",")
    if {each.strip() for each in known} & {etag, "*"}:
        return web.Response(status=304, headers=file.headers)
    span = _span(request, etag)
    if span is None:
        return web.Response(body=file.data, headers=file.headers)
    start, end, _ = span.indices(len(file.data))
    where = f"{start}-{end - 1}" if start < end else "*"
    headers = {**file.headers, "Content-Range": f"bytes {where}/{len(file.data)}"}
    return web.Response(status=206 if start < end else 416, body=file.data[span], headers=headers)


def _span(request: web.Request, etag: str) -> slice | None:
    """Return which bytes a GET asks for; None for all, also where its Range is none (RFC 9110, section 14.2)."""
    if request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    try:
        span = request.http_range
    except ValueError:
        return None
    return None if span.start is None else span
