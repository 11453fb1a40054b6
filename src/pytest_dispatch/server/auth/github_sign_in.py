"""Signing in by GitHub (https://docs.github.com/apps/oauth-apps): state, PKCE (RFC 7636), and roles by membership.

The browser is sent to GitHub and comes back to the URL that is registered there: nothing of where it goes is taken from
a request. What GitHub is asked for is used once, and the token that GitHub gives is dropped at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.server.auth.credentials import digest_of, new_secret
from pytest_dispatch.server.auth.errors import ForbiddenError, TooManyError, UnauthorizedError
from pytest_dispatch.server.auth.roles import Role, highest
from pytest_dispatch.store.accounts import User

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.server.auth.accounts import Accounts
    from pytest_dispatch.server.auth.settings import GitHubSignIn

LASTS = 600.0  # seconds that somebody may take at GitHub
WAITING = 1000  # most browsers that are at GitHub
TIMEOUT = 10.0  # seconds for each answer of GitHub
PAGES = 10  # most pages of organisations, and of teams, that are read; each has 100
SUFFIX = "@github"  # of the names of users who sign in by GitHub
SCOPE = "read:org"

_NOT_READY = "expected to come back from GitHub to the page that was left for it; sign in again"


class _Away(NamedTuple):
    verifier: str
    ends: float


class Departure(NamedTuple):
    """A browser that leaves for GitHub.

    Attributes:
        url: Where it goes.
        state: What its cookie holds, and GitHub gives back.
        lasts: Seconds that it may take.
    """

    url: str
    state: str
    lasts: float


class GitHubSigningIn:
    """Sends browsers to GitHub, and finds out who comes back.

    Args:
        lab_state: The lab's.
        accounts: The users.
        settings: How to sign in by GitHub.
    """

    def __init__(self, lab_state: LabState, accounts: Accounts, settings: GitHubSignIn) -> None:
        self._lab_state = lab_state
        self._accounts = accounts
        self._settings = settings
        self._away: dict[str, _Away] = {}  # by digest of the state

    def depart(self) -> Departure:
        """Return where to send a browser that wants to sign in.

        Raises:
            TooManyError: Too many are away already.
        """
        now = self._lab_state.clock.now()
        self._away = {state: away for state, away in self._away.items() if away.ends > now}
        if len(self._away) >= WAITING:
            raise TooManyError("too many people sign in by GitHub at once; try again in a few minutes", 60.0)
        state, verifier = new_secret(), new_secret()
        self._away[digest_of(state)] = _Away(verifier, now + LASTS)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": self._settings.client_id,
            "scope": SCOPE,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "allow_signup": "false",
        }
        return Departure(f"{self._settings.url}/login/oauth/authorize?{urlencode(asked)}", state, LASTS)

    async def arrive(self, code: str, state: str, cookie: str) -> User:
        """Return the user who comes back from GitHub, with the role that GitHub's memberships give now.

        Args:
            code: From GitHub, by way of the browser.
            state: Likewise.
            cookie: The state that the browser was given; another browser has another one.

        Raises:
            UnauthorizedError: This browser was not sent to GitHub, or took too long, or came back before.
            ForbiddenError: The account has no role here.
            LabError: GitHub does not answer as expected.
        """
        away = self._away.pop(digest_of(state), None)
        same = hmac.compare_digest(state.encode(), cookie.encode(errors="surrogateescape"))
        if away is None or not same or not code or away.ends <= self._lab_state.clock.now():
            raise UnauthorizedError(_NOT_READY)
        account, role = await self._look_up(code, away.verifier)
        login, subject = f"{account['login']}", f"github:{account['id']}"
        name = login.lower() + SUFFIX
        if role is None:
            raise ForbiddenError(f"{login} has no role in this lab; its configuration (auth.github) names who has")
        known = self._accounts.find(name)
        if known is not None and known.subject != subject:  # the login belongs to another account now
            await self._accounts.remove_user(name)
            known = None
        made = known or User(name=name, role=role, subject=subject, made=self._lab_state.clock.now())
        return replace(made, role=role, removed=None)

    async def _look_up(self, code: str, verifier: str) -> tuple[Mapping[str, Any], Role | None]:
        import httpx

        from pytest_dispatch.support.transport import client_options

        settings = self._settings
        try:
            async with httpx.AsyncClient(
                timeout=TIMEOUT, follow_redirects=False, **client_options(settings.url, os.environ)
            ) as client:
                token = await self._exchange(client, code, verifier)
                client.headers.update({"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"})
                account = (await client.get(f"{settings.api_url}/user")).raise_for_status().json()
                int(account["id"]), str(account["login"])
                return account, await self._role(client, str(account["login"]))
        except UnauthorizedError:
            raise
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise LabError(
                f"{settings.url} does not answer as GitHub does when somebody signs in"
                f" ({type(error).__name__}); try again, and check auth.github"
            ) from None  # the error may quote the code or the token

    async def _exchange(self, client: httpx.AsyncClient, code: str, verifier: str) -> str:
        settings = self._settings
        asked = {
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            "code": code,
            "code_verifier": verifier,
        }
        answer = await client.post(
            f"{settings.url}/login/oauth/access_token", data=asked, headers={"Accept": "application/json"}
        )
        given = answer.raise_for_status().json()
        if "error" in given:  # GitHub answers 200 all the same
            raise UnauthorizedError(
                f"GitHub refused to sign this browser in ({str(given['error'])[:60]}); sign in again"
            )
        return str(given["access_token"])

    async def _role(self, client: httpx.AsyncClient, login: str) -> Role | None:
        """Return the highest role that one of the mappings gives to the account whose token the client has."""
        settings, found = self._settings, list[Role]()
        found += _given(settings.logins, [login])
        if settings.organizations:
            mine = await self._all(client, "/user/memberships/orgs?state=active")
            found += _given(settings.organizations, [each["organization"]["login"] for each in mine])
        if settings.teams:
            mine = await self._all(client, "/user/teams")
            found += _given(settings.teams, [f"{each['organization']['login']}/{each['slug']}" for each in mine])
        return highest(found)

    async def _all(self, client: httpx.AsyncClient, path: str) -> list[Any]:
        found: list[Any] = []
        separator = "&" if "?" in path else "?"
        for page in range(1, PAGES + 1):
            url = f"{self._settings.api_url}{path}{separator}per_page=100&page={page}"
            more = (await client.get(url)).raise_for_status().json()
            found += more
            if len(more) < 100:
                break
        return found


def _given(roles: Mapping[str, Role], names: list[str]) -> list[Role]:
    """Return the roles that these names give; GitHub's names have no case."""
    mine = {name.lower() for name in names}
    return [role for name, role in roles.items() if name.lower() in mine]
