"""A client of what a lab as a service has beside sessions: its users, tokens and audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.server.api.account_schemas import (
    Link,
    MadeToken,
    NewToken,
    NewUser,
    TokenView,
    UserChange,
    UserView,
    WhoView,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.client.connection import LabConnection


class AccountClient:
    """The users, tokens and audit log of one lab. Every method raises `LabError` if the lab refuses, or is not there.

    Args:
        connection: Connections to the lab.
    """

    def __init__(self, connection: LabConnection) -> None:
        self._lab = connection

    def me(self) -> WhoView:
        """Return who the token is of."""
        return self._lab.ask(WhoView, "GET", "/me")

    def users(self) -> list[UserView]:
        """Return all users."""
        return self._lab.ask(list[UserView], "GET", "/users")

    def add_user(self, user: NewUser) -> UserView:
        """Add a user."""
        return self._lab.ask(UserView, "POST", "/users", user)

    def change_user(self, name: str, change: UserChange) -> UserView:
        """Change a user."""
        return self._lab.ask(UserView, "PUT", f"/users/{quote(name, '')}", change)

    def remove_user(self, name: str) -> None:
        """Remove a user."""
        self._lab.call("DELETE", f"/users/{quote(name, '')}")

    def link(self, name: str) -> Link:
        """Make a link that signs a user in once."""
        return self._lab.ask(Link, "POST", f"/users/{quote(name, '')}/link")

    def tokens(self, *, everybody: bool) -> list[TokenView]:
        """Return the caller's tokens, or everybody's."""
        return self._lab.ask(list[TokenView], "GET", "/tokens", query={"all": str(int(everybody))})

    def make_token(self, wanted: NewToken) -> MadeToken:
        """Make a token."""
        return self._lab.ask(MadeToken, "POST", "/tokens", wanted)

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token."""
        self._lab.call("DELETE", f"/tokens/{quote(token_id, '')}")

    def audit(self, wanted: Mapping[str, str]) -> list[AuditEntry]:
        """Return entries of the audit log, the newest first."""
        return self._lab.ask(list[AuditEntry], "GET", "/audit", query=wanted)
