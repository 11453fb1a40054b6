"""GitHub Apps of a `FakeGitHub`: it checks what they sign in with, and gives tokens for their installations."""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pytest_dispatch.testing.github_routes import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST = 600  # seconds that GitHub allows between the issue of a JSON Web Token and its end


@dataclass(slots=True)
class FakeApp:
    """A GitHub App.

    Attributes:
        id: Its id.
        public_key: Its public key, in PEM.
        installations: Id of the installation by owner.
        users: Those of the owners that are users; the others are organisations.
        lasts: Seconds that its tokens last.
        given: The tokens that it was given, by owner, in order.
    """

    id: int
    public_key: bytes
    installations: Mapping[str, int]
    users: Iterable[str] = ()
    lasts: float = 3600.0
    given: list[str] = field(default_factory=list)


class AppRoutes:
    """The endpoints for Apps.

    Args:
        apps: The Apps by id.
        tokens: Tokens that the fake accepts; new ones are added.
        prefix: Prefix of each path.
    """

    def __init__(self, apps: Mapping[int, FakeApp], tokens: set[str], prefix: str) -> None:
        self._apps = apps
        self._tokens = tokens
        self.table = [
            web.get(f"{prefix}/orgs/{{owner}}/installation", self._of_organization),
            web.get(f"{prefix}/users/{{owner}}/installation", self._of_user),
            web.post(rf"{prefix}/app/installations/{{installation:\d+}}/access_tokens", self._token),
        ]

    async def _of_organization(self, request: web.Request) -> web.Response:
        return self._installation(request, user=False)

    async def _of_user(self, request: web.Request) -> web.Response:
        return self._installation(request, user=True)

    def _installation(self, request: web.Request, *, user: bool) -> web.Response:
        app, owner = self._signed_in(request), request.match_info["owner"]
        if owner not in app.installations or (owner in app.users) is not user:
            raise RefusalError(404, "Not Found")
        kind = "User" if user else "Organization"
        said = {"id": app.installations[owner], "app_id": app.id, "account": {"login": owner, "type": kind}}
        return web.json_response({**said, "target_type": kind})

    async def _token(self, request: web.Request) -> web.Response:
        app, installation = self._signed_in(request), int(request.match_info["installation"])
        if installation not in app.installations.values():
            raise RefusalError(404, "Not Found")
        token = f"ghs_{app.id}_{installation}_{len(app.given) + 1}"
        app.given.append(token)
        self._tokens.add(token)
        ends = datetime.fromtimestamp(time.time() + app.lasts, UTC)
        said = {"token": token, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "repository_selection": "all"}
        return web.json_response({**said, "permissions": {"contents": "read", "issues": "write"}}, status=201)

    def _signed_in(self, request: web.Request) -> FakeApp:
        """Return the App that a JSON Web Token is of, after the checks that GitHub makes."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        parts = text.split(".")
        if scheme != "Bearer" or len(parts) != 3:
            raise RefusalError(401, "A JSON web token could not be decoded")
        head, said = (_decoded(part) for part in parts[:2])
        app = self._apps.get(int(said.get("iss", 0)))
        if head.get("alg") != "RS256" or app is None:
            raise RefusalError(401, "A JSON web token could not be decoded")
        _check_signature(app, f"{parts[0]}.{parts[1]}", parts[2])
        issued, ends, now = said["iat"], said["exp"], time.time()
        if issued > now:
            raise RefusalError(401, "'Issued at' claim ('iat') must be an Integer representing the time of the past")
        if ends <= now or ends - now > LONGEST:
            raise RefusalError(401, "'Expiration time' claim ('exp') is too far in the future, or in the past")
        return app


def _check_signature(app: FakeApp, text: str, signature: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(app.public_key)
    if not isinstance(key, RSAPublicKey):
        raise TypeError(f"expected an RSA key of the App {app.id}")
    try:
        key.verify(_bytes(signature), text.encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise RefusalError(401, "A JSON web token could not be decoded") from None


def _decoded(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(part))
    except ValueError:
        raise RefusalError(401, "A JSON web token could not be decoded") from None
    return found if isinstance(found, dict) else {}


def _bytes(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise RefusalError(401, "A JSON web token could not be decoded") from None
