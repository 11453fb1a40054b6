"""The routes of the API under /api/v1, which the pytest plugin and its xdist workers use.

`ROUTES` lists the operations of every lab; `ACCOUNT_ROUTES`, `GROUP_ROUTES` and so on those that only a
service has. What no session needs to begin is named there, and loaded with the first request for it. The OpenAPI
description is made from the same tables.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pytest_dispatch.server.api import handlers
from pytest_dispatch.server.api.guard import guarded
from pytest_dispatch.server.api.route import PREFIX, ApiContext, Later, Route, Whose, as_json
from pytest_dispatch.server.api.schemas import Opened, OpenSession, Problem, RunChange, RunReport, RunRequest, RunView
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.records import PendingIssue

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_LIMIT = 64 * 2**20  # maximum size of a request's body in bytes


def served(context: ApiContext) -> tuple[Route, ...]:
    """Return the operations of this lab: a private one has no users, and nobody asks about groups and machines."""
    return ROUTES if context.access.private else all_routes()


def _answered(context: ApiContext) -> tuple[Route, ...]:
    """Return the operations of this lab, and of a service those of dispatchoor too."""
    if context.access.private:
        return ROUTES
    from pytest_dispatch.server.api.dispatchoor_routes import OWN_PATHS

    return (*all_routes(), *OWN_PATHS)


def all_routes() -> tuple[Route, ...]:
    """Return also the operations that only a service has, and that a private lab does not load."""
    from pytest_dispatch.server.api.account_routes import ACCOUNT_ROUTES
    from pytest_dispatch.server.api.cycle_routes import CYCLE_ROUTES
    from pytest_dispatch.server.api.github_webhooks import WEBHOOK_ROUTES
    from pytest_dispatch.server.api.group_routes import GROUP_ROUTES
    from pytest_dispatch.server.api.history_routes import HISTORY_ROUTES
    from pytest_dispatch.server.api.issue_routes import ISSUE_ROUTES
    from pytest_dispatch.server.api.testflinger_webhooks import TESTFLINGER_ROUTES

    of_runs = (*GROUP_ROUTES, *CYCLE_ROUTES, *HISTORY_ROUTES, *ISSUE_ROUTES)
    return (*ROUTES, *ACCOUNT_ROUTES, *of_runs, *WEBHOOK_ROUTES, *TESTFLINGER_ROUTES)


def routes(context: ApiContext) -> list[web.RouteDef]:
    """Return the API as aiohttp routes, including refusals for all other paths below its prefix."""
    ours = {(r.method, PREFIX + r.path): guarded(context, r) for r in served(context)}
    known = [web.route(method, path, answer) for (method, path), answer in _for_scripts(context, ours).items()]
    others = [
        Route(method="*", path=path, handler=_unknown, summary="", needs=Role.READER) for path in ("", "/{rest:.*}")
    ]
    return [*known, *(web.route(r.method, PREFIX + r.path, guarded(context, r)) for r in others)]


def _for_scripts(context: ApiContext, ours: dict[tuple[str, str], _Answer]) -> dict[tuple[str, str], _Answer]:
    """Add the operations of dispatchoor to those of a service; a request for the same path says which it means."""
    if context.access.private:
        return ours
    from pytest_dispatch.server.api import dispatchoor_routes as dispatchoor
    from pytest_dispatch.server.api.dispatchoor_handlers import speaks

    theirs = {
        (r.method, PREFIX + r.path): guarded(context, r) for r in (*dispatchoor.OWN_PATHS, *dispatchoor.SAME_PATHS)
    }
    theirs[dispatchoor.HEALTH.method, dispatchoor.HEALTH.path] = guarded(context, dispatchoor.HEALTH)

    def either(own: _Answer, other: _Answer) -> _Answer:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await (other if speaks(request) else own)(request)

        return answer

    both = {key: either(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}
    return {**theirs, **ours, **both}


async def _unknown(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Answer 404 for an unknown path, or 405 for an unknown method."""
    path = request.path.removeprefix(PREFIX)
    matching = (r for r in _answered(context) if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", r.path), path))
    allowed = sorted(r.method for r in matching)
    if not allowed:
        return as_json(Problem(error=f"no {request.path!r} here; {PREFIX}/openapi.json says what there is"), 404)
    expected = ", ".join(allowed)
    return as_json(Problem(error=f"expected {expected}, got {request.method}"), 405, {"Allow": expected})


async def _description(context: ApiContext, _request: web.Request, _body: None) -> dict[str, Any]:
    from pytest_dispatch.server.api.openapi import describe

    return describe(served(context), PREFIX)


def _handler(name: str) -> Later:
    return Later("server.api.session_handlers", name)


def _type(name: str) -> Later:
    return Later("server.api.session_schemas", name)


ROUTES = (
    Route(
        method="GET",
        path="/lab",
        handler=_handler("show_lab"),
        needs=Role.READER,
        summary="The lab: its version, the number of its API, and the GitHub APIs that it fetches release assets from",
        gives=_type("LabView"),
    ),
    Route(
        method="POST",
        path="/sessions",
        handler=handlers.open_session,
        needs=Role.OPERATOR,
        audit="session.open",
        summary="Open a session, or resume one",
        takes=OpenSession,
        gives=Opened,
        status=201,
    ),
    Route(
        method="GET",
        path="/sessions/{session}",
        handler=_handler("show_session"),
        needs=Role.READER,
        summary="The state of a session",
        gives=_type("SessionView"),
    ),
    Route(
        method="DELETE",
        path="/sessions/{session}",
        handler=handlers.close_session,
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="session.close",
        summary="Close a session and cancel its unfinished runs; with `kept`, the session can still be resumed; with"
        " `left`, it can too, and runs that have begun go on to their outcome",
        query=("kept", "left"),
        status=204,
    ),
    Route(
        method="POST",
        path="/sessions/{session}/lease",
        handler=handlers.take_over,
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="session.take-over",
        summary="Take a session over: its previous holder is refused from then on, and runs that have not begun wait"
        " until they are submitted again; with `epoch`, only the holder that had it comes back, and nothing changes if"
        " it is still the holder",
        query=("epoch",),
        takes=OpenSession,
        gives=Opened,
        checked=False,
    ),
    Route(
        method="PUT",
        path="/sessions/{session}/bytes/{digest}",
        handler=_handler("upload"),
        needs=Role.OPERATOR,
        whose=Whose.OWN,
        summary="Upload bytes that workloads of the session name by their digest, from `offset` on, of `size` in all",
        gives=_type("Uploaded"),
        query=("size", "offset"),
        bare=True,
    ),
    Route(
        method="GET",
        path="/sessions/{session}/bytes/{digest}",
        handler=_handler("show_upload"),
        needs=Role.OPERATOR,
        whose=Whose.OWN,
        summary="The progress of an upload of the session",
        gives=_type("Uploaded"),
    ),
    Route(
        method="GET",
        path="/sessions/{session}/readable",
        handler=_handler("show_readable"),
        needs=Role.OPERATOR,
        whose=Whose.OWN,
        summary="Whether the lab can read the release asset at `location` itself",
        gives=_type("Readable"),
        words=("location",),
    ),
    Route(
        method="POST",
        path="/sessions/{session}/runs",
        handler=handlers.submit,
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="run.submit",
        summary="Submit workloads; submitting a known key again changes nothing",
        takes=list[RunRequest],
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/runs",
        handler=handlers.list_runs,
        needs=Role.READER,
        summary="All runs of a session, without their reports and consoles",
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/events",
        handler=handlers.follow,
        needs=Role.READER,
        summary="Server-sent events: `report` (a `RunReport`), each once; `change` (a `RunChange`), with only the"
        " latest of each run for a client that is far behind; `progress` (bytes received, by run)",
        gives=tuple[RunReport, RunChange],
        query=("after",),
    ),
    Route(
        method="POST",
        path="/sessions/{session}/outlook",
        handler=_handler("show_outlook"),
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        summary="What a session may expect before it submits anything: machines that fit, runs ahead, the first start",
        takes=_type("OutlookWanted"),
        gives=Later("core.outlook", "Outlook"),
    ),
    Route(
        method="POST",
        path="/sessions/{session}/pending-issues",
        handler=_handler("claim_issues"),
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="session.claim-issues",
        summary="Claim the issues that the lab has no token for: those of the session, and those for its repository"
        " that earlier sessions left; each is given out once",
        gives=list[PendingIssue],
    ),
    Route(
        method="POST",
        path="/sessions/{session}/pending-issues/tried",
        handler=_handler("issue_tried"),
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="session.issue-tried",
        summary="Record that the session's holder begins to file such an issue, and what came of it",
        takes=_type("IssueTried"),
        status=204,
    ),
    Route(
        method="GET",
        path="/runs/{run}",
        handler=handlers.show_run,
        needs=Role.READER,
        summary="A run; with `after` and `wait`, its next change; with `known`, given once for each attempt, without"
        " that many of the attempt's first reports. A service knows runs that have ended from its history, with what"
        " people added to them",
        gives=RunView,
        query=("after", "wait"),
        repeated=("known",),
        saved=True,
        kept=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}/explanation",
        handler=_handler("explain_run"),
        needs=Role.READER,
        summary="Why a run waits: in a sentence, and as data: what has to go before it begins, its place, when it"
        " should start, and each machine as seen from it",
        gives=Later("core.explanation", "Explanation"),
        kept=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}/log",
        handler=_handler("show_log"),
        needs=Role.READER,
        summary="The end of what a run has written, from the system that carries it out: of one `case`, or of all; of a"
        " run that boots, its console",
        gives=_type("RunLog"),
        words=("case",),
    ),
    Route(
        method="DELETE",
        path="/runs/{run}",
        handler=handlers.cancel,
        needs=Role.OPERATOR,
        audit="run.cancel",
        summary="Cancel a run",
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/verdict",
        handler=_handler("decide"),
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="run.verdict",
        summary="The session's own verdict on an attempt that reported",
        takes=_type("Verdict"),
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/issues",
        handler=_handler("review"),
        needs=Role.OPERATOR,
        whose=Whose.OWN_OR_ADMIN,
        audit="run.issues",
        summary="Replace the issues that the lab proposes",
        takes=_type("Review"),
        gives=_type("Reviewed"),
    ),
    Route(
        method="GET",
        path="/reload",
        handler=_handler("reload_ahead"),
        needs=Role.ADMIN,
        summary="What reading the configuration file of a service anew would change; it changes nothing",
        gives=Later("lab.roster", "RosterChange"),
    ),
    Route(
        method="POST",
        path="/reload",
        handler=_handler("reload"),
        needs=Role.ADMIN,
        audit="lab.reload",
        summary="Read the configuration file of a service anew: machines, groups and templates, all of it or nothing",
        gives=Later("lab.roster", "RosterChange"),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=_description,
        needs=Role.READER,
        summary="This description",
        gives=dict[str, Any],
    ),
)
