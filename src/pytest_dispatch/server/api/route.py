"""One operation of the API: where it is, what it takes and gives, and who may ask."""

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
    """What the handlers need: the lab, and what the server knows about itself."""

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
        takes: Type of the request's JSON body, None where there is none.
        gives: Type of the answer's JSON body, or those of its events; None where there is none.
        query: Names of query parameters, all numbers and optional.
        repeated: Likewise, of those that may be given several times.
        status: Of the answer when all is well.
        saved: It has an answer even when the lab is broken, if the journal has one.
        checked: Only who holds the session may ask, if a session is in the path at all.
        bare: The request's body is bytes, and the handler reads it as it comes.
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
        """Tell whether it is about one session, or a run of one."""
        return "{session}" in self.path or "{run}" in self.path

    @property
    def changes(self) -> bool:
        """Tell whether it changes something of a session: then its holder has to say that it is that."""
        return self.of_session and self.checked and self.method != "GET"
