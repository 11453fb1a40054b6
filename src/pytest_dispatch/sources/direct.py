"""The way to servers that no proxy leads to, for large answers: httpx with the standard library's client beneath it.

A body is handed on as it is read. That takes a third of the CPU time that httpx's own transport takes, most of which is
for pieces that are put together and taken apart again.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import chain
from typing import Any

import httpx

PIECE = 2**18  # bytes
IDLE = 4  # connections to a server that are kept for the next


_Server = tuple[str, str, int | None]  # scheme, host and port


class Direct(httpx.BaseTransport):
    """Sends requests without a body; any thread may.

    Args:
        trusted: Whom TLS trusts.
        timeout: Seconds for a connection, and for each part of an answer.
    """

    def __init__(self, trusted: ssl.SSLContext, timeout: float) -> None:
        self._trusted = trusted
        self._timeout = timeout
        self._door = threading.Lock()
        self._idle: dict[_Server, list[HTTPConnection]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; returns when the head of the answer is there.

        Raises:
            httpx.TransportError: There is none.
        """
        url = request.url
        server = url.scheme, url.host, url.port
        with self._door:
            idle = self._idle.get(server)
            connection = idle.pop() if idle else None
        if connection is not None:
            try:
                return self._ask(connection, server, request)
            except httpx.NetworkError:
                pass  # the server has closed it meanwhile, as it may at any time
        return self._ask(self._connected(url), server, request)

    def close(self) -> None:
        """Drop the connections that are kept."""
        with self._door:
            for connection in chain(*self._idle.values()):
                connection.close()
            self._idle.clear()

    def _connected(self, url: httpx.URL) -> HTTPConnection:
        host = url.raw_host.decode("ascii")
        if url.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(host, url.port, timeout=self._timeout, context=self._trusted)
        else:
            connection = HTTPConnection(host, url.port, timeout=self._timeout)
        with _told(httpx.ConnectError, httpx.ConnectTimeout, connection.close):
            connection.connect()
        return connection

    def _ask(self, connection: HTTPConnection, server: _Server, request: httpx.Request) -> httpx.Response:
        wire = connection.sock  # which is the answer's alone if it says that it is the last
        path = request.url.raw_path.decode("ascii")
        with _told(httpx.ReadError, httpx.ReadTimeout, connection.close):
            connection.putrequest(request.method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.raw:
                connection.putheader(name.decode("ascii"), value)
            connection.endheaders()
            answer = connection.getresponse()
        return httpx.Response(
            answer.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()],
            stream=_Body(answer, partial(self._done, connection, server, answer)),
            extensions={"network_stream": _Wire(wire)},
        )

    def _done(self, connection: HTTPConnection, server: _Server, answer: HTTPResponse) -> None:
        """Keep a connection whose answer was read to the end."""
        if answer.length == 0:
            answer.read()
        with self._door:
            idle = self._idle.setdefault(server, [])
            if answer.isclosed() and connection.sock is not None and len(idle) < IDLE:
                idle.append(connection)
                return
        answer.close()
        connection.close()


class _Body(httpx.SyncByteStream):
    """The bytes of an answer."""

    def __init__(self, answer: HTTPResponse, done: Callable[[], None]) -> None:
        self._answer = answer
        self._done = done

    def __iter__(self) -> Iterator[bytes]:
        with _told(httpx.ReadError, httpx.ReadTimeout, self._answer.close):
            while piece := self._answer.read1(PIECE):  # what there is, and does not wait for more
                yield piece
            if self._answer.length:
                raise ConnectionError("the connection was cut")

    def close(self) -> None:
        done, self._done = self._done, _nothing
        done()


class _Wire:
    """What httpx calls a network stream, as far as it is asked for."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def get_extra_info(self, info: str) -> Any:
        """Return the socket."""
        return self._wire if info == "socket" else None


@contextmanager
def _told(
    error: type[httpx.TransportError], late: type[httpx.TransportError], undo: Callable[[], None]
) -> Iterator[None]:
    """Tell what went wrong as httpx does."""
    try:
        yield
    except TimeoutError as cause:
        undo()
        raise late(str(cause)) from cause
    except (OSError, HTTPException, ValueError) as cause:  # a ValueError is of what is none of an address or a header
        undo()
        raise error(str(cause)) from cause


def _nothing() -> None:
    pass
