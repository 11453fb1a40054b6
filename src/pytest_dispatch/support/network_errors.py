"""What the network's many errors mean, in the words of a message; and where a token may go."""

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

SECONDARY_WAIT = 60.0  # seconds; what GitHub asks for where a secondary limit names no time

#: How GitHub says, in its own words, that somebody was too fast; the last is that of older servers.
_LIMITED = ("rate limit", "submitted too quickly", "blocked from content creation", "abuse detection")

_LONGEST_WAIT = 7 * 86400.0  # seconds; whoever asks for more means nothing by it

_PORTS = {"http": 80, "https": 443}

#: The first row that fits decides; a row's words may name the error's own.
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
    """Scheme, host and port: a token that is meant for one is never sent to another (RFC 6454, section 4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of a URL; where it has no sensible port, one to which nothing can be sent."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if port is None:
            port = _PORTS.get(parts.scheme, -1)
        return cls(parts.scheme, parts.hostname or "", port)


def is_loopback(host: str) -> bool:
    """Whether a host, as a name or an address, is this computer and no other (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_safe_url(text: str) -> bool:
    """Whether it can be asked for without anybody else reading along: by https, or on this computer."""
    return is_url(text) and (Origin.of(text).scheme == "https" or is_loopback(Origin.of(text).host))


def reason_of(error: BaseException, timeout: float) -> str:
    """Why a request failed, in a few words.

    Args:
        error: What an HTTP library raised; the system's own error is looked for among its causes.
        timeout: Seconds after which the library was told to give up.
    """
    causes = list(_causes(error))
    for kinds, words in _REASONS:
        for cause in causes:
            if isinstance(cause, kinds) and not _is_wrapper(cause):
                own = str(getattr(cause, "strerror", None) or cause) or type(cause).__name__
                return words.format(own=" ".join(own.split()), timeout=format_duration(timeout))
    return "the connection was cut"


def _is_wrapper(error: BaseException) -> bool:
    """Whether an error is a library's, made of a plain `OSError` that says more."""
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
    """Seconds until GitHub wants to be asked again, `None` where it did not say so.

    See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api: after an exceeded
    limit comes 403 or 429, with `retry-after`, else with `x-ratelimit-remaining: 0` and the time of the
    reset, else only in words. What was written too fast may also be refused as if it were wrong: 422, in words.
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
        # One second more, as it is not said when in that second it lifts.
        return min(max(0.0, float(reset) - _server_time(headers)) + 1.0, _LONGEST_WAIT)
    return SECONDARY_WAIT if limited else None


def _server_time(headers: Mapping[str, str]) -> float:
    """Epoch seconds by the server's clock, which is the one that counts for its limits."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):  # the last of a year, or a zone, of twenty digits
        return datetime.now(UTC).timestamp()
