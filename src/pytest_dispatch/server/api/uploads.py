"""Receives the uploads of a session's holder piece by piece, and stores them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.server.api.session_schemas import Uploaded

if TYPE_CHECKING:
    from pytest_dispatch.sources.uploads import Standing, Uploads

PIECE = 2**20  # bytes written at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of an upload that is in a request's body.

    Attributes:
        digest: Digest of the whole upload.
        offset: Offset of the body in the upload, in bytes.
        size: Size of the whole upload in bytes.
        stall: Seconds within which the next bytes of the body must arrive.
        heard: Called before each piece is stored; raises an error to end the upload, as when the session has another
            holder.
    """

    digest: str
    offset: int
    size: int
    stall: float
    heard: Callable[[], None]


async def receive(uploads: Uploads, request: web.Request, part: Part) -> Uploaded:
    """Store the body of a request as a part of an upload; if the body breaks off, the bytes received are kept.

    Raises:
        DispatchError: The bytes cannot be stored.
        web.HTTPRequestEntityTooLarge: The body is longer than `size` allows.
        web.HTTPRequestTimeout: No bytes arrived within `stall` seconds.
    """
    session, digest, offset, size = request.match_info["session"], part.digest, part.offset, part.size
    standing = await uploads.begin(session, digest, size)
    length = request.content_length
    if length is not None and offset + length > size:
        raise web.HTTPRequestEntityTooLarge(size, offset + length, text=f"expected {size} bytes, got more")
    async with aclosing(_pieces(request, part.stall)) as pieces:
        async for piece in pieces:
            part.heard()
            standing = await uploads.write(session, digest, offset, piece)
            offset += len(piece)
    return uploaded(standing)


def uploaded(standing: Standing) -> Uploaded:
    """Return the progress of an upload as the API sends it."""
    return Uploaded(received=standing.received, complete=standing.complete)


async def _pieces(request: web.Request, stall: float) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces large enough to be written in a thread, at least one.

    If the body breaks off, yield the bytes received before raising the error.
    """
    buffer, told = bytearray(), False
    cut: Exception | None = None
    while cut is None and not (told and request.content.at_eof()):
        try:
            async with asyncio.timeout(stall):
                buffer += await request.content.readany()
        except TimeoutError:
            why = f"expected more of the body within {format_duration(stall)}; go on from where it is"
            cut = web.HTTPRequestTimeout(text=why)
        except (ConnectionError, web.RequestPayloadError) as error:
            cut = error
        if len(buffer) >= PIECE or cut or request.content.at_eof():
            yield bytes(buffer)
            buffer.clear()
            told = True
    if cut is not None:
        raise cut
