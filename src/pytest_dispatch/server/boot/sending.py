"""Sends a part of a file over a connection, and knows how much of it the other side has taken.

The pump writes it. That all of it was written says nothing: a small file fits into the kernel's own buffer whole. So
the kernel is asked what the machine has acknowledged.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.server.boot.file_snapshot import Promised
    from pytest_dispatch.server.boot.sendfile_pool import Flow, Pump

STALL = 300.0  # seconds in which a machine takes nothing, after which it is given up
SETTLE = 1.0  # seconds that the last write may take
FIRST_LOOK = 0.0005  # seconds until the kernel is asked once more, then twice as long each time
LOOK = 0.05  # the longest between two looks at one that takes something
REST = 0.5  # at one that takes nothing

_SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes of the send queue that were never sent
_SO_NWRITE = 0x1024  # macOS, sys/socket.h: bytes of the send queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The part of a file that is to be sent.

    Attributes:
        promised: What the file has to be, to the end.
        file: Its descriptor.
        start: The first offset.
        end: The one after the last.
        written: Up to where it was given to the connection already.
    """

    promised: Promised
    file: int
    start: int
    end: int
    written: int


async def send(
    transport: asyncio.Transport, piece: Piece, pump: Pump, taken: Callable[[int], None], stall: float = STALL
) -> None:
    """Send a part of a file; return when the other side has it, or is gone.

    Args:
        transport: The head of the answer is out already. Closed when the other side has not taken everything.
        piece: What is to be sent.
        pump: Writes what was not written yet.
        taken: Told up to which offset the other side has taken the file, again and again.
        stall: Seconds in which it may take nothing.

    Raises:
        SpoiledError: The file was changed meanwhile; the other side has not got everything.
    """
    sending = _Sending(transport, piece, taken)
    try:
        await sending.run(pump, stall)
    finally:
        sending.end()


class _Sending:
    """One call of `send`. Keeps a handle of its own on the socket, to ask it also after the loop has closed it."""

    def __init__(self, transport: asyncio.Transport, piece: Piece, taken: Callable[[int], None]) -> None:
        self._transport = transport
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._trouble = select.poll()
        self._trouble.register(self._socket, 0)  # errors and hang-ups are always told
        self._piece = piece
        self._taken = taken
        self._told = -1
        self._flow: Flow | None = None

    async def run(self, pump: Pump, stall: float) -> None:
        """Look again and again, soon at first: most have taken a small file at once."""
        loop = asyncio.get_running_loop()
        pause, give_up = FIRST_LOOK, loop.time() + stall
        self._look(self._missing)
        while self._told < self._piece.end and not self._gone() and loop.time() < give_up:
            self._begin(pump)
            ended = await self._ended_within(min(pause, stall))
            self._check()
            moved = self._look(self._missing)
            give_up = loop.time() + stall if moved else give_up
            pause = FIRST_LOOK if ended else min(2 * pause, LOOK if moved else REST)
        if self._told < self._piece.end:
            await self._settled()

    def end(self) -> None:
        """Tell how far it came, and let go; what was not taken to the end leaves no connection to go on with."""
        if self._flow is not None:
            self._flow.give_up()
        self._look(self._lost)
        if self._told < self._piece.end:
            self._transport.abort()
        self._socket.close()

    def _begin(self, pump: Pump) -> None:
        """Have the pump write as soon as the head of the answer is out."""
        piece = self._piece
        if self._flow is None and piece.written < piece.end and not self._transport.get_write_buffer_size():
            handles = (piece.file, self._socket.fileno())
            self._flow = pump.start(piece.promised, handles, (piece.written, piece.end))

    async def _ended_within(self, seconds: float) -> bool:
        """Wait; returns whether the pump has ended meanwhile."""
        flow = self._flow
        if flow is None or flow.ended.is_set():
            await asyncio.sleep(seconds)
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await flow.ended.wait()
        return flow.ended.is_set()

    async def _settled(self) -> None:
        """Return when the pump has said how much it wrote: the other side may have all of it, and be gone, before."""
        flow = self._flow
        if flow is not None and not flow.ended.is_set():
            flow.give_up()
            await self._ended_within(SETTLE)

    def _check(self) -> None:
        """Break off where the file is at fault."""
        if self._flow is not None and self._flow.error is not None:
            self._transport.abort()
            raise self._flow.error

    def _look(self, missing: Callable[[], int]) -> bool:
        """Tell how far the other side is; returns whether that is news."""
        # First what was written, then what of it is missing: the pump may write more between the two.
        written = self._flow.written if self._flow is not None else self._piece.written
        reached = max(self._piece.start, written - missing())  # the head of the answer may be missing too
        moved = reached > self._told
        if moved:
            self._told = reached
            self._taken(reached)
        return moved

    def _missing(self) -> int:
        """Bytes that were written and not acknowledged."""
        return self._transport.get_write_buffer_size() + self._queued()

    def _lost(self) -> int:
        """Bytes that were written and that the other side has not got.

        Firmware drops its connection when it has the last byte, often without having acknowledged the last two
        segments: a receiver may put off that much (RFC 1122, section 4.2.3.2). It has taken what went out to it.
        """
        buffered, queued, unsent = self._transport.get_write_buffer_size(), self._queued(), self._unsent()
        put_off = 2 * self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) if self._gone() else 0
        return buffered + queued - min(queued - unsent, put_off)

    def _gone(self) -> bool:
        closed = self._flow is not None and self._flow.ended.is_set() and self._flow.written < self._piece.end
        return closed or self._transport.is_closing() or bool(self._trouble.poll(0))

    def _queued(self) -> int:
        """Bytes that the other side has not acknowledged."""
        if sys.platform == "darwin":
            return self._socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        return self._count(termios.TIOCOUTQ)

    def _unsent(self) -> int:
        """Those of them that were never sent."""
        return 0 if sys.platform == "darwin" else self._count(_SIOCOUTQNSD)

    def _count(self, request: int) -> int:
        return int.from_bytes(fcntl.ioctl(self._socket, request, bytes(4)), sys.byteorder)
