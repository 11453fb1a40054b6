"""Whom a request was meant for, and which page made it.

A page in somebody's browser may have a name of its own point at the lab's address (DNS rebinding) and then speak with
the lab as with its own server; or send requests to the lab's address whose answers it cannot read. The first is told by
the header Host, the second by Origin. No program that is not a browser sends an Origin. That is how the API tells them;
on the boot path, where any Host will do, `people` does.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

_AUTHORITY = re.compile(r"(?:\[([^][]*)\]|([^][:]*))(?::[0-9]*)?", re.ASCII)


def names_of(host: str, computer: str) -> frozenset[str]:
    """What a lab may be called beside its addresses.

    Args:
        host: Where it listens.
        computer: Name of the computer.
    """
    known = {"localhost", host, computer, f"{computer}.local"}
    return frozenset(name.lower().rstrip(".") for name in known if name)


def is_ours(authority: str, names: Collection[str]) -> bool:
    """Whether `HOST[:PORT]` is an address, which nobody can point elsewhere, or one of these names."""
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
    """The Host that the request was meant for, if that is not the lab; one without is of no browser's."""
    return next((given for given in request.headers.getall("Host", []) if given and not is_ours(given, names)), None)


def foreign_page(request: web.Request) -> str | None:
    """The origin of the page that made the request, if that is not the lab itself."""
    origins = request.headers.getall("Origin", ())
    if not origins:
        return None
    ours = f"http://{request.headers.get('Host', '')}".lower()
    return next((given for given in origins if given.lower() != ours), None)
