"""What comes over a connection, looked through for requests of HTTP/1.1 that lack the header `Host`.

RFC 9112 (section 3.2) has a server refuse them, and aiohttp does. But what writes requests by hand, as small firmware
and workloads with `nc` do, may leave it out, and the boot path has no use for it. So such a request gets an empty one.
"""

from __future__ import annotations

import math
import re

MOST = 2**16  # bytes of a head that are looked at; whoever sends more has to send a Host

_FRAME = re.compile(rb"[\r\n](content-length|transfer-encoding|upgrade)[ \t]*:[ \t]*([^\r\n]*)")


class Heads:
    """Follows one connection from its first byte on. Nothing is held back, and no body is looked into."""

    def __init__(self) -> None:
        self._head = b""  # what has come of a request's head so far
        self._body = 0.0  # bytes that come before the next head; infinity where that cannot be told

    def completed(self, data: bytes) -> bytes:
        """The connection's next bytes, with an empty `Host` at the end of each head that has to have one."""
        if self._body >= len(data):
            self._body -= len(data)
            return data
        seen, at, known = self._head + data, self._body, len(self._head)
        hostless = []  # where their heads end
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
    """Whether a head in lower case is of HTTP/1.1 and has no `Host`. Empty lines may come before it."""
    head = head.lstrip(b"\r\n")
    return b"\r\nhost:" not in head and head.partition(b"\r\n")[0].endswith(b" http/1.1")


def _body_length(head: bytes) -> float:
    """Bytes of the body behind a head in lower case; infinity if they are not simply counted in `Content-Length`."""
    frames = _FRAME.findall(head)
    if not frames:
        return math.inf if head.startswith(b"connect ") else 0.0
    name, value = frames[0]
    counted = len(frames) == 1 and name == b"content-length" and value.strip().isdigit() and len(value) < 16
    return int(value) if counted else math.inf
