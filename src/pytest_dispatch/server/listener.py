"""The listening socket, and connections that extend aiohttp's."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo as _Broken

from pytest_dispatch.server.limits.bounds import ServerLimits, room
from pytest_dispatch.server.limits.connections import Connections
from pytest_dispatch.server.missing_host import MissingHostHeaders

if TYPE_CHECKING:
    from ssl import SSLContext

BACKLOG = 1024  # maximum number of connections waiting to be accepted: a whole lab may power on at once
HALF_CLOSED = 30.0  # seconds that a client that has closed its half may wait for its answer
TURNS = 5  # iterations of the event loop within which accepting or aborting a connection completes
GRACE = 0.2  # seconds for requests to finish when the server stops; aiohttp waits for this time twice

#: A machine's token in a boot URL, up to its end.
_TOKEN = re.compile(r"(machine=)[\w%.~-]+")

Tell = Callable[[str, int, str], None]

_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\n"
)

_log = logging.getLogger(__name__)
_log.addFilter(lambda record: not _is_theirs(record))

#: Without an access log: the lab reports events itself.
_OPTIONS: dict[str, Any] = {"access_log": None, "logger": _log}


def _is_theirs(record: logging.LogRecord) -> bool:
    """Return whether a log record is about a client's malformed request or body.

    The client gets an answer that says so. Logging it would let clients fill the memory of pytest, which keeps logs.
    """
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError)


def _what_came(message: str) -> str:
    """Return the parser's error without the bytes that it quotes, which may contain a token."""
    return _TOKEN.sub(r"\1***", message.partition("\n")[0].rstrip(":"))


class Connection(web.RequestHandler):
    """A connection that also answers a client that has closed its half after its request.

    `busybox nc` does that, and some workloads have no other tool to report with. Requests need no `Host` header. A
    connection beyond the limits gets a 503.
    """

    def __init__(self, connections: Connections, tell: Tell, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._tell = tell
        self._heads = MissingHostHeaders()
        self._wire: asyncio.Transport | None = None  # aiohttp drops its own reference before the transport is closed
        self._told_off = False
        self._over_tls = False
        self._giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection if the limits allow it, else answer 503 and close it."""
        peer = transport.get_extra_info("peername") or ("",)
        self._wire = cast("asyncio.Transport", transport)
        self._over_tls = transport.get_extra_info("ssl_object") is not None
        why = self._connections.admit(self, peer[0])
        if not why:
            super().connection_made(transport)
            return
        self._told_off = True
        self._tell(peer[0], 503, why)
        self._wire.write(_NO_ROOM % (len(why) + 1, why.encode()))
        self._wire.close()

    def data_received(self, data: bytes) -> None:
        """Process the next bytes; if they are a malformed body, end its request."""
        super().data_received(self._heads.completed(data))
        if self._messages and isinstance(self._messages[-1][0], _Broken):
            self._break_off(_what_came(self._messages[-1][0].message))

    def _break_off(self, what: str) -> None:
        """Raise an error in handlers that wait for the rest of a body, which aiohttp's C parser does not do."""
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        for body in bodies:
            if not body.is_eof():
                body.set_exception(web.RequestPayloadError(what))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from those that are open."""
        self._connections.left(self)
        if self._giving_up is not None:
            self._giving_up.cancel()  # it would keep the connection in memory until then
        if not self._told_off:
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not an HTTP request, and show the user why that machine was refused."""
        if isinstance(exc, HttpProcessingError):
            tls = "HTTPS" in exc.message or "x16\\x03" in exc.message  # the start of a TLS record (RFC 8446, 5.1)
            hint = ": a boot URL begins with http://, not with https://" if tls else ""
            why = f"expected HTTP, got something else ({_what_came(exc.message)}){hint}"
            self._tell(request.remote or "", status, why)
        return super().handle_error(request, status, exc, message)

    def abort(self) -> None:
        """Close the connection at once, and drop unsent bytes."""
        if self._wire is not None:
            self._wire.abort()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio uses the result; aiohttp's method returns None
        """Handle the client's end of input: close the connection once the current request is answered.

        With TLS, asyncio closes it at once, and logs a warning if it is asked not to.
        """
        self.close()
        if self._over_tls:
            return False
        self._giving_up = asyncio.get_running_loop().call_later(HALF_CLOSED, self._give_up)
        return True

    async def start(self) -> None:
        """Handle requests one after the other, and close the connection when that ends for any reason."""
        try:
            await super().start()
        finally:
            self._give_up()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class HttpListener:
    """Serves an application at one address.

    Args:
        app: The application that answers requests.
        bounds: Limits for callers.
        tell: Called with the address, status and reason of each refusal that the application does not see.

    Attributes:
        connections: The open connections.
        host: The address on which the server listens; empty before `start`.
        port: The port on which it listens; 0 before `start`.
    """

    def __init__(self, app: web.Application, bounds: ServerLimits, tell: Tell) -> None:
        self._bounds = bounds
        self._tell = tell
        self._parts = ExitStack()
        self.connections = Connections(bounds.connections, bounds.share)
        self._runner = web.AppRunner(app, shutdown_timeout=GRACE, **_OPTIONS)
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0

    async def start(self, host: str, port: int, tls: SSLContext | None = None) -> None:
        """Listen.

        Args:
            host: An address or a name; `::` stands for all addresses, including IPv4.
            port: 0 picks a free one.
            tls: The certificate; None for plain HTTP.

        Raises:
            OSError: The address cannot be used.
        """
        sock = _bound(host, port)
        self.host, self.port = sock.getsockname()[:2]
        self.connections.most = self._parts.enter_context(room(self._bounds))
        await self._runner.setup()
        server, loop = cast("web.Server", self._runner.server), asyncio.get_running_loop()  # set by setup()

        options = {
            **_OPTIONS,
            "auto_decompress": False,  # a small compressed body could expand to any size, and no client needs it
            "keepalive_timeout": self._bounds.head,
            "max_line_size": self._bounds.line,
            "max_field_size": self._bounds.line,
            "max_headers": self._bounds.headers,
        }

        def connection() -> Connection:
            return Connection(self.connections, self._tell, server, loop=loop, **options)

        self._server = await loop.create_server(connection, sock=sock, backlog=BACKLOG, ssl=tls)

    async def stop(self) -> None:
        """Stop listening, and close all connections; those with a request get a moment to finish."""
        if self._server is not None:
            await self._accept_no_more(self._server)
        await self._runner.cleanup()
        for connection in self.connections:  # the remaining clients do not read their answers
            connection.abort()
        await _turns()
        self._parts.close()

    async def _accept_no_more(self, server: asyncio.Server) -> None:
        """Close the listening socket after connections being accepted are set up: asyncio would leak their sockets."""
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await _turns()
        server.close()


async def _turns() -> None:
    """Let the event loop run callbacks that are already scheduled."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def _bound(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may have both IPv4 and IPv6 addresses: prefer IPv4, which more machines use.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
