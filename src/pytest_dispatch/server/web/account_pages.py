"""The pages of accounts: Users and tokens, for administrators, and everybody's own account."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL, Way
from pytest_dispatch.server.auth.roles import Role, lower
from pytest_dispatch.server.web.account_deeds import ACCOUNT, LASTS, USERS, may_change_own
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import part_of
from pytest_dispatch.server.web.words import in_order

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.store.accounts import ApiToken, User

#: No event of the lab's tells of accounts: the page looks now and then.
LIVE = "hold"
PAGE = 15  # users, and tokens, on a page
LISTED = 50  # users of whom one is picked from a list
#: Where users are from, as people call it.
_SOURCES = {"": "added here", "configuration": "lab.yaml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownUser:
    """A user, as the page shows one.

    Attributes:
        source: Where the user is from.
        tokens: How many tokens in force the user has.
    """

    user: User
    source: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToken:
    """A token, as a page shows it.

    Attributes:
        role: What it may do now: no more than its user.
        standing: `in force`, `expired` or `revoked`.
    """

    token: ApiToken
    role: str
    standing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the page of all accounts is to show, as its address says.

    Attributes:
        named: What the names of its users must contain.
        first: How many users to leave out.
        user: Name of the user whose tokens it shows; empty for all.
        tokens: How many tokens to leave out.
    """

    named: str = ""
    first: int = 0
    user: str = ""
    tokens: int = 0

    def address(self, **changed: object) -> str:
        """Return the address of the same page but for these."""
        wanted = replace(self, **changed)  # type: ignore[arg-type]
        query = urlencode({name: value for name in self.__slots__ if (value := getattr(wanted, name))})
        return f"{USERS}?{query}" if query else USERS


@page
async def show_users(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of all accounts."""
    query, accounts = request.query, service_access(context).accounts
    wanted = Wanted(
        named=query.get("named", "").strip(),
        first=whole(request, "first", 0),
        user=query.get("user", ""),
        tokens=whole(request, "tokens", 0),
    )
    tokens = part_of(
        _tokens(context, wanted.user), wanted.tokens, PAGE, lambda first: f"{wanted.address(tokens=first)}#tokens-title"
    )
    in_force = Counter(each.token.user for each in _tokens(context, "") if each.standing == "in force")
    known = sorted(accounts.users(), key=lambda user: in_order(user.name))
    users = [
        KnownUser(user=user, source=_source(user), tokens=in_force[user.name])
        for user in known
        if wanted.named.lower() in user.name.lower()
    ]
    values = {
        "users": part_of(users, wanted.first, PAGE, lambda first: wanted.address(first=first)),
        "many": len(known) > PAGE,
        "names": [user.name for user in known] if len(known) <= LISTED else [],
        "wanted": wanted,
        **_offered(context, request, USERS, tokens),
    }
    return Page(template="users.html", title="Users and tokens", live=LIVE, values=values)


@page
async def show_account(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of the account of who looks."""
    principal = request[PRINCIPAL]
    user = service_access(context).accounts.find(principal.name)
    groups = None if principal.groups is None else sorted(principal.groups)
    own = [] if user is None else _tokens(context, user.name)
    tokens = part_of(own, whole(request, "tokens", 0), PAGE, lambda first: f"{ACCOUNT}?tokens={first}#tokens-title")
    values = {
        "user": user,
        "source": "" if user is None else _source(user),
        "groups": groups,
        "signed_in": principal.signed_in,
        "expires": principal.expires,
        "password": principal.way is Way.BROWSER and user is not None and not user.subject,
        "may": may_change_own(request),
        **_offered(context, request, ACCOUNT, tokens),
    }
    return Page(template="account.html", title="Your account", live=LIVE, values=values)


def _offered(context: ApiContext, request: web.Request, action: str, tokens: object) -> dict[str, Any]:
    """Return what both pages show of tokens, and offer for a new one."""
    mine = request[PRINCIPAL].role
    return {
        "action": action,
        "tokens": tokens,
        "roles": [str(each) for each in Role if mine.covers(each)],
        "lasts": LASTS,
        "known_groups": sorted(context.lab.queue.groups),
        "me": request[PRINCIPAL].name,
    }


def _tokens(context: ApiContext, user: str) -> list[KnownToken]:
    """Return tokens, those in force first, and of those the newest first."""
    accounts, now = service_access(context).accounts, context.lab.lab_state.clock.now()
    found = [_known(context, each, now) for each in reversed(accounts.tokens(user))]
    return sorted(found, key=lambda each: each.standing != "in force")


def _known(context: ApiContext, token: ApiToken, now: float) -> KnownToken:
    user = service_access(context).accounts.find(token.user)
    role = Role(token.role) if user is None else lower(Role(token.role), Role(user.role))
    expired = token.expires is not None and token.expires <= now
    standing = "revoked" if token.revoked is not None else "expired" if expired else "in force"
    return KnownToken(token=token, role=str(role), standing=standing)


def _source(user: User) -> str:
    return "GitHub" if user.subject.startswith("github:") else _SOURCES.get(user.subject, user.subject)
