"""The listening socket, and what a connection does beyond what aiohttp has it do."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo as _Broken

from pytest_dispatch.server.http_heads import Heads
from pytest_dispatch.server.limits.bounds import Bounds, room
from pytest_dispatch.server.limits.connections import Connections

BACKLOG = 1024  # connections that may wait to be accepted: a whole lab powers on at once
HALF_CLOSED = 30.0  # seconds that a client which has closed its half may wait for its answer
TURNS = 5  # of the loop, after which a connection that was being accepted is there, and one that was aborted is gone
GRACE = 0.2  # seconds that requests under way get to end, twice, when all is to stop

#: A machine's token in a boot URL, wherever it ends.
_TOKEN = re.compile(r"(machine=)[\w%.~-]+")

Tell = Callable[[str, int, str], None]

_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\n"
)

_log = logging.getLogger(__name__)
_log.addFilter(lambda record: not _is_theirs(record))

#: Nobody reads an access log here; events are told by the lab.
_OPTIONS: dict[str, Any] = {"access_log": None, "logger": _log}


def _is_theirs(record: logging.LogRecord) -> bool:
    """Whether it tells of what is no request, or has no body that can be read.

    Whoever sends it is told, and is not to fill anybody's memory with it.
    """
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError)


def _what_came(message: str) -> str:
    """The parser's words without what it shows of the bytes, which may have a token in it."""
    return _TOKEN.sub(r"\1***", message.partition("\n")[0].rstrip(":"))


class Connection(web.RequestHandler):
    """Answers also a client that has closed its half of the connection once its request was out.

    `busybox nc` does so, and is all that some workloads have to report with. Nor does it insist on `Host`. A connection
    for which there is no room gets a 503.
    """

    def __init__(self, connections: Connections, tell: Tell, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._tell = tell
        self._heads = Heads()
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own before it is closed
        self._told_off = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen to it, if there is room."""
        peer = transport.get_extra_info("peername") or ("",)
        self._wire = cast("asyncio.Transport", transport)
        why = self._connections.admit(self, peer[0])
        if not why:
            super().connection_made(transport)
            return
        self._told_off = True
        self._tell(peer[0], 503, why)
        self._wire.write(_NO_ROOM % (len(why) + 1, why.encode()))
        self._wire.close()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; a request whose body they break has come to its end."""
        super().data_received(self._heads.completed(data))
        if self._messages and isinstance(self._messages[-1][0], _Broken):
            self._break_off(_what_came(self._messages[-1][0].message))

    def _break_off(self, what: str) -> None:
        """Tell who waits for the rest of a body that it will not come: aiohttp's parser in C does not."""
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        for body in bodies:
            if not body.is_eof():
                body.set_exception(web.RequestPayloadError(what))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._connections.left(self)
        if not self._told_off:
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, and tell whoever waits for a machine that sends it."""
        if isinstance(exc, HttpProcessingError):
            tls = "HTTPS" in exc.message or "x16\\x03" in exc.message  # how a TLS record begins (RFC 8446, 5.1)
            hint = ": a boot URL begins with http://, not with https://" if tls else ""
            why = f"expected HTTP, got what is none ({_what_came(exc.message)}){hint}"
            self._tell(request.remote or "", status, why)
        return super().handle_error(request, status, exc, message)

    def abort(self) -> None:
        """Close it, whatever is still to be sent."""
        if self._wire is not None:
            self._wire.abort()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio reads the result, aiohttp's own has none
        """Nothing more will come: end when what is under way is answered."""
        self.close()
        asyncio.get_running_loop().call_later(HALF_CLOSED, self._give_up)
        return True

    async def start(self) -> None:
        """Handle requests one after the other; whatever ends that ends the connection."""
        try:
            await super().start()
        finally:
            self._give_up()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Listener:
    """Serves an application at one address.

    Args:
        app: Answers.
        bounds: What callers may take.
        tell: Told of those who are turned away before the application sees them: address, status, and why.

    Attributes:
        connections: Those that are open.
        host: That address, once it listens.
        port: The port.
    """

    def __init__(self, app: web.Application, bounds: Bounds, tell: Tell) -> None:
        self._bounds = bounds
        self._tell = tell
        self._parts = ExitStack()
        self.connections = Connections(bounds.connections, bounds.share)
        self._runner = web.AppRunner(app, shutdown_timeout=GRACE, **_OPTIONS)
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Args:
            host: An address or a name; `::` stands for all addresses, those of IPv4 too.
            port: 0 picks a free one.

        Raises:
            OSError: The address cannot be had.
        """
        sock = _bound(host, port)
        self.host, self.port = sock.getsockname()[:2]
        self.connections.most = self._parts.enter_context(room(self._bounds))
        await self._runner.setup()
        server, loop = cast("web.Server", self._runner.server), asyncio.get_running_loop()  # there since the line above

        options = {
            **_OPTIONS,
            "auto_decompress": False,  # a small body may be as large as it likes unpacked, and nobody has to pack one
            "keepalive_timeout": self._bounds.head,
            "max_line_size": self._bounds.line,
            "max_field_size": self._bounds.line,
            "max_headers": self._bounds.headers,
        }

        def connection() -> Connection:
            return Connection(self.connections, self._tell, server, loop=loop, **options)

        self._server = await loop.create_server(connection, sock=sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Stop listening, and close all connections; those that are in the middle of something after a moment."""
        if self._server is not None:
            await self._accept_no_more(self._server)
        await self._runner.cleanup()
        for connection in self.connections:  # those that take nothing of their answer
            connection.abort()
        await _turns()
        self._parts.close()

    async def _accept_no_more(self, server: asyncio.Server) -> None:
        """Close the listening socket, once what was accepted is there: asyncio would lose it, and leave it open."""
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await _turns()
        server.close()


async def _turns() -> None:
    """Let the loop do what it is about to do."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may have both: machines that are told an address rather speak IPv4.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
