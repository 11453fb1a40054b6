"""A fake GitHub that people sign in at (OAuth with PKCE), for tests of a lab's sign-in: a real HTTP server.

    with FakeGitHubOAuth(client_id="id", client_secret="secret") as github:
        github.add_account("octocat", 1, organizations=["acme"], teams=["acme/lab"])
        github.callback = "http://127.0.0.1:8081/api/v1/sign-in/github/callback"
        github.browser = "octocat"  # who is signed in at GitHub in the browser
        ...

As at GitHub, pages and API are on two hosts, a code works once and only with the verifier of its challenge, and a code
is refused with status 200.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from pytest_dispatch.testing.served_double import ServedDouble

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class FakeAccount:
    """An account at GitHub.

    Attributes:
        organizations: Organisations of which it is a member.
        teams: Teams of which it is a member, as ORGANIZATION/TEAM.
    """

    login: str
    id: int
    organizations: tuple[str, ...]
    teams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Grant:
    account: FakeAccount
    challenge: str


class FakeGitHubOAuth(ServedDouble):
    """A GitHub on this computer where people sign in; a context manager.

    Args:
        client_id: Client id of the only OAuth App.
        client_secret: Its secret.

    Attributes:
        callback: The URL that is registered for the App: where browsers are sent back to.
        browser: Login of the account that is signed in at GitHub in the browser.
        broken: Whether the API answers 502.
        tokens: The tokens that were given.
        requests: How often each path was asked for.
    """

    def __init__(self, *, client_id: str, client_secret: str) -> None:
        super().__init__(self._apps)
        self._client = (client_id, client_secret)
        self._accounts: dict[str, FakeAccount] = {}
        self._grants: dict[str, _Grant] = {}
        self._given: dict[str, FakeAccount] = {}
        self.callback = ""
        self.browser = ""
        self.broken = False
        self.requests: Counter[str] = Counter()

    @property
    def tokens(self) -> list[str]:
        """Return the tokens that were given."""
        return list(self._given)

    @property
    def api_url(self) -> str:
        """Return the base URL of the API."""
        return self._servers.urls[0]

    @property
    def url(self) -> str:
        """Return the URL of the pages."""
        return self._servers.urls[1]

    def add_account(
        self, login: str, number: int, *, organizations: Iterable[str] = (), teams: Iterable[str] = ()
    ) -> None:
        """Add an account, or replace the one of that login."""
        self._accounts[login] = FakeAccount(login, number, tuple(organizations), tuple(teams))

    def _apps(self, _api: str, _pages: str) -> tuple[web.Application, web.Application]:
        api, pages = web.Application(), web.Application()
        api.router.add_get("/user", self._user)
        api.router.add_get("/user/memberships/orgs", self._memberships)
        api.router.add_get("/user/teams", self._teams)
        pages.router.add_get("/login/oauth/authorize", self._authorize)
        pages.router.add_post("/login/oauth/access_token", self._access_token)
        return api, pages

    # Pages

    async def _authorize(self, request: web.Request) -> web.Response:
        query = request.query
        if query.get("client_id") != self._client[0] or query.get("redirect_uri", self.callback) != self.callback:
            return web.Response(status=404)
        if query.get("code_challenge_method") != "S256" or "read:org" not in query.get("scope", ""):
            return web.Response(status=400)
        code = secrets.token_hex(10)
        self._grants[code] = _Grant(self._accounts[self.browser], query["code_challenge"])
        back = urlencode({"code": code, "state": query.get("state", "")})
        return web.Response(status=302, headers={"Location": f"{self.callback}?{back}"})

    async def _access_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != self._client:
            return web.json_response({"error": "incorrect_client_credentials"})
        grant = self._grants.pop(str(form.get("code")), None)
        digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or grant.challenge != challenge:
            return web.json_response({"error": "bad_verification_code"})
        token = f"gho_{secrets.token_hex(18)}"
        self._given[token] = grant.account
        return web.json_response({"access_token": token, "token_type": "bearer", "scope": "read:org"})

    # API

    def _account(self, request: web.Request) -> FakeAccount:
        self.requests[request.path] += 1
        if self.broken:
            raise web.HTTPBadGateway
        account = self._given.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if account is None:
            raise web.HTTPUnauthorized
        return account

    async def _user(self, request: web.Request) -> web.Response:
        account = self._account(request)
        return web.json_response({"login": account.login, "id": account.id, "type": "User"})

    async def _memberships(self, request: web.Request) -> web.Response:
        names = self._account(request).organizations
        return _page(
            request, [{"state": "active", "role": "member", "organization": {"login": each}} for each in names]
        )

    async def _teams(self, request: web.Request) -> web.Response:
        names = [each.partition("/") for each in self._account(request).teams]
        return _page(request, [{"slug": team, "organization": {"login": owner}} for owner, _, team in names])


def _page(request: web.Request, items: list[dict[str, object]]) -> web.Response:
    page, size = int(request.query.get("page", "1")), int(request.query.get("per_page", "30"))
    return web.json_response(items[(page - 1) * size : page * size])
