"""GET and HEAD on /beacon.pyz: the program with which workloads report, for images that do not contain it.

Every client may download it: it contains no secret, and the download changes no machine's state.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from functools import cache

from aiohttp import web

from pytest_dispatch.beacon.archive import archive
from pytest_dispatch.server.conditional_requests import has_it, span_of

METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class _File:
    """The bytes of the file, and the headers of an answer with it."""

    data: bytes
    headers: dict[str, str]


@cache
def _file() -> _File:
    """Build the file from the installed package, once."""
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
    """Answer with the file, or a part of it."""
    if request.method not in METHODS:
        allowed = ", ".join(METHODS)
        return web.Response(status=405, text=f"expected one of {allowed}\n", headers={"Allow": allowed})
    try:
        file = await asyncio.to_thread(_file)
    except OSError as error:
        return web.Response(status=503, text=f"beacon.pyz cannot be made: {error}\n")
    etag, size = file.headers["ETag"], len(file.data)
    if has_it(request, etag):
        return web.Response(status=304, headers=file.headers)
    span = span_of(request, etag, size) if request.method == "GET" else None
    if span is None:
        return web.Response(body=file.data, headers=file.headers)
    start, end = span
    where = f"{start}-{end - 1}" if start < end else "*"
    headers = {**file.headers, "Content-Range": f"bytes {where}/{size}"}
    return web.Response(status=206 if start < end else 416, body=file.data[start:end], headers=headers)
