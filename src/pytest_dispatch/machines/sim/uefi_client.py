"""HTTP as UEFI firmware speaks it: a plain connection, three headers, no cookies, no redirects.

What is sent and what is refused follows EDK II's HttpBootDxe (UEFI 2.10, section 24.7): `Host` without a port, HEAD and
GET over one connection that is reset in the end, a media type without parameters, a length in both answers.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar
from urllib.parse import urlsplit

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.media import known
from pytest_dispatch.core.model import Idle

#: The headers that firmware sends in addition to `Host`.
FIRMWARE: Mapping[str, str] = {"Accept": "*/*", "User-Agent": "UefiHttpBoot/1.0"}

PATIENCE = 30.0  # seconds without a byte from the server
_HEAD = 65536  # most bytes of the head of an answer
_SKIP = 262144  # bytes of a body read at once
_RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: on, 0 s; close then sends RST instead of FIN
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?")

_T = TypeVar("_T")


class BadAnswerError(Exception):
    """The server's answer cannot be used by firmware; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parsed boot URL.

    Attributes:
        host: Name or address, an IPv6 address without brackets.
        port: The port.
        request: Path and query; not shown, because the query has the machine's token.
        text: The URL without its query, for messages.
    """

    host: str
    port: int
    request: str = field(repr=False)
    text: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Parse a URL.

        Raises:
            MachineError: It is not a plain `http` URL.
        """
        parts = urlsplit(url)
        text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        try:
            port = parts.port or 80
        except ValueError as error:
            raise MachineError(f"expected a boot URL with a port from 1 to 65535, got {text}") from error
        if parts.scheme != "http" or not parts.hostname:
            raise MachineError(f"expected a boot URL such as http://192.168.1.2:8080/dispatch, got {text}")
        query = f"?{parts.query}" if parts.query else ""
        return cls(host=parts.hostname, port=port, request=f"{parts.path or '/'}{query}", text=text)

    @property
    def family(self) -> socket.AddressFamily:
        """Return IPv6 if the host is an IPv6 address, else IPv4."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer; header names are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    closes: bool

    @property
    def line(self) -> str:
        """Return status and reason, as firmware prints them."""
        return f"{self.status} {self.reason}".rstrip()

    @property
    def length(self) -> int:
        """Return the body's length in bytes.

        Raises:
            BadAnswerError: There is no `Content-Length`, or it is not a number.
        """
        given = self.headers.get("content-length", "")
        if not (given.isascii() and given.isdigit() and len(given) < 20):
            raise BadAnswerError(f"expected a Content-Length, got {given!r}; firmware takes no body without it")
        return int(given)


class Connection:
    """One TCP connection of a machine. Every wait ends with a `TimeoutError` after `patience`.

    It uses a bare socket without read-ahead, so that a server sees exactly how much its machine has read.
    """

    def __init__(self, sock: socket.socket, host: str, patience: float) -> None:
        self._socket = sock
        self._host = f"[{host}]" if ":" in host else host
        self._patience = patience
        self._rest = b""  # bytes that came after the last head
        self.address = str(sock.getsockname()[0])

    @classmethod
    async def open(cls, target: Target, *, source: str = "", patience: float = PATIENCE) -> Self:
        """Connect.

        Args:
            target: Where to.
            source: Address to come from; empty for the one that the system takes.
            patience: Seconds without a byte from the server.

        Raises:
            OSError: The server cannot be reached.
        """
        sock = socket.socket(target.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if source:
                sock.bind((source, 0))
            connecting = asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
            await _patiently(patience, connecting)
        except BaseException:  # also after a cancelled connect
            sock.close()
            raise
        return cls(sock, target.host, patience)

    async def ask(self, method: str, request: str, headers: Mapping[str, str] = FIRMWARE, body: bytes = b"") -> Answer:
        """Send a request and read the head of its answer.

        Raises:
            OSError: The connection broke, or the server was silent for too long.
            BadAnswerError: The answer is not HTTP.
        """
        lines = [f"{method} {request} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        data = "\r\n".join([*lines, "", ""]).encode() + body
        await _patiently(self._patience, asyncio.get_running_loop().sock_sendall(self._socket, data))
        while b"\r\n\r\n" not in self._rest:
            if len(self._rest) > _HEAD:
                raise BadAnswerError("expected the head of an HTTP answer, got no end of it")
            piece = await self._receive(1024)
            if not piece:
                raise ConnectionResetError("the server closed the connection before it answered")
            self._rest += piece
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return _parse(head.decode("latin-1"))

    async def peek(self, count: int) -> bytes:
        """Return the next bytes of a body, which stay to be taken.

        Raises:
            OSError: The connection broke or the server kept silent.
        """
        while len(self._rest) < count:
            self._rest += await self._more(count - len(self._rest))
        return self._rest[:count]

    async def skip(self, count: int) -> None:
        """Read and discard this many bytes of a body.

        Raises:
            OSError: The connection broke, or the server was silent for too long.
        """
        left = count - len(self._rest)
        self._rest = self._rest[count:]
        while left > 0:
            left -= len(await self._more(min(left, _SKIP)))

    def hold_little(self, receive_buffer: int) -> None:
        """Have the kernel hold no more than so many bytes for us, so that the server notices a slow reader."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def reason(self, answer: Answer) -> str:
        """Return the reason in the body of a refusal: its first 200 characters at most."""
        length = answer.length if "content-length" in answer.headers else 0
        if length and not self._rest:
            self._rest = await self._receive(min(length, 200))
        return self._rest[:200].decode(errors="replace").strip()

    def reset(self) -> None:
        """Close the connection with RST, as firmware does when it is done or dies."""
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._socket.close()

    async def _more(self, most: int) -> bytes:
        if not (piece := await self._receive(most)):
            raise ConnectionResetError("the server closed the connection in the middle of the body")
        return piece

    async def _receive(self, most: int) -> bytes:
        return await _patiently(self._patience, asyncio.get_running_loop().sock_recv(self._socket, most))


