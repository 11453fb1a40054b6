"""Network errors as short texts for messages; rate limits; and which servers may get a token."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pytest_dispatch.beacon.urls import is_url
from pytest_dispatch.core.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

SECONDARY_WAIT = 60.0  # seconds; GitHub's advice for a secondary limit without a given time

#: GitHub's texts for an exceeded rate limit; the last one is from older servers.
_LIMITED = ("rate limit", "submitted too quickly", "blocked from content creation", "abuse detection")

_LONGEST_WAIT = 7 * 86400.0  # seconds; longer waits asked for by a server are cut to this

_PORTS = {"http": 80, "https": 443}

#: Reasons by exception type; the first match decides. `{own}` is the error's own text.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror,), "its name cannot be resolved (no network?)"),
    ((ssl.SSLCertVerificationError,), "its certificate is not trusted: {own}"),
    ((ssl.SSLError,), "no secure connection: {own}"),
    ((TimeoutError,), "no answer within {timeout}"),
    ((ConnectionRefusedError,), "connection refused"),
    ((ConnectionError, http.client.HTTPException), "the connection was cut"),
    ((OSError,), "{own}"),
)


class Origin(NamedTuple):
    """Scheme, host and port: a token for one origin is never sent to another (RFC 6454, section 4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of a URL; an invalid port gives an origin with port -1, which gets no request."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if port is None:
            port = _PORTS.get(parts.scheme, -1)
        return cls(parts.scheme, parts.hostname or "", port)


def is_loopback(host: str) -> bool:
    """Return whether a host, as a name or an address, is always this computer (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_safe_url(text: str) -> bool:
    """Return whether a request to this URL cannot be read by others: by https, or on this computer."""
    return is_url(text) and (Origin.of(text).scheme == "https" or is_loopback(Origin.of(text).host))


def reason_of(error: BaseException, timeout: float) -> str:
    """Return why a request failed, in a few words.

    Args:
        error: The exception of an HTTP library; the system's own error is searched among its causes.
        timeout: The library's timeout in seconds.
    """
    causes = list(_causes(error))
    for kinds, words in _REASONS:
        for cause in causes:
            if isinstance(cause, kinds) and not _is_wrapper(cause):
                own = str(getattr(cause, "strerror", None) or cause) or type(cause).__name__
                return words.format(own=" ".join(own.split()), timeout=format_duration(timeout))
    return "the connection was cut"


def _is_wrapper(error: BaseException) -> bool:
    """Return whether an error is a library's wrapper of an `OSError`, which has more details."""
    return type(error).__module__.partition(".")[0] in ("httpcore", "httpx")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        each = todo.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
            todo += getattr(each, "exceptions", ())  # of an ExceptionGroup


def limit_wait(status: int, headers: Mapping[str, str], message: str = "") -> float | None:
    """Return the seconds until GitHub may be asked again, or `None` if the answer is not about a limit.

    See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: an exceeded limit is
    answered with 403 or 429, and with `retry-after`, or with `x-ratelimit-remaining: 0` and the time of the reset, or
    only with a text. Content created too fast may also be answered with 422 and a text.
    """
    limited = status == 429 or any(words in message.lower() for words in _LIMITED)
    if status < 500 and not (status in (403, 429) or (status == 422 and limited)):
        return None
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return min(float(after), _LONGEST_WAIT)
    if status >= 500:
        return None
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        # One second more, because the reset time is given in whole seconds.
        return min(max(0.0, float(reset) - _server_time(headers)) + 1.0, _LONGEST_WAIT)
    return SECONDARY_WAIT if limited else None


def _server_time(headers: Mapping[str, str]) -> float:
    """Return epoch seconds by the server's clock, which its limits depend on."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):  # also a year or zone of twenty digits
        return datetime.now(UTC).timestamp()
