"""One operation of the API: its path, its input and output, and who may call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.lab_stream import LabStream
    from pytest_dispatch.server.auth.authentication import Access
    from pytest_dispatch.server.auth.roles import Role

PREFIX = "/api/v1"


class Whose(Enum):
    """Whose session an operation may be about.

    Attributes:
        ANYBODYS: Any session; the caller's role alone counts.
        OWN_OR_ADMIN: The caller's own, or anybody's for an administrator.
        OWN: The caller's own only.
    """

    ANYBODYS = auto()
    OWN_OR_ADMIN = auto()
    OWN = auto()


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The lab and the server's state, as the handlers need them.

    Attributes:
        access: Finds out who makes a request.
        port: Returns the port on which the server listens for machines.
        mdns: Returns the lab's mDNS name, or why there is none.
        names: Returns the lab's host names, beside its addresses.
        too_fast: Delays a caller's request; returns whether to refuse it.
        stall: Seconds within which the next bytes of an upload must arrive.
        stream: Events of the whole lab, for viewers; None for a private lab.
    """

    lab: Lab
    access: Access
    port: Callable[[], int]
    mdns: Callable[[], str]
    names: Callable[[], Collection[str]]
    too_fast: Callable[[str], Awaitable[bool]]
    stall: float
    stream: LabStream | None


Handler = Callable[[ApiContext, web.Request, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Later:
    """What is loaded when it is first needed, so that a lab starts without it.

    Attributes:
        module: Its module, below `pytest_dispatch`.
        name: Its name there.
    """

    module: str
    name: str

    def load(self) -> Any:
        """Return it."""
        return getattr(import_module(f"pytest_dispatch.{self.module}"), self.name)


def loaded(what: Any) -> Any:
    """Return a handler or a type of a route, which is loaded now unless it was before."""
    return what.load() if isinstance(what, Later) else what


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation; its handler and its types may be loaded later.

    Attributes:
        needs: The role that the caller must have; None if even who has not signed in may call it.
        whose: Whose session it may be about, if the path names a session or a run.
        audit: What the audit log calls it; empty for operations that change nothing that people decide.
        takes: Type of the request's JSON body; None if there is none.
        gives: Type of the answer's JSON body, or types of its events; None if there is none.
        query: Names of query parameters, all of them optional numbers.
        words: Names of query parameters that are texts, all of them optional.
        repeated: Names of query parameters that may be given several times, all of them optional numbers.
        status: Status of a successful answer.
        saved: Whether the operation works on a broken lab, from the journal.
        checked: Whether only the session's holder may call it, if the path names a session.
        bare: Whether the request's body is raw bytes, which the handler reads itself.
        kept: Whether it may be about a run that the lab has forgotten, and that is in the journal only.
    """

    method: str
    path: str
    handler: Handler | Later
    summary: str
    needs: Role | None
    whose: Whose = Whose.ANYBODYS
    audit: str = ""
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    status: int = 200
    saved: bool = False
    checked: bool = True
    bare: bool = False
    kept: bool = False

    @property
    def of_session(self) -> bool:
        """Return whether the operation is about one session, or a run of one."""
        return "{session}" in self.path or "{run}" in self.path

    @property
    def changes(self) -> bool:
        """Return whether the operation changes a session, so that its holder must send the session's epoch."""
        return self.of_session and self.checked and self.whose is not Whose.ANYBODYS and self.method != "GET"


def as_json(value: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer with the value as JSON."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
