"""How much of anybody the server takes, so that nobody keeps it from serving the others.

The defaults are far beyond what a lab needs. What is too fast is held back before it is refused: neither firmware nor
`beacon` of old knows what to make of a refusal.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FILES_EACH = 5  # open files of a connection that bytes go out on: its socket, the workload, and further handles
FILES_ELSE = 256  # open files for all the rest: journal, cache, machines, and whatever else runs in the process


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one caller, and all of them together, may take.

    Attributes:
        connections: Open at once; fewer where the system lets the process open only few files.
        share: Of these, the part that one address may have.
        line: Bytes of a request's first line, and of each of its headers.
        headers: How many of them a request may have.
        head: Seconds from a connection's opening, or from the last answer on it, until a request's headers are there.
        body: Seconds that a report may take to arrive and to be written.
        stall: Seconds in which more of an upload has to come.
        requests: Of one machine that are being answered at once; further ones are refused.
        bodies: Reports among them that are read at once; further ones wait for these.
        rate: Requests that one machine may make in a second, in the long run.
        burst: Requests that it may make at once.
        patience: Seconds that one which is too fast is held back; beyond that it is refused.
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
    """How a request's body is packed, as ASCII; empty if it is not. None is unpacked: what comes out has no bound."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding in ("", "identity") else ascii(encoding[:40])


@contextmanager
def room(bounds: Bounds) -> Iterator[int]:
    """How many connections there is room for, with as many open files as they need and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_EACH * bounds.connections + FILES_ELSE
    raised = soft
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError):  # macOS has a limit that it does not tell
            raised = soft
    fitting = wanted if raised == resource.RLIM_INFINITY else max(raised - FILES_ELSE, raised // 2)
    try:
        yield max(1, min(bounds.connections, fitting // FILES_EACH))
    finally:
        if raised != soft:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
