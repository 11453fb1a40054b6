"""Signing in: by name and password, or by a link that works once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_dispatch.server.auth.credentials import csrf_of, digest_of, new_secret
from pytest_dispatch.server.auth.errors import TooManyError, UnauthorizedError
from pytest_dispatch.server.limits.rate_limit import RateLimiter
from pytest_dispatch.store.accounts import BrowserSession, User

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.server.auth.accounts import Accounts
    from pytest_dispatch.server.auth.audit import AuditLog
    from pytest_dispatch.server.auth.callers import Caller
    from pytest_dispatch.server.auth.passwords import Passwords

EACH = 6.0  # seconds after which another try is allowed, once the first ones are used up
TRIES = 10  # first tries of an account, and of an address
LINK = 3600.0  # seconds that a link works
LINKS = 100  # most links that wait to be used

_USED_UP = "expected a link that was not used yet and is less than an hour old; ask for another"
_WRONG = "expected a name and its password; one of them is wrong"


class SignedIn(NamedTuple):
    """A browser that has just signed in.

    Attributes:
        secret: What its cookie holds.
        csrf: What it must send with every change.
        lasts: Seconds until it is signed out.
    """

    user: str
    secret: str
    csrf: str
    lasts: float


class SignIn:
    """Signs browsers in.

    Args:
        lab_state: The lab's.
        accounts: The users.
        passwords: Checks passwords.
        audit: The audit log.
        lasts: Seconds that a browser stays signed in.

    Attributes:
        lasts: As given; it may be changed.
    """

    def __init__(
        self, lab_state: LabState, accounts: Accounts, passwords: Passwords, audit: AuditLog, lasts: float
    ) -> None:
        self._lab_state = lab_state
        self._accounts = accounts
        self._passwords = passwords
        self._audit = audit
        self.lasts = lasts
        self._limits = {kind: RateLimiter(1 / EACH, TRIES, 0.0) for kind in ("address", "account")}
        self._links: dict[str, tuple[str, float]] = {}  # user and end, by digest

    async def by_password(self, name: str, password: str, caller: Caller) -> SignedIn:
        """Sign a user in.

        Raises:
            UnauthorizedError: Name or password is wrong; it does not say which.
            TooManyError: There were too many tries for this account, or from this address.
        """
        self.count(caller.address, name)
        user = self._accounts.find(name)
        right = await self._passwords.matches("" if user is None else user.password, password)
        user = self._accounts.find(name)  # it may have been removed meanwhile
        if user is None or not right:
            self._audit.note(name, caller, "sign-in.refused", name)
            raise UnauthorizedError(_WRONG)
        return await self.open(user, caller, "password")

    def count(self, address: str, name: str = "") -> None:
        """Count a try to sign in.

        Raises:
            TooManyError: There were too many tries from this address, or for this account.
        """
        for kind, key in (("address", address), ("account", name)):
            if key and self._limits[kind].hold(key, self._lab_state.clock.now()) is None:
                raise TooManyError(
                    f"too many tries to sign in with this {kind}; wait {EACH:g} s for the next one", EACH
                )

    def link(self, user: str) -> str:
        """Return the secret of a link that signs a user in once."""
        now = self._lab_state.clock.now()
        alive = {digest: each for digest, each in self._links.items() if each[1] > now}
        self._links = dict(list(alive.items())[-LINKS + 1 :])
        secret = new_secret()
        self._links[digest_of(secret)] = (user, now + LINK)
        return secret

    async def by_link(self, secret: str, caller: Caller) -> SignedIn:
        """Sign in who has a link; it does not work again.

        Raises:
            UnauthorizedError: There is no such link, or no longer.
            TooManyError: There were too many tries from this address.
        """
        self.count(caller.address)
        name, ends = self._links.pop(digest_of(secret), ("", 0.0))
        user = self._accounts.find(name) if ends > self._lab_state.clock.now() else None
        if user is None:
            raise UnauthorizedError(_USED_UP)
        return await self.open(user, caller, "link")

    async def open(self, user: User, caller: Caller, how: str) -> SignedIn:
        """Open a browser session for a user whose identity is known; always with a new secret.

        Args:
            user: The user.
            caller: From where.
            how: `password`, `link` or `github`.
        """
        now, secret = self._lab_state.clock.now(), new_secret()
        session = BrowserSession(
            digest=digest_of(secret), user=user.name, address=caller.address, made=now, expires=now + self.lasts
        )
        self._audit.note(user.name, caller, "sign-in", user.name, after={"by": how, "expires": session.expires})
        await self._accounts.keep_user(replace(user, seen=now))
        await self._accounts.keep_browser(session)
        return SignedIn(user.name, secret, csrf_of(secret), self.lasts)
