"""What a request says about the version and the part of a file that it wants: conditions and ranges (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


def wants_another(request: web.Request, etag: str) -> bool:
    """Return whether If-Match asks for another version only (section 13.1.1)."""
    return "If-Match" in request.headers and not _names(_header(request, "If-Match"), etag)


def has_it(request: web.Request, etag: str) -> bool:
    """Return whether the client has this version, as If-None-Match says (section 13.1.2)."""
    return _names(_header(request, "If-None-Match").replace("W/", ""), etag)


def span_of(request: web.Request, etag: str, size: int) -> tuple[int, int] | None:
    """Return the offset of the first byte asked for and that after the last; None for the whole file.

    Both are equal if the file has no such bytes. A Range is ignored if it is malformed, has several parts, or has an
    If-Range for another version of the file (section 14.2).
    """
    match = _RANGE.fullmatch(_header(request, "Range"))
    if match is None or (_header(request, "If-Range") or etag) != etag:
        return None
    if match[3] is not None:
        return max(0, size - int(match[3])), size
    start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    malformed = match[2] and int(match[2]) < start
    return None if malformed else (min(start, size), max(end, min(start, size)))


def _header(request: web.Request, name: str) -> str:
    """Return a header's value; join several lines of the same header to a list (section 5.3)."""
    return ", ".join(request.headers.getall(name, ()))


def _names(condition: str, etag: str) -> bool:
    return any(tag.strip() in ("*", etag) for tag in condition.split(","))
