"""The handlers for users, tokens, signing in and the audit log, which only a service has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast

from aiohttp import web

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import check_lasts
from pytest_dispatch.core.nearest import meant
from pytest_dispatch.server.api.account_schemas import (
    Link,
    MadeToken,
    NewToken,
    NewUser,
    PasswordChange,
    SignInRequest,
    TokenView,
    UserChange,
    UserView,
    WaysIn,
    WhoView,
)
from pytest_dispatch.server.api.query import number
from pytest_dispatch.server.api.route import PREFIX, as_json
from pytest_dispatch.server.auth.audit import shown
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.authentication import LINK_PATH, ServiceAccess, check_name, cookie_name
from pytest_dispatch.server.auth.callers import CALLER, Caller
from pytest_dispatch.server.auth.credentials import digest_of, new_id, new_token
from pytest_dispatch.server.auth.errors import ForbiddenError, NoSuchError, TakenError, UnauthorizedError
from pytest_dispatch.server.auth.passwords import check_new
from pytest_dispatch.server.auth.principals import PRINCIPAL, Principal, Way
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.accounts import ApiToken, AuditFilter, User

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.auth.sign_in import SignedIn

HOME = "/"  # where a browser goes that has signed in; never taken from a request
AWAY_COOKIE = "dispatch-away"  # of a browser that is at GitHub
GITHUB_PATH = "/sign-in/github"
LABELS = 200  # characters of a token's label


def service_access(context: ApiContext) -> ServiceAccess:
    """Return who has access to a service."""
    return cast("ServiceAccess", context.access)  # private labs have none of these routes


# Signing in and out


async def ways_in(context: ApiContext, _request: web.Request, _body: None) -> WaysIn:
    """Return how people can sign in."""
    return WaysIn(github=service_access(context).github is not None)


async def sign_in(context: ApiContext, request: web.Request, body: SignInRequest) -> web.Response:
    """Sign a browser in by name and password."""
    signed = await service_access(context).sign_in.by_password(body.name, body.password, request[CALLER])
    access, caller = service_access(context), request[CALLER]
    user = access.accounts.user(signed.user)
    expires = context.lab.lab_state.clock.now() + signed.lasts
    who = WhoView(name=user.name, role=Role(user.role), signed_in=Way.BROWSER, csrf=signed.csrf, expires=expires)
    return with_cookie(as_json(who, 200), signed, caller)


async def follow_link(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Sign a browser in that has a link."""
    signed = await service_access(context).sign_in.by_link(request.query.get("token", ""), request[CALLER])
    return with_cookie(_redirect(HOME), signed, request[CALLER])


