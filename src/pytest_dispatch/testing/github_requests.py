"""The requests to a `FakeGitHub`: counts for assertions, and complete exchanges for observers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request to the API and its answer, as they were sent.

    Attributes:
        path: The path as sent (percent-encoded), without the fake's prefix and without the query.
        query: The query's pairs, in order.
        body: The body of the request.
        answer: The body of the answer.
        injected: Whether the answer is a fault from `fail_next`.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    status: int
    answer_headers: Mapping[str, str]
    answer: bytes
    injected: bool


@dataclass(slots=True)
class RequestLog:
    """Counts since the fake was created.

    Attributes:
        requests: `METHOD /path` → number of requests, for the API and for storage (`GET /storage/ID/NAME`).
        calls: `METHOD /path/with/{names}` → number of requests, for the API.
        unchanged: As `calls`, those that were answered with 304.
        downloads: Asset name → number of downloads that have begun.
        bytes_served: Number of bytes that storage has sent.
    """

    requests: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    downloads: Counter[str] = field(default_factory=Counter)
    bytes_served: int = 0
