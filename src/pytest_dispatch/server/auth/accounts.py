"""The users of a lab with their tokens and browsers: all in memory, and each change in the journal before it counts.

So no request reads the database, and what was revoked is refused from that moment on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.server.auth.credentials import csrf_of, digest_of
from pytest_dispatch.server.auth.errors import NoSuchError
from pytest_dispatch.server.auth.principals import Principal, Way
from pytest_dispatch.server.auth.roles import Role, lower
from pytest_dispatch.store import schema
from pytest_dispatch.store.accounts import (
    ApiToken,
    BrowserSession,
    User,
    api_token_row,
    browser_session_row,
    user_row,
)
from pytest_dispatch.store.inserts import Expired

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_dispatch.lab.state import LabState

USED = 60.0  # seconds between two notes of a token's last use
DAY = 86_400.0
OVER = 30 * DAY  # seconds that a token is still listed after its end
EVERY = 3600.0  # seconds between clearances


class Accounts:
    """Finds users, tokens and browsers, and keeps their changes. Call `load` before use.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state
        self._users: dict[str, User] = {}
        self._tokens: dict[str, ApiToken] = {}  # by digest
        self._browsers: dict[str, BrowserSession] = {}  # by digest
        self._cleared = 0.0

    async def load(self) -> None:
        """Read what the journal has.

        Raises:
            JournalError: It cannot be read.
        """
        kept = await self._lab_state.journal.background.accounts()
        self._users = {user.name: user for user in kept.users}
        self._tokens = {token.digest: token for token in kept.tokens}
        self._browsers = {session.digest: session for session in kept.browser_sessions}

    # Finding

    def of_token(self, secret: str) -> Principal | str:
        """Return whose token this is, and note that it was used; or why it is refused, empty if it is unknown."""
        token, now = self._tokens.get(digest_of(secret)), self._now()
        if token is None:
            return ""
        if token.revoked is not None:
            return f"expected a token in force, got {token.id}, which was revoked; make another one"
        if token.expires is not None and token.expires <= now:
            return f"expected a token in force, got {token.id}, which has expired; make another one"
        user = self.find(token.user)
        if user is None:
            return f"expected a token of a user, got {token.id} of {token.user}, who was removed"
        if now >= token.used + USED:
            self._keep_token(replace(token, used=now))
        role = lower(Role(token.role), Role(user.role))
        groups = None if token.groups is None else frozenset(token.groups)
        return Principal(name=user.name, role=role, groups=groups, way=Way.TOKEN, key=token.id, expires=token.expires)

    def of_browser(self, secret: str) -> Principal | None:
        """Return who has signed in with this browser; None if nobody has, or no longer."""
        session = self._browsers.get(digest_of(secret))
        if session is None or session.ended is not None or session.expires <= self._now():
            return None
        user = self.find(session.user)
        if user is None:
            return None
        role, csrf = Role(user.role), csrf_of(secret)
        return Principal(
            name=user.name, role=role, way=Way.BROWSER, key=session.digest, csrf=csrf, expires=session.expires
        )

    def find(self, name: str) -> User | None:
        """Return a user who was not removed."""
        user = self._users.get(name)
        return None if user is None or user.removed is not None else user

    def user(self, name: str) -> User:
        """Return a user.

        Raises:
            NoSuchError: There is none of that name.
        """
        user = self.find(name)
        if user is None:
            raise NoSuchError(f"no user {name!r}; `dispatch users list` shows all")
        return user

    def users(self) -> list[User]:
        """Return all users who were not removed, by name."""
        return [user for _, user in sorted(self._users.items()) if user.removed is None]

    def token(self, token_id: str) -> ApiToken:
        """Return a token by its id.

        Raises:
            NoSuchError: There is none.
        """
        for token in self._tokens.values():
            if token.id == token_id:
                return token
        raise NoSuchError(f"no token {token_id!r}; `dispatch tokens list` shows yours")

    def tokens(self, user: str = "") -> list[ApiToken]:
        """Return all tokens, or those of a user, in the order in which they were made."""
        found = (token for token in self._tokens.values() if user in ("", token.user))
        return sorted(found, key=lambda token: (token.made, token.id))

    # Changing

    async def keep_user(self, user: User) -> None:
        """Add a user, or change one."""
        self._lab_state.write([user_row(user)])
        self._users[user.name] = user
        await self._lab_state.on_disk()

    async def remove_user(self, name: str) -> None:
        """Remove a user; all tokens and browsers of the user end."""
        for token in self.tokens(name):
            if token.revoked is None:
                self._keep_token(replace(token, revoked=self._now()))
        self._end(session for session in self._browsers.values() if session.user == name)
        await self.keep_user(replace(self.user(name), removed=self._now(), password=""))

    async def keep_token(self, token: ApiToken) -> None:
        """Add a token, or change one."""
        self._keep_token(token)
        await self._lab_state.on_disk()

    async def keep_browser(self, session: BrowserSession) -> None:
        """Add a browser that has signed in."""
        self._lab_state.write([browser_session_row(session)])
        self._browsers[session.digest] = session
        await self._lab_state.on_disk()

    async def end_browser(self, digest: str) -> None:
        """Sign a browser out."""
        self._end([self._browsers[digest]])
        await self._lab_state.on_disk()

    async def end_browsers(self, user: str, *, but: str = "") -> None:
        """Sign out all browsers of a user, except one."""
        self._end(each for each in self._browsers.values() if each.user == user and each.digest != but)
        await self._lab_state.on_disk()

    def _keep_token(self, token: ApiToken) -> None:
        self._lab_state.write([api_token_row(token)])
        self._tokens[token.digest] = token

    def _end(self, sessions: Iterable[BrowserSession]) -> None:
        for session in list(sessions):
            ended = replace(session, ended=self._now())
            self._lab_state.write([browser_session_row(ended)])
            self._browsers[session.digest] = ended

    # MemoryEviction

    def clear(self, audit_kept: float | None) -> None:
        """Forget browsers that are signed out, tokens whose end is long past, and old entries of the audit log.

        Does so once an hour at most, in memory and in the journal.

        Args:
            audit_kept: Seconds that entries of the audit log are kept; None for ever.
        """
        now = self._now()
        if now < self._cleared + EVERY:
            return
        self._cleared = now
        self._browsers = {
            digest: each for digest, each in self._browsers.items() if each.ended is None and each.expires > now
        }
        self._tokens = {digest: each for digest, each in self._tokens.items() if _ended(each, now) > now - OVER}
        gone, old = schema.browser_sessions.c, schema.api_tokens.c
        expired = [Expired(gone.expires, now), Expired(gone.ended, now)]
        expired += [Expired(old.expires, now - OVER), Expired(old.revoked, now - OVER)]
        if audit_kept is not None:
            expired.append(Expired(schema.audit.c.at, now - audit_kept))
        self._lab_state.hand_over()  # rows about to be written come first
        self._lab_state.journal.forget(expired)

    def _now(self) -> float:
        return self._lab_state.clock.now()


def _ended(token: ApiToken, now: float) -> float:
    """Return when a token ended; if it has not, now and a little later."""
    return min((at for at in (token.revoked, token.expires) if at is not None), default=now + 1.0)
