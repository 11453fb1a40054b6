"""Checks API requests (who, from where, role, session holder), and turns exceptions of handlers into answers."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from pytest_dispatch.core.errors import ConfigError, CycleError, DispatchError, NoCycleError, StaleLeaseError
from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.groups import NoGroupError
from pytest_dispatch.core.templates import NoTemplateError
from pytest_dispatch.lab.state import NotEndedError, UnknownError
from pytest_dispatch.server.api.route import ApiContext, Route, Whose, as_json, loaded
from pytest_dispatch.server.api.schemas import EPOCH, STALE, Problem
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.authentication import ServiceAccess
from pytest_dispatch.server.auth.callers import CALLER, Caller
from pytest_dispatch.server.auth.errors import (
    ForbiddenError,
    NoSuchError,
    TakenError,
    TooManyError,
    UnauthorizedError,
)
from pytest_dispatch.server.auth.principals import PRINCIPAL, Principal
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.scope import outside
from pytest_dispatch.server.limits.bounds import packing
from pytest_dispatch.server.limits.host_check import foreign_page, stranger
from pytest_dispatch.sources.cache import NoRoomError
from pytest_dispatch.sources.uploads import TooLongError, WrongPlaceError
from pytest_dispatch.support.codec import decode

#: All methods of the API's operations.
METHODS = "DELETE, GET, PATCH, POST, PUT"


class _NoEpochError(DispatchError):
    """A request that changes a session does not say which of its holders sent it."""


#: Exceptions that handlers may raise, with their statuses; the first match counts.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (msgspec.DecodeError, 400),
    (UnicodeDecodeError, 400),
    (RecursionError, 400),
    (ConnectionError, 400),
    (web.RequestPayloadError, 400),
    (UnknownError, 404),
    (StaleLeaseError, 409),
    (_NoEpochError, 428),
    (web.HTTPRequestEntityTooLarge, 413),
    (TooLongError, 413),
    (WrongPlaceError, 409),
    (web.HTTPRequestTimeout, 408),
    (NoRoomError, 507),
    (NoGroupError, 404),
    (NoTemplateError, 404),
    (NoCycleError, 404),
    (CycleError, 409),
    (NotQueuedError, 409),
    (NotEndedError, 409),
    (ConfigError, 400),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (NoSuchError, 404),
    (TakenError, 409),
    (TooManyError, 429),
    (DispatchError, 503),
)
_EXPECTED = tuple(kind for kind, _ in _STATUS)


def guarded(context: ApiContext, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that checks requests, and answers every refusal or error in JSON."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            refused = await _refused(context, route, request)
            return await _answer(context, route, request) if refused is None else refused
        except _EXPECTED as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            text = error.text if isinstance(error, web.HTTPException) else str(error)
            return as_json(Problem(error=text or ""), status, _headers(error))

    return handle


def _headers(error: Exception) -> dict[str, str] | None:
    """Return the headers of a refusal; a client tells a lost lease from other conflicts by them."""
    if isinstance(error, TooManyError):
        return {"Retry-After": f"{math.ceil(error.wait)}"}
    return {EPOCH: STALE} if isinstance(error, StaleLeaseError) else None


async def _refused(context: ApiContext, route: Route, request: web.Request) -> web.Response | None:
    """Return a refusal for a request that may not use the API; None if it may.

    To those whom the lab does not know, all paths give the same answer.

    Raises:
        ForbiddenError: The caller may not do this, or comes by a way that is not safe.
    """
    request[CALLER] = caller = context.access.caller(request)
    unknown = _unknown(context, route, request)
    if unknown and await context.too_fast(caller.address):
        return as_json(Problem(error="too many requests without the session's token"), 429, {"Retry-After": "1"})
    misled = _misled(context, caller, request)
    if misled is not None or route.needs is None:
        return misled
    if unknown:
        return as_json(Problem(error=unknown), 401, {"WWW-Authenticate": "Bearer"})
    if not context.access.private:
        _check_role(route.needs, request[PRINCIPAL])
    return None


def _misled(context: ApiContext, caller: Caller, request: web.Request) -> web.Response | None:
    """Return a refusal for a request that a web page of somebody else's made; None if none did."""
    meant_for = None if caller.scheme == "https" else stranger(request, context.names())
    if meant_for is not None:
        return as_json(Problem(error=f"expected the lab's address in the header Host, got {meant_for!r}"), 421)
    page = foreign_page(request, caller.scheme, caller.host)
    if page is not None:
        return as_json(Problem(error=f"no page but the lab's own may ask, got one of {page!r}"), 403)
    if request.method == "OPTIONS":
        return as_json(Problem(error=f"expected one of {METHODS}, got OPTIONS"), 405, {"Allow": METHODS})
    return None


def _unknown(context: ApiContext, route: Route, request: web.Request) -> str:
    """Note who made a request; return why that is unknown, empty if it is known.

    Raises:
        ForbiddenError: It is a browser that does not show that its own page asks.
    """
    if route.needs is None:
        return "not signed in"
    try:
        request[PRINCIPAL] = context.access.identify(request, request[CALLER])
    except UnauthorizedError as error:
        return str(error)
    return ""


def _check_role(needs: Role, principal: Principal) -> None:
    if not principal.covers(needs):
        confined = " confined to groups" if principal.groups is not None else ""
        raise ForbiddenError(f"expected the role {needs} here, got {principal.name}, {principal.role}{confined}")


