"""Network errors as short texts for messages, and which servers may get a token."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pytest_dispatch.beacon.urls import is_url
from pytest_dispatch.core.duration import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

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
