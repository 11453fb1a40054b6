"""A connection to a lab's API: sends requests, and turns refusals into errors."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import httpx
import msgspec

from pytest_dispatch.client.unreachable_lab import BrokenLabError, UnreachableError
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.server.api.schemas import EPOCH, STALE
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.transport import client_options

if TYPE_CHECKING:
    from httpx_sse import EventSource

TIMEOUT = 30.0  # seconds for an answer, beyond the wait asked for

T = TypeVar("T")


class ConflictError(LabError):
    """The request does not fit the lab's current state (status 409)."""


class StaleError(ConflictError):
    """The session has another holder, or its lease has ended."""


class UnknownTokenError(LabError):
    """The lab does not accept the token (status 401)."""


class MissingError(LabError):
    """The lab has nothing of that name (status 404)."""


class NotAllowedError(LabError):
    """The token may not do that (status 403)."""


_BROKEN = {502, 503, 504}
_REFUSALS: dict[int, type[LabError]] = {
    401: UnknownTokenError,
    403: NotAllowedError,
    404: MissingError,
    409: ConflictError,
    **dict.fromkeys(_BROKEN, BrokenLabError),
}


@runtime_checkable
class Streamed(Protocol):
    """A body that is read as it is sent."""

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""
        ...


def new_transport() -> httpx.HTTPTransport:
    """Return what connects to a lab; making the first one loads half of the HTTP library.

    The lab is on this computer or in the local network, over plain HTTP: ignore the environment's proxies, and do not
    load root certificates, which would take longer than the lab's start.
    """
    return httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)


class LabConnection:
    """The connections of one client. Every method raises `LabError` if the lab cannot be reached, or refuses.

    Args:
        url: `http://HOST:PORT` of the lab.
        token: Bearer token of its API.
        epoch: Epoch of the session's lease; 0 for who holds no session, such as a person.
        transport: Made by `new_transport`, to have it before the lab's URL is known; closed with the connections.
        timeout: Seconds for an answer, beyond the wait asked for.
    """

    def __init__(
        self,
        url: str,
        token: str,
        epoch: int = 1,
        transport: httpx.HTTPTransport | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.url = url
        self.epoch = epoch
        self._timeout = timeout
        self._followed: httpx.Response | None = None
        headers = {"Authorization": f"Bearer {token}"}
        plain = {"trust_env": False, "transport": transport or new_transport()}
        options = client_options(url, os.environ) if url.startswith("https:") else plain
        self._http = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=timeout, **options)

    @property
    def _held(self) -> dict[str, str]:
        return {EPOCH: str(self.epoch)} if self.epoch else {}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def hang_up(self) -> None:
        """End the stream that another thread follows; a lab that goes on would say nothing for a while."""
        network = self._followed.extensions.get("network_stream") if self._followed is not None else None
        connected = network.get_extra_info("socket") if network is not None else None
        if connected is not None:
            with suppress(OSError):  # it is closed already
                connected.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def events(self, path: str, after: int) -> Iterator[EventSource]:
        """Follow a stream of events with numbers above `after`."""
        from httpx_sse import connect_sse

        headers = {"Last-Event-ID": str(after), **self._held}
        try:
            with connect_sse(self._http, "GET", path, headers=headers) as stream:
                if stream.response.is_error:
                    stream.response.read()
                    raise _refusal(stream.response)
                self._followed = stream.response
                yield stream
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _unreachable(self.url, error) from error

    def ask(
        self,
        gives: type[T],
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> T:
        """Send a request and return the value in its answer."""
        answer = self.call(method, path, body, query, wait)
        try:
            return decode(answer, gives)
        except msgspec.DecodeError as error:
            raise LabError(f"expected a lab at {self.url}, got an answer of something else: {error}") from error

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> bytes:
        """Send a request and return the answer's body; the answer may take `wait` seconds longer than usual."""
        headers = self._held
        content: bytes | Iterator[bytes] | None = None
        if isinstance(body, Streamed):
            content = body.pieces()
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
        elif body is not None:
            content = msgspec.json.encode(body)
            headers |= {"Content-Type": "application/json"}
        try:
            answer = self._http.request(
                method, path, content=content, headers=headers, params=query, timeout=self._timeout + wait
            )
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer.content


def _unreachable(url: str, error: Exception) -> LabError:
    why = str(error) or type(error).__name__
    if "WRONG_VERSION_NUMBER" in why or "RECORD_LAYER_FAILURE" in why:
        why = "it speaks no TLS there; begin the address with http:// if that is the lab"
    return UnreachableError(f"the lab at {url} cannot be reached: {why}")


def _refusal(answer: httpx.Response) -> LabError:
    kind = StaleError if answer.headers.get(EPOCH) == STALE else _REFUSALS.get(answer.status_code, LabError)
    return kind(_problem(answer))


def _problem(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"expected a lab at {answer.url.copy_with(path='/', query=None)}, got {answer.status_code} from it"
