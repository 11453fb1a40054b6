"""What a `FakeGitHub` was asked: counts for assertions, and each exchange for whoever wants to look at it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request to the API and its answer, as they were on the wire.

    Attributes:
        path: As sent (percent-encoded), without the fake's prefix and without the query.
        query: The query's pairs, in order.
        body: What was sent with the request.
        answer: The body of the answer.
        injected: The answer was asked for with `fail_next`.
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
class Tally:
    """Counts since the fake was made.

    Attributes:
        requests: `METHOD /path` → how often, for the API and for storage (`GET /storage/ID/NAME`).
        downloads: Asset name → how often storage began to hand it out.
        bytes_served: What storage handed out.
    """

    requests: Counter[str] = field(default_factory=Counter)
    downloads: Counter[str] = field(default_factory=Counter)
    bytes_served: int = 0
