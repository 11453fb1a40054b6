"""A record in the log for each request to a service's API, and an id of the request in all records that it causes."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from aiohttp import web

HEADER = "X-Request-Id"

#: Asked for again and again by programs that watch the lab; so is whatever is waited for (`wait`).
QUIET = frozenset(("/healthz", "/readyz"))


#: The id of the request that is being answered; empty elsewhere.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@web.middleware
async def logged(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer a request under an id, which is the client's if it sends one, and log how it ended."""
    given = request.headers.get(HEADER, "")
    own = given if _ID.fullmatch(given) else secrets.token_hex(8)
    token, began, status = request_id.set(own), time.monotonic(), 500
    try:
        answer = await handler(request)
    except web.HTTPException as error:
        status = error.status
        error.headers[HEADER] = own
        raise
    else:
        status = answer.status
        if not answer.prepared:
            answer.headers[HEADER] = own
        return answer
    finally:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else request.path
        took = round((time.monotonic() - began) * 1000)
        told = {"method": request.method, "path": path, "status": status, "milliseconds": took}
        usual = path in QUIET or ("wait" in request.query and status < 400)
        level = logging.DEBUG if usual else logging.INFO
        _log.log(level, "%s %s: %d in %d ms", *told.values(), extra=told)
        request_id.reset(token)
