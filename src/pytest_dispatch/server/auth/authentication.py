"""Access to a lab: whose request it is, by a token, a signed-in browser or a link, and whether it is accepted.

A private lab has one token and one principal with everything: nothing is looked up, and nothing is loaded. A service
knows its users.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.pause import pause
from pytest_dispatch.server.auth.callers import Caller, caller_of
from pytest_dispatch.server.auth.errors import ForbiddenError, UnauthorizedError
from pytest_dispatch.server.auth.principals import LAB, Principal
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.server.auth.passwords import Cost
    from pytest_dispatch.server.auth.round_tokens import RoundTokens
    from pytest_dispatch.server.auth.settings import AccessSettings, ConfiguredUser

CSRF = "Dispatch-CSRF"  # the header that a browser must send with every change
FORM_CSRF = web.RequestKey("form_csrf", str)  # where a request keeps the same from a form, which can send no header
COOKIE = "dispatch-session"
SAFE_COOKIE = "__Host-dispatch-session"  # under TLS: no other host, path or plain connection can set it
DISPATCHOOR = "dispatchoor."  # before the secret of a script for dispatchoor, which is answered in dispatchoor's shapes
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
ADMINISTRATOR = "admin"  # name of the user who is made at the first start
LOOK = 60.0  # seconds between looks at what has expired
LINK_PATH = "/sign-in/link"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})")


class Access(Protocol):
    """Finds out who makes a request, and refuses ways that are not safe."""

    @property
    def private(self) -> bool:
        """Return whether the lab belongs to one pytest."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """Return further host names by which people reach the lab."""
        ...

    def caller(self, request: web.Request) -> Caller:
        """Return where a request comes from.

        Raises:
            ForbiddenError: It came over a connection on which others could read secrets.
        """
        ...

    def identify(self, request: web.Request, caller: Caller) -> Principal:
        """Return who made a request.

        Raises:
            UnauthorizedError: The lab does not know who it is.
            ForbiddenError: A browser's request lacks the header that shows that the lab's own page sent it.
        """
        ...

    def knows(self, request: web.Request, caller: Caller) -> bool:
        """Return whether the maker of a request still has access."""
        ...


class PrivateAccess:
    """Access to a private lab: one token may do everything.

    Args:
        token: The token.
    """

    private = True
    names: frozenset[str] = frozenset()

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def caller(self, request: web.Request) -> Caller:
        """Return where a request comes from."""
        return Caller(request.remote or "", "http", request.headers.get("Host", ""))

    def identify(self, request: web.Request, _caller: Caller) -> Principal:
        """Return the only principal there is.

        Raises:
            UnauthorizedError: The token is missing or wrong.
        """
        if hmac.compare_digest(bearer(request).encode(errors="surrogateescape"), self._token):
            return LAB
        raise UnauthorizedError("expected the session's bearer token in the header Authorization")

    def knows(self, request: web.Request, caller: Caller) -> bool:
        """Return True: the only token is valid as long as the lab lives."""
        return bool(self.identify(request, caller))


class ServiceAccess:
    """Access to a service: users with roles, tokens, and browsers that are signed in. Call `open` before use.

    Args:
        lab_state: The lab's.
        token: The lab's own token, for whoever can read its file.
        settings: Who may use the lab, and by which way.
        cost: What checking a password costs.
        rounds: Tokens of cycles' rounds.

    Attributes:
        accounts: The users.
        audit: The audit log.
        sign_in: Signs browsers in.
        github: Signs browsers in by GitHub; None if that is not configured.
        passwords: Checks passwords.
        names: Further host names by which people reach the lab.

    Raises:
        ConfigError: A network is none.
    """

    private = False

    def __init__(
        self,
        lab_state: LabState,
        token: str,
        settings: AccessSettings,
        cost: Cost | None = None,
        rounds: RoundTokens | None = None,
    ) -> None:
        from pytest_dispatch.server.auth.accounts import Accounts
        from pytest_dispatch.server.auth.audit import AuditLog
        from pytest_dispatch.server.auth.github_sign_in import GitHubSigningIn
        from pytest_dispatch.server.auth.passwords import Passwords
        from pytest_dispatch.server.auth.sign_in import SignIn

        self._lab_state = lab_state
        self._token = token.encode()
        self._settings = settings
        self._rounds = rounds
        self._proxies = tuple(map(read_proxies, settings.trusted_proxies))
        host = urlsplit(settings.public_url).hostname
        self.names = frozenset((host,) if host else ())
        self.accounts = Accounts(lab_state)
        self.audit = AuditLog(lab_state)
        self.passwords = Passwords(cost)
        self.sign_in = SignIn(lab_state, self.accounts, self.passwords, self.audit, settings.session_ttl)
        github = settings.github
        self.github = None if github is None else GitHubSigningIn(lab_state, self.accounts, github)

    async def open(self) -> None:
        """Read the users from the journal, and add those of the configuration.

        Raises:
            JournalError: The users cannot be read or written.
            ConfigError: The configuration has passwords, and argon2-cffi is missing.
        """
        await self.accounts.load()
        await self._configure(await self._hashed(self._settings.users))

    async def prepared(self, settings: AccessSettings) -> Callable[[], Awaitable[None]]:
        """Return what applies new settings: users, sign-in by GitHub, and how long things are kept.

        Certificate, proxies and addresses stay as they are.

        Raises:
            ConfigError: A user's name cannot be used, or passwords cannot be hashed; nothing is changed.
        """
        users = await self._hashed(settings.users)

        async def apply() -> None:
            from pytest_dispatch.server.auth.github_sign_in import GitHubSigningIn

            if settings.github != self._settings.github:
                given = settings.github
                self.github = None if given is None else GitHubSigningIn(self._lab_state, self.accounts, given)
            self.sign_in.lasts = settings.session_ttl
            self._settings = replace(
                self._settings,
                users=users,
                github=settings.github,
                session_ttl=settings.session_ttl,
                audit_kept=settings.audit_kept,
            )
            await self._configure(users)

        return apply

    def close(self) -> None:
        """End the threads that hash passwords."""
        self.passwords.close()

    async def look_after(self) -> None:
        """Remove what has expired, at intervals, until cancelled."""
        while True:
            self.accounts.clear(self._settings.audit_kept)
            await pause(self._lab_state.clock, LOOK)

    def caller(self, request: web.Request) -> Caller:
        """Return where a request comes from.

        Raises:
            ForbiddenError: It came over a connection on which others could read secrets.
        """
        caller = caller_of(request, self._proxies)
        if caller.scheme == "https" or caller.near or self._settings.insecure:
            return caller
        raise ForbiddenError(
            "expected HTTPS, since anybody on the network could read tokens and passwords: give the lab a certificate"
            " (server.tls) or a proxy that has one (server.trusted_proxies), or come from the lab's own computer"
        )

    def identify(self, request: web.Request, caller: Caller) -> Principal:
        """Return who made a request.

        Raises:
            UnauthorizedError: The lab does not know who it is.
            ForbiddenError: A browser's request lacks the header that shows that the lab's own page sent it.
        """
        if "Authorization" in request.headers:
            return self._of_header(bearer(request))
        cookie = request.cookies.get(cookie_name(caller), "").removeprefix(DISPATCHOOR)
        principal = self.accounts.of_browser(cookie)
        if principal is None:
            raise UnauthorizedError("expected a token of this lab in the header Authorization, or to be signed in")
        if request.method not in SAFE_METHODS and not hmac.compare_digest(
            (request.headers.get(CSRF) or request.get(FORM_CSRF, "")).encode(errors="surrogateescape"),
            principal.csrf.encode(),
        ):
            raise ForbiddenError(f"expected what /api/v1/me gives as `csrf` in the header {CSRF}; load the page again")
        return principal

    def knows(self, request: web.Request, caller: Caller) -> bool:
        """Return whether the maker of a request still has access."""
        try:
            self.identify(request, caller)
        except UnauthorizedError:
            return False
        return True

    def _of_header(self, secret: str) -> Principal:
        """Return whose secret a header has: a token's, or that which a script for dispatchoor got when it signed in.

        Other pages cannot make a browser send this header, so no further check is needed.
        """
        if not secret.startswith(DISPATCHOOR):
            return self._of_token(secret)
        secret = secret.removeprefix(DISPATCHOOR)
        return self.accounts.of_browser(secret) or self._of_token(secret)

    def _of_token(self, secret: str) -> Principal:
        if hmac.compare_digest(secret.encode(errors="surrogateescape"), self._token):
            return LAB
        round_of = self._rounds.find(secret) if self._rounds is not None else None
        found = round_of or self.accounts.of_token(secret)
        if isinstance(found, Principal):
            return found
        raise UnauthorizedError(found or "expected a token of this lab in the header Authorization, got another")

    async def administrator_link(self) -> str:
        """Return the path of a link that signs the administrator in once; empty if an administrator can sign in.

        The administrator is made if there is none. A link lasts an hour; restarting the lab gives another one.

        Raises:
            JournalError: The user cannot be written.
        """
        from pytest_dispatch.store.accounts import User

        admins = [user for user in self.accounts.users() if user.role == Role.ADMIN]
        by_github = self._settings.github is not None and Role.ADMIN in self._settings.github.roles
        if by_github or any(user.password or user.seen for user in admins):
            return ""
        if not admins:
            known = self.accounts.find(ADMINISTRATOR)
            made = known or User(name=ADMINISTRATOR, role=Role.ADMIN, made=self._lab_state.clock.now())
            admins = [replace(made, role=Role.ADMIN)]
            await self.accounts.keep_user(admins[0])
        return f"{LINK_PATH}?token={self.sign_in.link(admins[0].name)}"

    async def _hashed(self, users: Iterable[ConfiguredUser]) -> tuple[ConfiguredUser, ...]:
        """Return users with the hashes of their passwords; who has the same password as before has the same hash.

        Raises:
            ConfigError: A name cannot be used, or passwords cannot be hashed.
        """
        from pytest_dispatch.server.auth.passwords import is_hash

        hashed = []
        for user in users:
            check_name(user.name)
            known, password = self.accounts.find(user.name), user.password
            if not is_hash(password):
                same = known is not None and await self.passwords.matches(known.password, password)
                password = known.password if known is not None and same else await self.passwords.hashed(password)
            hashed.append(replace(user, password=password))
        return tuple(hashed)

    async def _configure(self, users: Iterable[ConfiguredUser]) -> None:
        """Add the users of the configuration, and remove those whom an earlier one had; their passwords are hashed."""
        from pytest_dispatch.store.accounts import User

        wanted = {user.name: user for user in users}
        for user in self.accounts.users():
            if user.subject == CONFIGURED and user.name not in wanted:
                await self.accounts.remove_user(user.name)
        for given in wanted.values():
            known = self.accounts.find(given.name) or User(
                name=given.name, role=given.role, made=self._lab_state.clock.now()
            )
            changed = replace(known, role=given.role, password=given.password, subject=CONFIGURED)
            if changed.password != known.password:
                await self.accounts.end_browsers(given.name)
            if changed != known:
                await self.accounts.keep_user(changed)


CONFIGURED = "configuration"  # the origin of users of the lab's configuration


def bearer(request: web.Request) -> str:
    """Return the bearer token of a request; empty if there is none. Scripts for dispatchoor may leave `Bearer` out."""
    given = request.headers.get("Authorization", "")
    scheme, _, token = given.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return given if given.startswith(DISPATCHOOR) else ""


def cookie_name(caller: Caller) -> str:
    """Return the name of the cookie of a browser that is signed in."""
    return SAFE_COOKIE if caller.scheme == "https" else COOKIE


def check_name(name: str) -> None:
    """Refuse a user's name that cannot be used.

    Raises:
        ConfigError: It has other characters, is too long, or is the lab's own.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"expected a user's name of letters, digits, '.', '_' and '-', at most 63, got {name[:80]!r}")
    if name == LAB.name:
        raise ConfigError(f"expected another name than {name!r}, which stands for who has the lab's own token")


def read_proxies(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read the network of trusted proxies.

    Raises:
        ConfigError: It is none.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"server.trusted_proxies: expected networks such as 10.0.0.0/8, got {text!r} ({error})"
        ) from error
