"""Where requests come from: the other end of the connection, or what a trusted proxy says of its client.

A proxy's headers are `X-Forwarded-For`, `-Proto` and `-Host`. They count only if the connection comes from a network of
`trusted_proxies`; anybody else could write anything into them. Of several addresses, the last one that is no proxy's
counts, since clients can send such a header themselves, and proxies append to it.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from pytest_dispatch.server.auth.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Collection

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Values of `X-Forwarded-Proto`.
_SCHEMES = {"http", "https"}


class Caller(NamedTuple):
    """Where a request comes from.

    Attributes:
        address: Its IP address.
        scheme: `http` or `https`, as the client used it.
        host: The host that the client asked for, as in the header Host.
        near: Whether the connection comes from this computer, and not by way of a proxy.
    """

    address: str
    scheme: str
    host: str
    near: bool = False


#: Where a request keeps where it comes from.
CALLER = web.RequestKey("caller", Caller)


def caller_of(request: web.Request, proxies: Collection[Network]) -> Caller:
    """Return where a request comes from.

    Raises:
        ForbiddenError: A trusted proxy's headers cannot be read.
    """
    address, host = request.remote or "", request.headers.get("Host", "")
    peer = _parsed(address)
    if peer is None or not _is_in(peer, proxies) or "X-Forwarded-For" not in request.headers:
        return Caller(address, "https" if request.secure else "http", host, near=bool(peer and peer.is_loopback))
    client = _client(", ".join(request.headers.getall("X-Forwarded-For")), proxies)
    scheme = _last(request, "X-Forwarded-Proto").lower()
    if scheme not in _SCHEMES:
        raise ForbiddenError(f"expected http or https in the proxy's header X-Forwarded-Proto, got {scheme[:20]!r}")
    named = _last(request, "X-Forwarded-Host") or host
    return Caller(str(client), scheme, named)


def _client(chain: str, proxies: Collection[Network]) -> Address:
    """Return the last address of a chain that is no trusted proxy's."""
    found = None
    for text in reversed(chain.split(",")):
        found = _parsed(text)
        if found is None:
            raise ForbiddenError(f"expected addresses in the proxy's header X-Forwarded-For, got {text.strip()[:40]!r}")
        if not _is_in(found, proxies):
            break
    if found is None:
        raise ForbiddenError("expected addresses in the proxy's header X-Forwarded-For, got none")
    return found


def _last(request: web.Request, name: str) -> str:
    """Return the last value of a header, which the proxy nearest to the lab has written."""
    return ",".join(request.headers.getall(name, [])).rpartition(",")[2].strip()


def _parsed(text: str) -> Address | None:
    """Return an address, which may have brackets, a port, or be IPv4 written as IPv6; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)
