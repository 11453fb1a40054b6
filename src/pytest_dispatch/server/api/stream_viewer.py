"""One who reads a stream of events that many read.

Whoever has all events so far is handed the next ones in the turn in which they are made: the same bytes for all, and no
task wakes for it. Whoever is behind, because its connection is slow, is woken and takes them at its own pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion11, web

PIECE = 2**16  # bytes per write of what one viewer alone gets
ALIVE = b":\n\n"  # a comment, which shows that the stream is alive


class Viewer:
    """A viewer of a stream.

    Args:
        request: Its request.
        welcome: Returns whether it may still see the lab.
        stall: Seconds in which it must take what is sent to it.

    Attributes:
        response: The answer to it. `begin` before anything is sent.
        known: Number of the last event that it has; None if it has none, and needs a snapshot.
        brief: Whether it needs no more of a snapshot than that there is one.
    """

    def __init__(self, request: web.Request, welcome: Callable[[], bool], stall: float) -> None:
        self.response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        self.response.content_type = "text/event-stream"
        self.known: int | None = None
        self.brief = False
        self._request = request
        self._welcome = welcome
        self._stall = stall
        self._idle = False
        self._woken = asyncio.Event()

    async def begin(self) -> None:
        """Begin the answer; its head goes out with the first bytes."""
        if self._request.version >= HttpVersion11:
            self.response.enable_chunked_encoding()
        await self.response.prepare(self._request)

    def wake(self) -> None:
        """Have it look whether there is something for it."""
        self._woken.set()

    def takes(self, before: int, number: int, chunk: bytes) -> bool:
        """Hand it the events from one number to another, if it has all before them and can take them now.

        Args:
            before: Number of the last event before them.
            number: Number of the last of them; the same if it is handed a comment.
            chunk: They, as a chunk of HTTP/1.1.
        """
        transport = self._request.transport
        if not (self._idle and self.known == before and self.response.chunked) or transport is None:
            return False
        if transport.is_closing() or transport.get_write_buffer_size() or not self._welcome():
            return False
        transport.write(chunk)
        self.known = number
        return True

    async def send(self, text: bytes) -> bool:
        """Send it something, at its own pace; return False if it may not see the lab any more.

        Raises:
            TimeoutError: It does not take it.
            ConnectionError: It has left.
        """
        if not self._welcome():
            return False
        for start in range(0, len(text), PIECE):
            async with asyncio.timeout(self._stall):
                await self.response.write(text[start : start + PIECE])
        return True

    async def woken(self) -> None:
        """Return when there is something for it that it could not be handed."""
        self._idle = True
        try:
            await self._woken.wait()
        finally:
            self._idle = False
            self._woken.clear()

    def drop(self) -> None:
        """Close its connection: what it has not taken would wait for it for ever."""
        if self._request.transport is not None:
            self._request.transport.abort()


def chunk_of(text: bytes) -> bytes:
    """Return a text as a chunk of HTTP/1.1 (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(text), text)
