"""Checks API requests (token, host, origin, session holder), and turns exceptions of handlers into answers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from pytest_dispatch.core.errors import ConfigError, DispatchError, StaleLeaseError
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.route import ApiContext, Route
from pytest_dispatch.server.api.schemas import EPOCH, Problem
from pytest_dispatch.server.limits.bounds import packing
from pytest_dispatch.server.limits.host_check import foreign_page, stranger
from pytest_dispatch.sources.cache import NoRoomError
from pytest_dispatch.sources.uploads import TooLongError, WrongPlaceError
from pytest_dispatch.support.codec import decode

#: All methods of the API's operations.
METHODS = "DELETE, GET, POST, PUT"


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
    (ConfigError, 400),
    (DispatchError, 503),
)
_EXPECTED = tuple(kind for kind, _ in _STATUS)


def guarded(context: ApiContext, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that checks requests, and answers every refusal or error in JSON."""

    async def handle(request: web.Request) -> web.StreamResponse:
        refused = await _refused(context, request)
        if refused is not None:
            return refused
        try:
            return await _answer(context, route, request)
        except _EXPECTED as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            text = error.text if isinstance(error, web.HTTPException) else str(error)
            return as_json(Problem(error=text or ""), status)

    return handle


async def _refused(context: ApiContext, request: web.Request) -> web.Response | None:
    """Return a refusal for a request that may not use the API, the same for every path; None if it may."""
    meant_for, page, known = stranger(request, context.names()), foreign_page(request), _may_enter(context, request)
    if not known and await context.too_fast(request.remote or ""):
        return as_json(Problem(error="too many requests without the session's token"), 429, {"Retry-After": "1"})
    if meant_for is not None:
        return as_json(Problem(error=f"expected the lab's address in the header Host, got {meant_for!r}"), 421)
    if page is not None:
        return as_json(Problem(error=f"no page but the lab's own may ask, got one of {page!r}"), 403)
    if request.method == "OPTIONS":
        return as_json(Problem(error=f"expected one of {METHODS}, got OPTIONS"), 405, {"Allow": METHODS})
    if not known:
        problem = Problem(error="expected the session's bearer token in the header Authorization")
        return as_json(problem, 401, {"WWW-Authenticate": "Bearer"})
    return None


def _may_enter(context: ApiContext, request: web.Request) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip().encode(errors="surrogateescape")  # aiohttp decodes headers this way
    return hmac.compare_digest(given, context.token.encode()) and scheme.lower() == "bearer"


async def _answer(context: ApiContext, route: Route, request: web.Request) -> web.StreamResponse:
    if context.lab.broken is not None and not route.saved:
        return as_json(Problem(error=str(context.lab.broken)), 503)
    if (route.takes or route.bare) and (packed := packing(request.headers)):
        return as_json(Problem(error=f"expected an uncompressed body, got one with Content-Encoding: {packed}"), 415)
    body = decode(await request.read(), route.takes) if route.takes else None
    if route.of_session and context.lab.broken is None:
        _note_holder(context, route, request)
    result = await route.handler(context, request, body)
    if isinstance(result, web.StreamResponse):
        return result
    return web.Response(status=204) if route.gives is None else as_json(result, route.status)


def _note_holder(context: ApiContext, route: Route, request: web.Request) -> None:
    """Renew the lease of a session's holder; refuse former holders, and changes without an epoch.

    Raises:
        UnknownError: There is no such session or run.
        StaleLeaseError: The session has another holder now, or has ended.
    """
    session_service, where = context.lab.session_service, request.match_info
    session = where["session"] if "session" in where else session_service.run(where["run"]).session
    given = ", ".join(request.headers.getall(EPOCH)) if EPOCH in request.headers else None
    if given is None and route.changes:
        context.lab.lab_state.live_session(session)
        raise _NoEpochError(f"expected the epoch of the session, as it was opened, in the header {EPOCH}, got none")
    if given is None or not route.checked:
        return
    if not re.fullmatch("[0-9]{1,18}", given):
        raise msgspec.ValidationError(f"header {EPOCH}: expected a whole number, got {given!r}")
    session_service.heard(session, int(given))


def as_json(value: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer with the value as JSON."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
