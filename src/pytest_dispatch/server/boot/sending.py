"""Sends a part of a file over a connection, and tracks how much of it the machine has received.

The pump writes the bytes. A complete write does not mean that the machine has them: a small file fits into the kernel's
send buffer. So the kernel is asked how much the machine has acknowledged.
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
    from pytest_dispatch.server.boot.file_snapshot import FileSnapshot
    from pytest_dispatch.server.boot.sendfile_pool import SendfilePool, Transfer

STALL = 300.0  # seconds without progress after which a transfer is given up
SETTLE = 1.0  # longest wait for the last write, in seconds
FIRST_LOOK = 0.0005  # seconds before the kernel is asked again; each further pause is twice as long
LOOK = 0.05  # longest pause in seconds while a machine receives data
REST = 0.5  # longest pause in seconds while it receives nothing

_SIOCOUTQNSD = 0x894B  # linux/sockios.h: number of bytes in the send queue that were never sent
_SO_NWRITE = 0x1024  # macOS, sys/socket.h: number of bytes in the send queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The part of a file to send.

    Attributes:
        promised: The file as it was advertised; checked until the end.
        file: Descriptor of the file.
        start: Offset of the first byte.
        end: Offset after the last byte.
        written: Offset up to which the bytes are already written to the connection.
    """

    promised: FileSnapshot
    file: int
    start: int
    end: int
    written: int


async def send(
    transport: asyncio.Transport, piece: Piece, pump: SendfilePool, taken: Callable[[int], None], stall: float = STALL
) -> None:
    """Send a part of a file; return when the machine has received it, or is gone.

    Args:
        transport: The connection, with the head of the answer already written. Closed if not everything was received.
        piece: The part to send.
        pump: Writes the bytes that are not yet written.
        taken: Called with the offset up to which the machine has received the file, whenever it grows.
        stall: Longest time without progress, in seconds.

    Raises:
        FileChangedError: The file has changed; the machine has not received everything.
    """
    sending = _Sending(transport, piece, taken)
    try:
        await sending.run(pump, stall)
    finally:
        sending.end()


class _Sending:
    """One call of `send`. It duplicates the socket, to query it even after the event loop has closed the transport."""

    def __init__(self, transport: asyncio.Transport, piece: Piece, taken: Callable[[int], None]) -> None:
        self._transport = transport
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._trouble = select.poll()
        self._trouble.register(self._socket, 0)  # errors and hang-ups are always reported
        self._piece = piece
        self._taken = taken
        self._told = -1
        self._flow: Transfer | None = None

    async def run(self, pump: SendfilePool, stall: float) -> None:
        """Check the progress until the end, at short intervals at first: a small file usually arrives at once."""
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
        """Report the final offset and release the socket; abort the connection if the transfer is incomplete."""
        if self._flow is not None:
            self._flow.give_up()
        self._look(self._lost)
        if self._told < self._piece.end:
            self._transport.abort()
        self._socket.close()

    def _begin(self, pump: SendfilePool) -> None:
        """Start the pump as soon as the head of the answer has left asyncio's buffer."""
        piece = self._piece
        if self._flow is None and piece.written < piece.end and not self._transport.get_write_buffer_size():
            handles = (piece.file, self._socket.fileno())
            self._flow = pump.start(piece.promised, handles, (piece.written, piece.end))

    async def _ended_within(self, seconds: float) -> bool:
        """Wait at most `seconds`, and return whether the pump has ended within that time."""
        flow = self._flow
        if flow is None or flow.ended.is_set():
            await asyncio.sleep(seconds)
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await flow.ended.wait()
        return flow.ended.is_set()

    async def _settled(self) -> None:
        """Wait until the pump has reported how much it wrote: the machine may have left with all bytes before that."""
        flow = self._flow
        if flow is not None and not flow.ended.is_set():
            flow.give_up()
            await self._ended_within(SETTLE)

    def _check(self) -> None:
        """Abort the connection and raise an error if the file has changed or cannot be read."""
        if self._flow is not None and self._flow.error is not None:
            self._transport.abort()
            raise self._flow.error

    def _look(self, missing: Callable[[], int]) -> bool:
        """Report the offset that the machine has received, and return whether it has grown."""
        # Read the written offset before the missing bytes: the pump may write more in between.
        written = self._flow.written if self._flow is not None else self._piece.written
        reached = max(self._piece.start, written - missing())  # the missing bytes may include the head of the answer
        moved = reached > self._told
        if moved:
            self._told = reached
            self._taken(reached)
        return moved

    def _missing(self) -> int:
        """Return the number of bytes written but not acknowledged."""
        return self._transport.get_write_buffer_size() + self._queued()

    def _lost(self) -> int:
        """Return the number of bytes written that the machine has not received at the end.

        Firmware closes its connection once it has the last byte, often before it acknowledges the last two segments: a
        receiver may delay acknowledgements that long (RFC 1122, section 4.2.3.2). Those segments count as received if
        they were sent.
        """
        buffered, queued, unsent = self._transport.get_write_buffer_size(), self._queued(), self._unsent()
        put_off = 2 * self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) if self._gone() else 0
        return buffered + queued - min(queued - unsent, put_off)

    def _gone(self) -> bool:
        closed = self._flow is not None and self._flow.ended.is_set() and self._flow.written < self._piece.end
        return closed or self._transport.is_closing() or bool(self._trouble.poll(0))

    def _queued(self) -> int:
        """Return the number of bytes in the send queue: not acknowledged by the machine."""
        if sys.platform == "darwin":
            return self._socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        return self._count(termios.TIOCOUTQ)

    def _unsent(self) -> int:
        """Return the number of bytes in the send queue that were never sent."""
        return 0 if sys.platform == "darwin" else self._count(_SIOCOUTQNSD)

    def _count(self, request: int) -> int:
        return int.from_bytes(fcntl.ioctl(self._socket, request, bytes(4)), sys.byteorder)