async def _patiently(seconds: float, step: Awaitable[_T]) -> _T:
    """Limit a wait for the server; asyncio's own `TimeoutError` has no text."""
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        raise TimeoutError(f"Server response timeout after {seconds:g} s") from error


def _parse(head: str) -> Answer:
    first, *rest = head.split("\r\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise BadAnswerError(f"expected an HTTP/1.1 answer, got {first[:80]!r}")
    pairs = [line.partition(":") for line in rest]
    if any(not colon for _, colon, _ in pairs):
        raise BadAnswerError("expected header lines 'Name: value', got a line without a colon")
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    asked = headers.get("connection", "").lower()
    closes = asked == "close" or (match[1] == "0" and asked != "keep-alive")
    return Answer(status=int(match[2]), reason=match[3] or "", headers=headers, closes=closes)


def usable(answer: Answer) -> Answer:
    """Return the answer if firmware or workload can use it.

    Raises:
        OSError: A later try may succeed.
        BadAnswerError: No try can succeed.
    """
    if answer.status == 417 or answer.status >= 500:
        side = "Server" if answer.status >= 500 else "Client"
        raise ConnectionError(f"{side} Error: {answer.line}")
    if answer.status != 200:
        raise BadAnswerError(f"expected 200, got {answer.line}")
    return answer


def check_same(head: Answer, answer: Answer) -> None:
    """Check that GET matches HEAD, by which firmware has allocated its memory.

    Raises:
        BadAnswerError: Lengths or media types differ, or firmware cannot boot the type.
    """
    if answer.length != head.length:
        raise BadAnswerError(f"expected {head.length} bytes as HEAD promised, got {answer.length} from GET")
    types = [one.headers.get("content-type", "") for one in (head, answer)]
    if types[0] != types[1]:
        raise BadAnswerError(f"expected {types[0]!r} as HEAD promised, got {types[1]!r} from GET")
    bootable = sorted({media.served for media in known().values()})
    if types[0].lower() not in bootable:
        raise BadAnswerError(f"expected a bare media type, one of {', '.join(bootable)}, got {types[0]!r}")
    idle = answer.headers.get("dispatch-idle")
    if idle is not None and idle not in set(Idle):
        raise BadAnswerError(f"expected Dispatch-Idle to be one of {', '.join(Idle)}, got {idle!r}")