async def go_to_github(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Send a browser to GitHub."""
    access = service_access(context)
    if access.github is None:
        _no_github()
    access.sign_in.count(request[CALLER].address)
    departure = access.github.depart()
    answer = _redirect(departure.url)
    secure, path = request[CALLER].scheme == "https", PREFIX + GITHUB_PATH
    answer.set_cookie(
        AWAY_COOKIE,
        departure.state,
        max_age=int(departure.lasts),
        path=path,
        httponly=True,
        samesite="Lax",
        secure=secure,
    )
    return answer


async def come_from_github(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Sign a browser in that comes back from GitHub."""
    access, caller, query = service_access(context), request[CALLER], request.query
    if access.github is None:
        _no_github()
    access.sign_in.count(caller.address)
    try:
        user = await access.github.arrive(
            query.get("code", ""), query.get("state", ""), request.cookies.get(AWAY_COOKIE, "")
        )
    except (UnauthorizedError, ForbiddenError):
        access.audit.note("", caller, "sign-in.refused", "github")
        raise
    return with_cookie(_redirect(HOME), await access.sign_in.open(user, caller, "github"), caller)


async def sign_out(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Sign a browser out."""
    principal = request[PRINCIPAL]
    if principal.way is not Way.BROWSER:
        raise ConfigError("expected a browser that is signed in, got a token; revoke it with `dispatch tokens revoke`")
    await service_access(context).accounts.end_browser(principal.key)
    answer = web.Response(status=204)
    answer.del_cookie(cookie_name(request[CALLER]), path="/")
    return answer


async def who_am_i(_context: ApiContext, request: web.Request, _body: None) -> WhoView:
    """Return who the caller is."""
    principal = request[PRINCIPAL]
    groups = None if principal.groups is None else tuple(sorted(principal.groups))
    return WhoView(
        name=principal.name,
        role=principal.role,
        groups=groups,
        signed_in=principal.signed_in,
        csrf=principal.csrf,
        expires=principal.expires,
    )


async def change_password(context: ApiContext, request: web.Request, body: PasswordChange) -> None:
    """Change the caller's password, and sign out the caller's other browsers."""
    access, principal = service_access(context), request[PRINCIPAL]
    if principal.way is not Way.BROWSER:
        raise ForbiddenError("expected a browser that is signed in: with a token nobody changes a password")
    user = access.accounts.user(principal.name)
    _check_has_password(user)
    check_new(body.new)
    access.sign_in.count(request[CALLER].address, user.name)
    if user.password and not await access.passwords.matches(user.password, body.old):
        raise ForbiddenError("expected the old password as `old`, got another one")
    password = await access.passwords.hashed(body.new)
    await access.accounts.keep_user(replace(access.accounts.user(principal.name), password=password))
    await access.accounts.end_browsers(principal.name, but=principal.key)
    request[CHANGED] = Changed(principal.name, {"password": bool(user.password)}, {"password": "changed"})


def with_cookie(answer: web.Response, signed: SignedIn, caller: Caller) -> web.Response:
    """Return the answer with the cookie of a browser that has just signed in."""
    answer.set_cookie(
        cookie_name(caller),
        signed.secret,
        max_age=int(signed.lasts),
        path="/",
        httponly=True,
        samesite="Lax",
        secure=caller.scheme == "https",
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _redirect(url: str) -> web.Response:
    headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)


def _no_github() -> NoReturn:
    raise NoSuchError("this lab has no sign-in by GitHub; its configuration (auth.github) can add it")


# Users


async def list_users(context: ApiContext, _request: web.Request, _body: None) -> list[UserView]:
    """List the users."""
    return [_user_view(user) for user in service_access(context).accounts.users()]


async def add_user(context: ApiContext, request: web.Request, body: NewUser) -> UserView:
    """Add a user."""
    access = service_access(context)
    check_name(body.name)
    if body.password:
        check_new(body.password)
    password = await access.passwords.hashed(body.password) if body.password else ""
    if access.accounts.find(body.name) is not None:
        raise TakenError(f"expected a new name, got {body.name!r}, which a user has; change that one, or take another")
    user = User(name=body.name, role=body.role, password=password, made=context.lab.lab_state.clock.now())
    await access.accounts.keep_user(user)
    request[CHANGED] = Changed(user.name, after=shown(user))
    return _user_view(user)


async def change_user(context: ApiContext, request: web.Request, body: UserChange) -> UserView:
    """Change the role or the password of a user; a new password signs out all browsers of the user."""
    access, name = service_access(context), request.match_info["user"]
    user = access.accounts.user(name)
    if name == request[PRINCIPAL].name and body.role not in (None, user.role):
        raise TakenError(
            f"expected another user: nobody changes their own role, {user.role}, so that an administrator is left;"
            " another one can"
        )
    password = None
    if body.password is not None:
        _check_has_password(user)
        check_new(body.password)
        password = await access.passwords.hashed(body.password)
    before = access.accounts.user(name)
    role = before.role if body.role is None else body.role
    user = replace(before, role=role, password=before.password if password is None else password)
    await access.accounts.keep_user(user)
    if password is not None:
        await access.accounts.end_browsers(name)
    after = shown(user) | ({} if password is None else {"password": "changed"})
    request[CHANGED] = Changed(name, shown(before), after)
    return _user_view(user)


def removable(context: ApiContext, request: web.Request) -> User:
    """Return the user that a request is to remove.

    Raises:
        NoSuchError: There is none.
        TakenError: It is the caller.
    """
    user = service_access(context).accounts.user(request.match_info["user"])
    if user.name == request[PRINCIPAL].name:
        raise TakenError("expected another user: nobody removes the user by whom they are signed in")
    return user


async def remove_user(context: ApiContext, request: web.Request, _body: None) -> None:
    """Remove a user, whose tokens and browsers end."""
    accounts, name = service_access(context).accounts, request.match_info["user"]
    user = removable(context, request)
    await accounts.remove_user(name)
    request[CHANGED] = Changed(name, shown(user), {"removed": True})


async def make_link(context: ApiContext, request: web.Request, _body: None) -> Link:
    """Make a link that signs a user in once."""
    access, name = service_access(context), request.match_info["user"]
    return Link(path=f"{PREFIX}{LINK_PATH}?token={access.sign_in.link(access.accounts.user(name).name)}")


def _user_view(user: User) -> UserView:
    return UserView(
        name=user.name,
        role=Role(user.role),
        source=user.subject,
        password=bool(user.password),
        made=user.made,
        seen=user.seen,
    )


def _check_has_password(user: User) -> None:
    if user.subject:
        place = "at GitHub" if user.subject.startswith("github:") else "in the lab's configuration (auth.users)"
        raise TakenError(f"expected a user whose password is kept here, got {user.name}: change it {place}")


# Tokens


async def list_tokens(context: ApiContext, request: web.Request, _body: None) -> list[TokenView]:
    """List the caller's tokens; with `all`, an administrator sees everybody's."""
    principal = request[PRINCIPAL]
    everybody = number(request, "all", 0) > 0
    if everybody and not principal.may_all:
        raise ForbiddenError(
            f"expected the role admin to see the tokens of all, got {principal.name}, {principal.role}"
        )
    tokens = service_access(context).accounts.tokens("" if everybody else principal.name)
    return [_token_view(token) for token in tokens]


async def make_token(context: ApiContext, request: web.Request, body: NewToken) -> MadeToken:
    """Make a token, which may do no more than the caller, and lasts no longer than what the caller signed in with."""
    principal, accounts, now = request[PRINCIPAL], service_access(context).accounts, context.lab.lab_state.clock.now()
    if principal.way is Way.LAB and not body.user:
        raise ConfigError("user: expected the user whose token it is to be, got none; the lab's own token is no user's")
    user = accounts.user(body.user or principal.name)
    _check_wanted(principal, user, body)
    _check_groups(context.lab.queue.groups, body.groups or ())
    expires = None if body.lasts is None else now + body.lasts
    if principal.way is Way.TOKEN and principal.expires is not None:
        expires = min(expires or principal.expires, principal.expires)
    secret, role = new_token(), body.role or Role(user.role if principal.may_all else principal.role)
    token = ApiToken(
        id=new_id(),
        digest=digest_of(secret),
        user=user.name,
        label=body.label,
        role=role,
        groups=None if body.groups is None else tuple(sorted(set(body.groups))),
        made=now,
        expires=expires,
    )
    await accounts.keep_token(token)
    request[CHANGED] = Changed(token.id, after=shown(token))
    return MadeToken(secret=secret, token=_token_view(token))


def _check_wanted(principal: Principal, user: User, body: NewToken) -> None:
    """Refuse a token that may do more than the caller.

    Raises:
        ForbiddenError: It would.
        ConfigError: A value is invalid.
    """
    if user.name != principal.name and not principal.may_all:
        raise ForbiddenError(f"expected the role admin for a token of {user.name}, got {principal.name}")
    if body.role is not None and not principal.covers(body.role) and body.role is not principal.role:
        raise ForbiddenError(f"expected a role of at most {principal.role}, got {body.role}")
    if principal.groups is not None and (body.groups is None or not principal.groups.issuperset(body.groups)):
        raise ForbiddenError(
            f"expected groups among {', '.join(sorted(principal.groups))}, since this token is for them"
        )
    if body.lasts is not None:
        _check_lasts(body.lasts)
    if not 0 < len(body.label) <= LABELS or not body.label.isprintable():
        raise ConfigError(f"label: expected 1 to {LABELS} printable characters that say what the token is for")


def _check_lasts(seconds: float) -> None:
    try:
        check_lasts("lasts", seconds)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _check_groups(known: Collection[str], groups: Iterable[str]) -> None:
    """Refuse groups that the lab has not.

    Raises:
        ConfigError: It has not one of them.
    """
    for group in groups:
        if group not in known:
            raise ConfigError(f"groups: expected groups of this lab, got {group!r}: {meant(group, sorted(known))}")


def revocable(context: ApiContext, request: web.Request) -> ApiToken:
    """Return the token that a request is to revoke.

    Raises:
        NoSuchError: There is none.
        ForbiddenError: It is another user's.
    """
    principal, token = request[PRINCIPAL], service_access(context).accounts.token(request.match_info["token"])
    if token.user != principal.name and not principal.may_all:
        raise ForbiddenError(f"expected a token of {principal.name}, or the role admin, got one of another user")
    return token


async def revoke_token(context: ApiContext, request: web.Request, _body: None) -> None:
    """Revoke a token: the caller's own, or anybody's for an administrator."""
    token, accounts = revocable(context, request), service_access(context).accounts
    revoked = replace(token, revoked=token.revoked or context.lab.lab_state.clock.now())
    await accounts.keep_token(revoked)
    request[CHANGED] = Changed(token.id, shown(token), shown(revoked))


def _token_view(token: ApiToken) -> TokenView:
    return TokenView(
        id=token.id,
        user=token.user,
        label=token.label,
        role=Role(token.role),
        groups=token.groups,
        made=token.made,
        expires=token.expires,
        used=token.used,
        revoked=token.revoked,
    )


# The audit log


async def read_audit(context: ApiContext, request: web.Request, _body: None) -> list[AuditEntry]:
    """Return the newest entries of the audit log that fit, the last one first."""
    query = request.query
    wanted = AuditFilter(
        who=query.get("who", ""),
        action=query.get("action", ""),
        target=query.get("target", ""),
        since=number(request, "since", 0.0),
        until=number(request, "until", 0.0),
        before=max(0, int(number(request, "before", 0))),
        most=max(1, int(number(request, "most", 100))),
    )
    return await service_access(context).audit.read(wanted)
