"""One operation of the API: its path, its input and output, and who may call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The lab and the server's state, as the handlers need them.

    Attributes:
        token: Bearer token of the API.
        port: Returns the port on which the server listens.
        mdns: Returns the lab's mDNS name, or why there is none.
        names: Returns the lab's host names, beside its addresses.
        too_fast: Delays a caller's request; returns whether to refuse it.
        stall: Seconds within which the next bytes of an upload must arrive.
    """

    lab: Lab
    token: str
    port: Callable[[], int]
    mdns: Callable[[], str]
    names: Callable[[], Collection[str]]
    too_fast: Callable[[str], Awaitable[bool]]
    stall: float


Handler = Callable[[ApiContext, web.Request, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    Attributes:
        takes: Type of the request's JSON body; None if there is none.
        gives: Type of the answer's JSON body, or types of its events; None if there is none.
        query: Names of query parameters, all of them optional numbers.
        repeated: Names of query parameters that may be given several times, all of them optional numbers.
        status: Status of a successful answer.
        saved: Whether the operation works on a broken lab, from the journal.
        checked: Whether only the session's holder may call it, if the path names a session.
        bare: Whether the request's body is raw bytes, which the handler reads itself.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    status: int = 200
    saved: bool = False
    checked: bool = True
    bare: bool = False

    @property
    def of_session(self) -> bool:
        """Return whether the operation is about one session, or a run of one."""
        return "{session}" in self.path or "{run}" in self.path

    @property
    def changes(self) -> bool:
        """Return whether the operation changes a session, so that the caller must send the session's epoch."""
        return self.of_session and self.checked and self.method != "GET"
