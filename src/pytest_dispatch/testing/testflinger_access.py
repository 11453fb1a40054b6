"""Who may ask a `FakeTestflinger` for what: clients with secrets, tokens that end, and anonymous ones."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web


class RefusedError(Exception):
    """An answer that refuses a request."""

    def __init__(self, status: int, message: str, detail: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeClient:
    """A client.

    Attributes:
        role: `contributor`, `manager`, `admin` or `agent`.
        max_priority: Highest priority of its jobs.
        queues: The restricted queues that it may use.
        max_reservation: Longest reservation in seconds.
    """

    id: str
    secret: str = field(repr=False)
    role: str = "contributor"
    max_priority: int = 0
    queues: tuple[str, ...] = ()
    max_reservation: float = 21600.0


ANONYMOUS = FakeClient(id="", secret="")


class ClientAccess:
    """The clients and their tokens.

    Args:
        now: Returns the time.

    Attributes:
        sign_in: Whether nothing is answered without a token.
        lasts: Seconds that a token lasts.
        clients: The clients by id.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tokens: dict[str, tuple[str, float]] = {}
        self.sign_in = False
        self.lasts = 600.0
        self.clients: dict[str, FakeClient] = {}

    def token(self, request: web.Request) -> str:
        """Return a token for the client that a request names by HTTP Basic."""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            name, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name, secret = "", ""
        client = self.clients.get(name)
        if kind != "Basic" or client is None or client.secret != secret:
            raise RefusedError(401, "Invalid client id or secret")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (name, self._now() + self.lasts)
        return token

    def revoke(self) -> None:
        """Have all tokens end now."""
        self._tokens = {token: (name, 0.0) for token, (name, _) in self._tokens.items()}

    def client(self, request: web.Request, *roles: str) -> FakeClient:
        """Return who asks; refuse one without the right, with the words of the server."""
        given = request.headers.get("Authorization")
        if given is None:
            if self.sign_in:
                raise RefusedError(401, "Authentication is required for specified endpoint")
            client = ANONYMOUS
        else:
            kind, _, token = given.partition(" ")
            name, until = self._tokens.get(token, ("", 0.0))
            if kind != "Bearer" or name not in self.clients:
                raise RefusedError(403, "Unable to decode token")
            if self._now() >= until:
                raise RefusedError(401, "Token has expired")
            client = self.clients[name]
        if client.role not in (roles or ("admin", "manager", "contributor")):
            raise RefusedError(403, f"Specified action requires role: {', '.join(roles)}")
        return client
