"""Takes the bytes that a session's holder sends: piece by piece, to where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.server.wire import Uploaded

if TYPE_CHECKING:
    from pytest_dispatch.sources.uploads import Standing, Uploads

PIECE = 2**20  # bytes that are written at once
STALL = 30.0  # seconds within which more of a body has to come


async def receive(
    uploads: Uploads, request: web.Request, digest: str, span: tuple[int, int], heard: Callable[[], None]
) -> Uploaded:
    """Take the body as the bytes of an upload; what came of it before it broke off stays.

    Args:
        uploads: Of the lab.
        request: Of a session's holder.
        digest: Of all of the bytes.
        span: Where the body begins among them, and how many they all are.
        heard: Called with each piece; raises what ends it, such as another holder.

    Raises:
        DispatchError: They cannot be taken.
        web.HTTPRequestTimeout: Nothing came for too long.
    """
    session, (offset, size) = request.match_info["session"], span
    standing = await uploads.begin(session, digest, size)
    length = request.content_length
    if length is not None and offset + length > size:
        raise web.HTTPRequestEntityTooLarge(size, offset + length, text=f"expected {size} bytes, got more")
    async with aclosing(_pieces(request)) as pieces:
        async for piece in pieces:
            heard()
            standing = await uploads.write(session, digest, offset, piece)
            offset += len(piece)
    return uploaded(standing)


def uploaded(standing: Standing) -> Uploaded:
    """Return how far an upload is, as it goes over the wire."""
    return Uploaded(received=standing.received, complete=standing.complete)


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    """The body in pieces that are worth a thread, and what came before a cut as well; one at least."""
    buffer, told = bytearray(), False
    cut: Exception | None = None
    while cut is None:
        try:
            async with asyncio.timeout(STALL):
                some = await request.content.readany()
        except TimeoutError:
            why = f"expected more of the body within {format_duration(STALL)}; go on from where it is"
            cut = web.HTTPRequestTimeout(text=why)
            break
        except (ConnectionError, web.RequestPayloadError) as error:
            cut = error
            break
        buffer += some
        if len(buffer) >= PIECE:
            yield bytes(buffer)
            buffer.clear()
            told = True
        if not some and request.content.at_eof():
            break
    if buffer or not told:
        yield bytes(buffer)
    if cut is not None:
        raise cut
