"""The pages of accounts: Users and tokens, for administrators, and everybody's own account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.server.auth.principals import PRINCIPAL, Way
from pytest_dispatch.server.auth.roles import Role, lower
from pytest_dispatch.server.web.account_deeds import ACCOUNT, LASTS, USERS, may_change_own
from pytest_dispatch.server.web.page import Page, page

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.store.accounts import ApiToken, User

#: No event of the lab's tells of accounts: the page looks now and then.
LIVE = "hold"
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


@page
async def show_users(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of all accounts."""
    accounts = service_access(context).accounts
    tokens = _tokens(context, request.query.get("user", ""))
    in_force = [each.token.user for each in _tokens(context, "") if each.standing == "in force"]
    users = [KnownUser(user=user, source=_source(user), tokens=in_force.count(user.name)) for user in accounts.users()]
    values = {"users": users, "of": request.query.get("user", ""), **_offered(context, request, USERS, tokens)}
    return Page(template="users.html", title="Users and tokens", live=LIVE, values=values)


@page
async def show_account(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page of the account of who looks."""
    principal = request[PRINCIPAL]
    user = service_access(context).accounts.find(principal.name)
    groups = None if principal.groups is None else sorted(principal.groups)
    own = () if user is None else _tokens(context, user.name)
    values = {
        "user": user,
        "source": "" if user is None else _source(user),
        "groups": groups,
        "signed_in": principal.signed_in,
        "expires": principal.expires,
        "password": principal.way is Way.BROWSER and user is not None and not user.subject,
        "may": may_change_own(request),
        **_offered(context, request, ACCOUNT, own),
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
