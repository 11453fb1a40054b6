"""HTTPS to a lab, by httpx: with the certificates and proxies that the environment names."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import httpx

from pytest_dispatch.client.channel import Answer, ChannelError
from pytest_dispatch.support.transport import client_options


class TlsChannel:
    """Connections to one server.

    Args:
        origin: `https://HOST:PORT`.

    Raises:
        ConfigError: The environment names certificates or a proxy that cannot be used.
    """

    def __init__(self, origin: str) -> None:
        self._http = httpx.Client(base_url=origin, **client_options(origin, os.environ))

    def request(
        self, method: str, target: str, content: bytes | Iterator[bytes] | None, headers: Mapping[str, str], wait: float
    ) -> Answer:
        """Send a request and return its answer."""
        with _told():
            answer = self._http.request(method, target, content=content, headers=headers, timeout=wait)
        return Answer(answer.status_code, answer.headers, answer.content)

    @contextmanager
    def stream(self, target: str, headers: Mapping[str, str], wait: float) -> Iterator[TlsStream]:
        """Send a GET request whose answer is a stream."""
        with _told(), self._http.stream("GET", target, headers=headers, timeout=wait) as response:
            body = response.read() if response.is_error else b""
            yield TlsStream(Answer(response.status_code, response.headers, body), response)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class TlsStream:
    """An answer that is read line by line."""

    def __init__(self, answer: Answer, response: httpx.Response) -> None:
        self.answer = answer
        self._response = response

    def lines(self) -> Iterator[str]:
        """Yield the lines of the body, without their ends."""
        with _told():
            yield from self._response.iter_lines()

    def hang_up(self) -> None:
        """End the stream for the thread that reads it."""
        network = self._response.extensions.get("network_stream")
        connected = network.get_extra_info("socket") if network is not None else None
        if connected is not None:
            with suppress(OSError):  # it is closed already
                connected.shutdown(socket.SHUT_RDWR)


@contextmanager
def _told() -> Iterator[None]:
    """Say in a few words why there is no whole answer."""
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as error:
        why = str(error) or type(error).__name__
        if "WRONG_VERSION_NUMBER" in why or "RECORD_LAYER_FAILURE" in why:
            why = "it speaks no TLS there; begin the address with http:// if that is the lab"
        raise ChannelError(why) from error
