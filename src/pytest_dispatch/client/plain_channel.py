"""Plain HTTP to a lab, by the standard library's client.

A lab on this computer or in the local network is reached without any proxy and without TLS. pytest loads this while the
lab loads its own modules: httpx would take a third of what the plugin loads until the first machine is answered.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected

from pytest_dispatch.client.channel import Answer, ChannelError

_PIECE = 2**16  # bytes
_REFUSAL = 400  # the first status that refuses a request


class PlainChannel:
    """Connections to one server, kept open for further requests.

    Args:
        host: Name or address of the server.
        port: Its port; None for the usual one.
        wait: Seconds for a connection.
    """

    def __init__(self, host: str, port: int | None, wait: float) -> None:
        self._host, self._port, self._wait = host, port, wait
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._busy: set[HTTPConnection] = set()
        self._closed = False

    def request(
        self, method: str, target: str, content: bytes | Iterator[bytes] | None, headers: Mapping[str, str], wait: float
    ) -> Answer:
        """Send a request and return its answer."""
        with self._connected(wait) as connection, _told():
            response = _sent(connection, method, target, content, headers)
            return _answer(response, response.read())

    @contextmanager
    def stream(self, target: str, headers: Mapping[str, str], wait: float) -> Iterator[PlainStream]:
        """Send a GET request whose answer is a stream."""
        with self._connected(wait) as connection:
            wire = connection.sock  # which is the answer's alone if it says that it is the last
            with _told():
                response = _sent(connection, "GET", target, None, headers)
                body = response.read() if response.status >= _REFUSAL else b""
            try:
                yield PlainStream(_answer(response, body), response, wire)
            finally:
                response.close()
                connection.close()  # the rest of a stream is not waited for

    def close(self) -> None:
        """Close the connections; requests that are under way fail."""
        with self._lock:
            self._closed = True
            for idle in self._idle:
                idle.close()
            for busy in self._busy:
                _shut(busy.sock)
            self._idle.clear()

    @contextmanager
    def _connected(self, wait: float) -> Iterator[HTTPConnection]:
        """Lend a connection, and keep it afterwards if it can be used again."""
        with self._lock:
            connection = self._taken() or HTTPConnection(self._host, self._port, timeout=self._wait)
            self._busy.add(connection)
        try:
            with _told():
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(wait)
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            with self._lock:
                self._busy.discard(connection)
                if connection.sock is not None and not self._closed:
                    self._idle.append(connection)

    def _taken(self) -> HTTPConnection | None:
        """Return a connection that the server has not closed meanwhile, or None."""
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection.sock):
                return connection
            connection.close()
        return None


class PlainStream:
    """An answer that is read line by line."""

    def __init__(self, answer: Answer, response: HTTPResponse, wire: socket.socket) -> None:
        self.answer = answer
        self._response = response
        self._wire = wire

    def lines(self) -> Iterator[str]:
        """Yield the lines of the body, without their ends."""
        rest = b""
        with _told():
            while piece := self._response.read1(_PIECE):  # what there is, and does not wait for more
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line.decode().rstrip("\r")
            if self._response.length:
                raise IncompleteRead(rest)

    def hang_up(self) -> None:
        """End the stream for the thread that reads it."""
        _shut(self._wire)


def _sent(
    connection: HTTPConnection,
    method: str,
    target: str,
    content: bytes | Iterator[bytes] | None,
    headers: Mapping[str, str],
) -> HTTPResponse:
    """Send a request, and return its answer before the body; a server may refuse a body before it has all of it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, target, content, dict(headers))
    return connection.getresponse()


def _answer(response: HTTPResponse, body: bytes) -> Answer:
    return Answer(response.status, response.headers, body)


def _is_quiet(wire: socket.socket) -> bool:
    """Return whether an idle connection is open: a server that closes it, or says why, has sent something."""
    try:
        wire.setblocking(False)
        wire.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _shut(wire: socket.socket | None) -> None:
    if wire is not None:
        with suppress(OSError):  # it is closed already
            wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def _told() -> Iterator[None]:
    """Say in a few words why there is no whole answer."""
    try:
        yield
    except IncompleteRead as error:
        raise ChannelError("the connection was cut") from error
    except RemoteDisconnected as error:
        raise ChannelError("the connection was closed without an answer") from error
    except BadStatusLine as error:
        raise ChannelError("what answers there speaks no HTTP") from error
    except (OSError, HTTPException) as error:
        raise ChannelError(str(error) or type(error).__name__) from error
