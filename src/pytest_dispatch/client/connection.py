"""A connection to a lab's API: sends requests, and turns refusals into errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from pytest_dispatch.client.channel import ChannelError
from pytest_dispatch.client.plain_channel import PlainChannel
from pytest_dispatch.client.server_sent_events import read_events
from pytest_dispatch.client.unreachable_lab import BrokenLabError, UnreachableError
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.server.api.schemas import EPOCH, STALE
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from pytest_dispatch.client.channel import Answer, Channel, Stream
    from pytest_dispatch.client.server_sent_events import ServerSentEvent

PREFIX = "/api/v1"
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


class NoLabHereError(LabError):
    """What answers is no lab."""


_REFUSED = 400  # the first status of a refusal
_LEFT = "/%!$&'()*+,;=:@~"  # characters that a path may contain (RFC 3986, 3.3), and escapes
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


class LabConnection:
    """The connections of one client. Every method raises `LabError` if the lab cannot be reached, or refuses.

    Args:
        url: `http://HOST:PORT` of the lab.
        token: Bearer token of its API.
        epoch: Epoch of the session's lease; 0 for who holds no session, such as a person.
        timeout: Seconds for an answer, beyond the wait asked for.
    """

    def __init__(
        self,
        url: str,
        token: str,
        epoch: int = 1,
        timeout: float = TIMEOUT,
    ) -> None:
        self.url = url
        self.epoch = epoch
        self._timeout = timeout
        self._token = token
        self._followed: Stream | None = None
        self._channel = _channel(url, timeout)

    @property
    def _headers(self) -> dict[str, str]:
        held = {EPOCH: str(self.epoch)} if self.epoch else {}
        return {"Authorization": f"Bearer {self._token}", "Accept": "*/*", "User-Agent": "pytest-dispatch", **held}

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    def hang_up(self) -> None:
        """End the stream that another thread follows; a lab that goes on would say nothing for a while."""
        if self._followed is not None:
            self._followed.hang_up()

    @contextmanager
    def events(self, path: str, after: int) -> Iterator[Iterator[ServerSentEvent]]:
        """Follow a stream of events with numbers above `after`."""
        headers = {**self._headers, "Last-Event-ID": str(after), "Accept": "text/event-stream"}
        try:
            with self._channel.stream(self._target(path), headers, self._timeout) as stream:
                _check_events(self.url, stream.answer)
                self._followed = stream
                yield read_events(stream.lines())
        except ChannelError as error:
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
            raise NoLabHereError(f"expected a lab at {self.url}, got an answer of something else: {error}") from error

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> bytes:
        """Send a request and return the answer's body; the answer may take `wait` seconds longer than usual."""
        headers = self._headers
        content: bytes | Iterator[bytes] | None = None
        if isinstance(body, Streamed):
            content = body.pieces()
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
        elif body is not None:
            content = msgspec.json.encode(body)
            headers |= {"Content-Type": "application/json"}
        try:
            answer = self._channel.request(method, self._target(path, query), content, headers, self._timeout + wait)
        except ChannelError as error:
            raise _unreachable(self.url, error) from error
        if answer.status >= _REFUSED:
            raise _refusal(self.url, answer)
        return answer.body

    def _target(self, path: str, query: Mapping[str, str | list[str]] | None = None) -> str:
        """Return the path and query of a request; escapes in the path are left as they are."""
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        return f"{urlsplit(self.url).path}{PREFIX}{quote(path, _LEFT)}{asked}"


def _channel(url: str, timeout: float) -> Channel:
    """Return what leads to a lab; only TLS loads the library for it."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return PlainChannel(parts.hostname or "", parts.port, timeout)
    from pytest_dispatch.client.tls_channel import TlsChannel

    return TlsChannel(f"https://{parts.netloc}")


def _check_events(url: str, answer: Answer) -> None:
    """Check that an answer is a stream of events.

    Raises:
        LabError: It is a refusal, or of something else than a lab.
    """
    if answer.status >= _REFUSED:
        raise _refusal(url, answer)
    kind = answer.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip() != "text/event-stream":
        raise NoLabHereError(f"expected a lab at {url}, got {kind or 'nothing'} in place of events")


def _unreachable(url: str, error: ChannelError) -> LabError:
    return UnreachableError(f"the lab at {url} cannot be reached: {error}")


def _refusal(url: str, answer: Answer) -> LabError:
    kind = StaleError if answer.headers.get(EPOCH, "") == STALE else _REFUSALS.get(answer.status, LabError)
    return kind(_problem(url, answer))


def _problem(url: str, answer: Answer) -> str:
    try:
        return str(msgspec.json.decode(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"expected a lab at {urlsplit(url)._replace(path='/', query='').geturl()}, got {answer.status} from it"
