"""Takes the bytes that a session's holder sends: piece by piece, to where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.server.api.schemas import Uploaded

if TYPE_CHECKING:
    from pytest_dispatch.sources.uploads import Standing, Uploads

PIECE = 2**20  # bytes that are written at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a request says of its body.

    Attributes:
        digest: Of all of the bytes.
        offset: Where the body begins among them.
        size: How many they all are.
        stall: Seconds in which more of the body has to come.
        heard: Called with each piece; raises what ends it, such as another holder of the session.
    """

    digest: str
    offset: int
    size: int
    stall: float
    heard: Callable[[], None]


async def receive(uploads: Uploads, request: web.Request, part: Part) -> Uploaded:
    """Take the body of a request as bytes of an upload; what came of it before it broke off stays.

    Raises:
        DispatchError: They cannot be taken.
        web.HTTPRequestEntityTooLarge: They are more than was said.
        web.HTTPRequestTimeout: Nothing came for too long.
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
    """Return how far an upload is, as it goes over the wire."""
    return Uploaded(received=standing.received, complete=standing.complete)


async def _pieces(request: web.Request, stall: float) -> AsyncGenerator[bytes, None]:
    """The body in pieces that are worth a thread, and what came before a cut as well; one at least."""
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
