"""The routes of the API under /api/v1, which the pytest plugin and its xdist workers use.

`ROUTES` lists all operations; the OpenAPI description is made from the same table.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from pytest_dispatch.server.api import handlers
from pytest_dispatch.server.api.guard import as_json, guarded
from pytest_dispatch.server.api.route import PREFIX, ApiContext, Route
from pytest_dispatch.server.api.schemas import (
    Opened,
    OpenSession,
    Problem,
    Review,
    Reviewed,
    RunChange,
    RunReport,
    RunRequest,
    RunView,
    SessionView,
    Uploaded,
    Verdict,
)

BODY_LIMIT = 64 * 2**20  # maximum size of a request's body in bytes


def routes(context: ApiContext) -> list[web.RouteDef]:
    """Return the API as aiohttp routes, including refusals for all other paths below its prefix."""
    known = [web.route(r.method, PREFIX + r.path, guarded(context, r)) for r in ROUTES]
    others = [Route(method="*", path=path, handler=_unknown, summary="") for path in ("", "/{rest:.*}")]
    return [*known, *(web.route(r.method, PREFIX + r.path, guarded(context, r)) for r in others)]


async def _unknown(_door: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Answer 404 for an unknown path, or 405 for an unknown method."""
    path = request.path.removeprefix(PREFIX)
    allowed = sorted(r.method for r in ROUTES if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", r.path), path))
    if not allowed:
        return as_json(Problem(error=f"no {request.path!r} here; {PREFIX}/openapi.json says what there is"), 404)
    expected = ", ".join(allowed)
    return as_json(Problem(error=f"expected {expected}, got {request.method}"), 405, {"Allow": expected})


async def _description(_door: ApiContext, _request: web.Request, _body: None) -> dict[str, Any]:
    from pytest_dispatch.server.api.openapi import describe

    return describe(ROUTES, PREFIX)


ROUTES = (
    Route(
        method="POST",
        path="/sessions",
        handler=handlers.open_session,
        summary="Open a session, or resume one",
        takes=OpenSession,
        gives=Opened,
        status=201,
    ),
    Route(
        method="GET",
        path="/sessions/{session}",
        handler=handlers.show_session,
        summary="The state of a session",
        gives=SessionView,
    ),
    Route(
        method="DELETE",
        path="/sessions/{session}",
        handler=handlers.close_session,
        summary="Close a session and cancel its unfinished runs; with `kept`, the session can still be resumed",
        query=("kept",),
        status=204,
    ),
    Route(
        method="POST",
        path="/sessions/{session}/lease",
        handler=handlers.take_over,
        summary="Take a session over: its previous holder is refused from then on, and runs that have not begun wait"
        " until they are submitted again",
        takes=OpenSession,
        gives=Opened,
        checked=False,
    ),
    Route(
        method="PUT",
        path="/sessions/{session}/bytes/{digest}",
        handler=handlers.upload,
        summary="Upload bytes that workloads of the session name by their digest, from `offset` on, of `size` in all",
        gives=Uploaded,
        query=("size", "offset"),
        bare=True,
    ),
    Route(
        method="GET",
        path="/sessions/{session}/bytes/{digest}",
        handler=handlers.show_upload,
        summary="The progress of an upload of the session",
        gives=Uploaded,
    ),
    Route(
        method="POST",
        path="/sessions/{session}/runs",
        handler=handlers.submit,
        summary="Submit workloads; submitting a known key again changes nothing",
        takes=list[RunRequest],
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/runs",
        handler=handlers.list_runs,
        summary="All runs of a session, without their reports and consoles",
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/events",
        handler=handlers.follow,
        summary="Server-sent events: `report` (a `RunReport`), each once; `change` (a `RunChange`), with only the"
        " latest of each run for a client that is far behind; `progress` (bytes received, by run)",
        gives=tuple[RunReport, RunChange],
        query=("after",),
    ),
    Route(
        method="GET",
        path="/runs/{run}",
        handler=handlers.show_run,
        summary="A run; with `after` and `wait`, its next change; with `known`, given once for each attempt, without"
        " that many of the attempt's first reports",
        gives=RunView,
        query=("after", "wait"),
        repeated=("known",),
        saved=True,
    ),
    Route(
        method="DELETE",
        path="/runs/{run}",
        handler=handlers.cancel,
        summary="Cancel a run",
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/verdict",
        handler=handlers.decide,
        summary="The session's own verdict on an attempt that reported",
        takes=Verdict,
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/issues",
        handler=handlers.review,
        summary="Replace the issues that the lab proposes",
        takes=Review,
        gives=Reviewed,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=_description,
        summary="This description",
        gives=dict[str, Any],
    ),
)
