"""Limits for each caller, so that no caller keeps the server from serving the others.

The defaults are far beyond what a lab needs. Requests that come too fast are delayed before they are refused, because
neither firmware nor old versions of `beacon` can handle a refusal.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FILES_EACH = 5  # open files of a connection that sends a file: its socket, the workload, and duplicates of both
FILES_ELSE = 256  # open files for everything else: journal, cache, machines, and other code in the process


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits for one caller, and for all of them together.

    Attributes:
        connections: Maximum number of open connections; fewer if the system lets the process open only few files.
        share: Fraction of these connections that one address may use.
        line: Maximum length of a request's first line, and of each of its headers, in bytes.
        headers: Maximum number of headers in a request.
        head: Seconds within which a request's headers must arrive, from the connection's opening or the last answer.
        body: Seconds within which a report must arrive and be stored.
        stall: Seconds within which the next bytes of an upload must arrive.
        requests: Maximum number of one machine's requests at once; further ones are refused.
        bodies: Maximum number of one machine's reports read at once; further ones wait.
        rate: Maximum number of one machine's requests per second, in the long run.
        burst: Maximum number of one machine's requests in a burst.
        patience: Maximum delay of a request that comes too fast, in seconds; beyond that it is refused.
    """

    connections: int = 4096
    share: float = 0.5
    line: int = 4096
    headers: int = 32
    head: float = 75.0
    body: float = 300.0
    stall: float = 30.0
    requests: int = 32
    bodies: int = 4
    rate: float = 2000.0
    burst: int = 10_000
    patience: float = 5.0


def packing(headers: Mapping[str, str]) -> str:
    """Return the encoding of a compressed request body, in ASCII; empty if it is not compressed.

    The server does not decompress bodies, because their expanded size has no limit.
    """
    encoding = headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding in ("", "identity") else ascii(encoding[:40])


@contextmanager
def room(bounds: ServerLimits) -> Iterator[int]:
    """Raise the process's limit of open files as far as needed and allowed; yield the possible number of connections.

    The previous limit is restored at the end.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_EACH * bounds.connections + FILES_ELSE
    raised = soft
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError):  # macOS has a further limit that getrlimit does not show
            raised = soft
    fitting = wanted if raised == resource.RLIM_INFINITY else max(raised - FILES_ELSE, raised // 2)
    try:
        yield max(1, min(bounds.connections, fitting // FILES_EACH))
    finally:
        if raised != soft:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
