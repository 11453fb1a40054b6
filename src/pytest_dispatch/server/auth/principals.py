"""Who made a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.records import LAB_USER


class Way(StrEnum):
    """How somebody signed in."""

    LAB = "lab"
    TOKEN = "token"  # noqa: S105 - a word of the audit log
    BROWSER = "browser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who made a request, and what they may do.

    Attributes:
        name: Name of the user.
        groups: The groups to which a token is confined; None for the whole lab.
        way: How the user signed in.
        key: Id of the token, or digest of the browser's secret.
        csrf: What a browser must send with every change.
        expires: When the token or the browser's session expires; None for never.
    """

    name: str
    role: Role
    groups: frozenset[str] | None = None
    way: Way
    key: str = field(default="", repr=False)
    csrf: str = field(default="", repr=False)
    expires: float | None = None

    @property
    def may_all(self) -> bool:
        """Return whether it is an administrator of the whole lab."""
        return self.role is Role.ADMIN and self.groups is None

    @property
    def person(self) -> str:
        """Return the name of the user; empty if it is the lab's own, which is nobody in particular."""
        return "" if self.way is Way.LAB else self.name

    @property
    def signed_in(self) -> str:
        """Return how the user signed in, as the audit log says it."""
        return f"{self.way} {self.key}" if self.way is Way.TOKEN else str(self.way)

    def covers(self, role: Role) -> bool:
        """Return whether it may do what this role may; what is confined to groups is no administrator."""
        return self.may_all if role is Role.ADMIN else self.role.covers(role)

    def may_use(self, group: str) -> bool:
        """Return whether it may use this group."""
        return self.groups is None or group in self.groups


#: Who has the lab's own token: in a private lab its pytest, in a service whoever can read the token's file.
LAB = Principal(name=LAB_USER, role=Role.ADMIN, way=Way.LAB)

#: Where a request keeps who made it.
PRINCIPAL = web.RequestKey("principal", Principal)
