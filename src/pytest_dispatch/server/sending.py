"""Sends a part of a file over a connection, and knows how much of it the other side has taken.

The kernel sends the file's pages itself (sendfile), so memory does not grow with the file or with the machines. A small
file fits into the kernel's own buffer whole: that all of it was written says nothing, so the kernel is asked what the
machine has acknowledged.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 2**20  # bytes handed to the kernel between two signs of life
STALL = 300.0  # seconds in which a machine takes nothing, after which it is given up

_SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes of the send queue that were never sent
_SO_NWRITE = 0x1024  # macOS, sys/socket.h: bytes of the send queue


class SpoiledError(Exception):
    """A file is no longer what was promised to the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """A file as it was when its size and digest were told.

    Attributes:
        mtime_ns: When it was last changed; 0 where that does not matter.
    """

    path: Path
    size: int
    mtime_ns: int = 0

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, open.

        Raises:
            SpoiledError: It is gone, or was changed.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise SpoiledError(f"{self.path.name} cannot be read any more ({error.strerror})") from error
        with file:
            self.check(file)
            yield file

    def check(self, file: IO[bytes]) -> None:
        """Hold the open file to what was promised.

        Raises:
            SpoiledError: It was changed.
        """
        now = os.fstat(file.fileno())
        if now.st_size != self.size or self.mtime_ns not in (0, now.st_mtime_ns):
            raise SpoiledError(f"{self.path.name} was changed while in use")


async def send(
    transport: asyncio.Transport,
    promised: Promised,
    file: IO[bytes],
    span: tuple[int, int],
    taken: Callable[[int], None],
    stall: float = STALL,
) -> None:
    """Send the bytes from one offset to before another; return when the other side has them, or is gone.

    Args:
        transport: The head of the answer is out already. Closed when the other side has not taken everything.
        promised: What the file has to be, to the end.
        file: Unbuffered.
        span: The two offsets.
        taken: Told up to which offset the other side has taken the file, again and again.
        stall: Seconds in which it may take nothing.

    Raises:
        SpoiledError: The file was changed meanwhile; the other side has not got everything.
    """
    sending = _Sending(transport, span, taken, stall)
    try:
        await sending.run(promised, file)
    except (ConnectionError, TimeoutError, RuntimeError):
        # asyncio raises RuntimeError where the transport was closed between two calls
        sending.written = max(sending.written, file.tell())
    except SpoiledError:
        transport.abort()
        raise
    finally:
        sending.end()


class _Sending:
    """One call of `send`. Keeps a handle of its own on the socket, to ask it also after the loop has closed it."""

    def __init__(
        self, transport: asyncio.Transport, span: tuple[int, int], taken: Callable[[int], None], stall: float
    ) -> None:
        self._transport = transport
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._trouble = select.poll()
        self._trouble.register(self._socket, 0)  # errors and hang-ups are always told
        self._start, self._end = span
        self._taken = taken
        self._stall = stall
        self.written = self._start

    async def run(self, promised: Promised, file: IO[bytes]) -> None:
        loop = asyncio.get_running_loop()
        while self.written < self._end and not self._gone():
            count = min(CHUNK, self._end - self.written)
            try:
                async with asyncio.timeout(self._stall):
                    sent = await loop.sendfile(self._transport, file, self.written, count, fallback=False)
            except asyncio.SendfileNotAvailableError as error:
                if self._gone():
                    break
                raise SpoiledError(f"{promised.path.name} cannot be sent from the disk that it is on") from error
            self.written += sent
            promised.check(file)
            self._tell(self._queued()[0])
        await self._drain()

    async def _drain(self) -> None:
        """Wait until the other side has taken what was written, or is gone, or takes nothing any more."""
        loop = asyncio.get_running_loop()
        pause, left, give_up = 0.0005, self._queued()[0], loop.time() + self._stall
        while left and not self._gone() and loop.time() < give_up:
            await asyncio.sleep(pause)
            pause, before, left = min(pause * 2, 0.05), left, self._queued()[0]
            if left < before:
                self._tell(left)
                give_up = loop.time() + self._stall

    def end(self) -> None:
        """Tell how far it came, and let go; what was not taken to the end leaves no connection to go on with."""
        if self._tell(self._lost()) < self._end:
            self._transport.abort()
        self._socket.close()

    def _tell(self, missing: int) -> int:
        reached = max(self._start, self.written - missing)  # the head of the answer may be missing too
        self._taken(reached)
        return reached

    def _lost(self) -> int:
        """Bytes that were written and that the other side has not got.

        Firmware drops its connection when it has the last byte, often without having acknowledged the last two
        segments: a receiver may put off that much (RFC 1122, section 4.2.3.2). It has taken what went out to it.
        """
        queued, unsent = self._queued()
        put_off = 2 * self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        return queued - min(queued - unsent, put_off) if self._gone() else queued

    def _gone(self) -> bool:
        return self._transport.is_closing() or bool(self._trouble.poll(0))

    def _queued(self) -> tuple[int, int]:
        """Bytes that the other side has not acknowledged, and those of them that were never sent."""
        if sys.platform == "darwin":
            return self._socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE), 0
        unacknowledged, unsent = (
            struct.unpack("i", fcntl.ioctl(self._socket, request, bytes(4)))[0]
            for request in (termios.TIOCOUTQ, _SIOCOUTQNSD)
        )
        return unacknowledged, unsent
