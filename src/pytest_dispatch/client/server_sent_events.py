"""Reads a stream of server-sent events (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event.

    Attributes:
        name: What it is; `message` if the server does not say.
        data: Its lines.
        id: The last id that the server has sent.
    """

    name: str
    data: str
    id: str


def read_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream; those without data, and comments, are left out, as the standard says.

    Args:
        lines: The lines of the stream, without their ends.
    """
    name, last, data = "", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerSentEvent(name or "message", "\n".join(data), last)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last = value
