"""Adds an empty `Host` header to HTTP/1.1 requests that have none.

RFC 9112 (section 3.2) makes servers refuse such requests, and aiohttp does. But small firmware, and workloads that
write requests by hand with `nc`, may leave the header out, and the boot path does not need it.
"""

from __future__ import annotations

import math
import re

MOST = 2**16  # maximum number of bytes of a head that are examined; a longer head must have a Host header

_FRAME = re.compile(rb"[\r\n](content-length|transfer-encoding|upgrade)[ \t]*:[ \t]*([^\r\n]*)")


class MissingHostHeaders:
    """Follows the bytes of one connection from the first one. It delays no bytes, and does not examine bodies."""

    def __init__(self) -> None:
        self._head = b""  # the part of the current request's head that has arrived
        self._body = 0.0  # number of bytes before the next head; infinity if unknown

    def completed(self, data: bytes) -> bytes:
        """Return the connection's next bytes, with an empty `Host` at the end of each head that lacks one."""
        if self._body >= len(data):
            self._body -= len(data)
            return data
        seen, at, known = self._head + data, self._body, len(self._head)
        hostless = []  # offsets at which heads without a Host end
        while at < len(seen) and (end := seen.find(b"\r\n\r", int(at))) >= 0:
            head = seen[int(at) : end].lower()
            if _lacks_host(head):
                hostless.append(end + 2)
            at = end + len(b"\r\n\r\n") + _body_length(head)
        self._body = max(0.0, at - len(seen))
        self._head = b"" if self._body else seen[int(at) :]
        if len(self._head) > MOST:
            self._head, self._body = b"", math.inf
        if not hostless:
            return data
        starts, ends = [known, *hostless], [*hostless, len(seen)]
        return b"Host:\r\n".join(seen[start:end] for start, end in zip(starts, ends, strict=True))


def _lacks_host(head: bytes) -> bool:
    """Return whether a lower-case head is HTTP/1.1 and has no `Host`; empty lines may come before it."""
    head = head.lstrip(b"\r\n")
    return b"\r\nhost:" not in head and head.partition(b"\r\n")[0].endswith(b" http/1.1")


def _body_length(head: bytes) -> float:
    """Return the length of the body after a lower-case head; infinity unless it is a plain `Content-Length`."""
    frames = _FRAME.findall(head)
    if not frames:
        return math.inf if head.startswith(b"connect ") else 0.0
    name, value = frames[0]
    counted = len(frames) == 1 and name == b"content-length" and value.strip().isdigit() and len(value) < 16
    return int(value) if counted else math.inf
