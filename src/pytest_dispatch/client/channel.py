"""What carries requests to a lab: one carrier for plain HTTP, and one for TLS, which loads more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class ChannelError(Exception):
    """A request got no whole answer; says why."""


class Headers(Protocol):
    """The headers of an answer."""

    def get(self, name: str, default: str, /) -> str:
        """Return a header's value; the case of its name does not matter."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        status: Its HTTP status.
        headers: Its headers.
        body: Its body; empty if it is a stream that is still to be read.
    """

    status: int
    headers: Headers
    body: bytes


class Stream(Protocol):
    """An answer that is read line by line, as it is sent."""

    @property
    def answer(self) -> Answer:
        """Return the answer; with its body if it is a refusal."""
        ...

    def lines(self) -> Iterator[str]:
        """Yield the lines of the body, without their ends.

        Raises:
            ChannelError: The stream was cut.
        """
        ...

    def hang_up(self) -> None:
        """End the stream for the thread that reads it; any thread may call this."""
        ...


class Channel(Protocol):
    """Connections to one server; any thread may use them. `ChannelError` says why there is no whole answer."""

    def request(
        self, method: str, target: str, content: bytes | Iterator[bytes] | None, headers: Mapping[str, str], wait: float
    ) -> Answer:
        """Send a request and return its answer.

        Args:
            method: Its method.
            target: Its path and query.
            content: Its body.
            headers: Its headers; with `Content-Length` if the body is an iterator.
            wait: Seconds for each part of the answer.
        """
        ...

    def stream(self, target: str, headers: Mapping[str, str], wait: float) -> AbstractContextManager[Stream]:
        """Send a GET request whose answer is a stream."""
        ...

    def close(self) -> None:
        """Close the connections; requests that are under way fail."""
        ...