async def _answer(context: ApiContext, route: Route, request: web.Request) -> web.StreamResponse:
    if (why := context.lab.refuses) is not None and not (route.saved and context.lab.broken is not None):
        return as_json(Problem(error=str(why)), 503)
    if (route.takes or route.bare) and (packed := packing(request.headers)):
        return as_json(Problem(error=f"expected an uncompressed body, got one with Content-Encoding: {packed}"), 415)
    owns = context.access.private or route.needs is None or await _owns(context, route, request)
    body = decode(await request.read(), loaded(route.takes)) if route.takes else None
    if route.of_session and context.lab.broken is None:
        _note_holder(context, route, request, owns=owns)
    result = await loaded(route.handler)(context, request, body)
    if isinstance(context.access, ServiceAccess) and (route.audit or CHANGED in request):
        await _note_change(context, context.access, route, request)
    if isinstance(result, web.StreamResponse):
        return result
    return web.Response(status=204) if route.gives is None else as_json(result, route.status)


async def check_may(context: ApiContext, route: Route, request: web.Request, where: Mapping[str, str]) -> None:
    """Refuse an operation for a page as `carry_out` would, before anything is said of what it is about.

    Raises:
        UnknownError: There is no such session or run.
        ForbiddenError: The caller may not do this.
    """
    _check_role(route.needs or Role.ADMIN, request[PRINCIPAL])
    request.match_info.update(where)
    await _owns(context, route, request)


async def carry_out(
    context: ApiContext, route: Route, request: web.Request, where: Mapping[str, str], body: object = None
) -> Any:
    """Carry an operation out for a page, as if it had been asked for: with its checks, and told in the audit log.

    Args:
        context: The lab.
        route: The operation, which is not one of a session's holder.
        request: The request for the page; who made it is known.
        where: What the operation's path names.
        body: What it takes.

    Raises:
        DispatchError: It is refused; nothing is changed.
    """
    await check_may(context, route, request, where)
    result = await loaded(route.handler)(context, request, body)
    if isinstance(context.access, ServiceAccess) and route.audit:
        await _note_change(context, context.access, route, request)
    if CHANGED in request:
        del request[CHANGED]  # the same request may change more
    return result


async def _owns(context: ApiContext, route: Route, request: web.Request) -> bool:
    """Return whether the request is about the caller's own session, or about none.

    Raises:
        UnknownError: There is no such session or run.
        ForbiddenError: The caller may not do this with another user's session, or has a token for other groups.
    """
    principal, where = request[PRINCIPAL], request.match_info
    if "run" in where and route.kept and where["run"] not in context.lab.queue.runs:
        return await _owns_kept(context, route, request)
    run = context.lab.session_service.run(where["run"]) if "run" in where else None
    group = where.get("group") if run is None else run.group
    if group is not None and not principal.may_use(group):
        raise outside(principal, group)
    if not route.of_session:
        return True
    user = await context.lab.session_service.user_of(where["session"] if run is None else run.session)
    if user == principal.name:
        return True
    if run is None and principal.groups is not None:
        raise ForbiddenError(f"expected a session of {principal.name}, got one of {user}: this token is for its groups")
    _check_foreign(route, principal, user, holds=EPOCH in request.headers)
    return False


async def _owns_kept(context: ApiContext, route: Route, request: web.Request) -> bool:
    """Return whether the request is about a run of the caller that the lab has forgotten.

    Raises:
        UnknownError: There is no such run in the journal.
        ForbiddenError: The caller may not do this with it.
    """
    principal = request[PRINCIPAL]
    place = await context.lab.history.place_of(request.match_info["run"])
    if not principal.may_use(place.group):
        raise outside(principal, place.group)
    if place.user == principal.name:
        return True
    _check_foreign(route, principal, place.user, holds=False)
    return False


def _check_foreign(route: Route, principal: Principal, user: str, *, holds: bool) -> None:
    """Refuse what may not be done with another user's session."""
    if route.whose is Whose.OWN:
        raise ForbiddenError(f"expected a session of {principal.name}, got one of {user}, who alone may do this")
    if principal.may_all:
        return
    if route.whose is Whose.OWN_OR_ADMIN:
        raise ForbiddenError(f"expected a session of {principal.name}, or the role admin, got one of {user}")
    if holds:
        raise ForbiddenError(
            f"expected no header {EPOCH}, which is for who holds the session, got it for one of {user}"
        )


def _note_holder(context: ApiContext, route: Route, request: web.Request, *, owns: bool) -> None:
    """Renew the lease of a session's holder; refuse former holders, and changes by its user without an epoch.

    Raises:
        UnknownError: There is no such session or run.
        StaleLeaseError: The session has another holder now, or has ended.
    """
    session_service, where = context.lab.session_service, request.match_info
    if route.kept and "run" in where and where["run"] not in context.lab.queue.runs:
        return  # nobody holds the session of a run that the lab has forgotten
    session = where["session"] if "session" in where else session_service.run(where["run"]).session
    given = ", ".join(request.headers.getall(EPOCH)) if EPOCH in request.headers else None
    if given is None and route.changes and owns:
        context.lab.lab_state.live_session(session)
        raise _NoEpochError(f"expected the epoch of the session, as it was opened, in the header {EPOCH}, got none")
    if given is None or not route.checked:
        return
    if not re.fullmatch("[0-9]{1,18}", given):
        raise msgspec.ValidationError(f"header {EPOCH}: expected a whole number, got {given!r}")
    session_service.heard(session, int(given))


async def _note_change(context: ApiContext, access: ServiceAccess, route: Route, request: web.Request) -> None:
    """Write to the audit log what was changed; it is on disk when the caller gets an answer."""
    changed = request.get(CHANGED) or Changed("/".join(request.match_info.values()))
    who = request[PRINCIPAL]
    access.audit.note(who, request[CALLER], route.audit, changed.target, changed.before, changed.after)
    await context.lab.lab_state.on_disk()
