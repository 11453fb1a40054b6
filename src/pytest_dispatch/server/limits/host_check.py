"""Checks which host a request was meant for, and which web page made it.

A web page may make its own host name resolve to the lab's address (DNS rebinding), and then talk to the lab as to its
own server. Or it may send requests to the lab's address without being able to read the answers. The header Host reveals
the first, Origin the second; only browsers send Origin. The API checks both headers. The boot path accepts any Host,
and detects browsers with `not_firmware`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

#: The key in a request of the origin of its page, if the configuration lets that page call the API.
ALLOWED_PAGE = "allowed_page"

_AUTHORITY = re.compile(r"(?:\[([^][]*)\]|([^][:]*))(?::[0-9]*)?", re.ASCII)


def names_of(host: str, computer: str) -> frozenset[str]:
    """Return the host names of a lab, beside its addresses.

    Args:
        host: Address or name on which the lab listens.
        computer: Host name of the computer.
    """
    known = {"localhost", host, computer, f"{computer}.local"}
    return frozenset(name.lower().rstrip(".") for name in known if name)


def is_ours(authority: str, names: Collection[str]) -> bool:
    """Return whether the host in `HOST[:PORT]` is an IP address, which needs no DNS, or one of these names."""
    match = _AUTHORITY.fullmatch(authority.strip())
    if match is None:
        return False
    literal, name = match.groups()
    host = (literal if name is None else name).lower().rstrip(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in names
    return True


def stranger(request: web.Request, names: Collection[str]) -> str | None:
    """Return the request's Host if it is not the lab; None otherwise. Only programs, not browsers, send no Host."""
    return next((given for given in request.headers.getall("Host", []) if given and not is_ours(given, names)), None)


def foreign_page(request: web.Request, scheme: str, host: str) -> str | None:
    """Return the origin of the web page that made the request; None if there is none, or if it may use the API.

    The lab itself may, and pages that its configuration names.

    Args:
        request: The request.
        scheme: `http` or `https`, as the client asks the lab.
        host: The host that the client asked for.
    """
    if "Origin" not in request.headers or ALLOWED_PAGE in request:
        return None
    own = f"{scheme}://{host}".lower()
    return next((given for given in request.headers.getall("Origin") if given.lower() != own), None)
