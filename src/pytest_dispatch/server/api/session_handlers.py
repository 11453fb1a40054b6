"""The handlers of operations that no session needs to begin: they are loaded with the first request for one of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest_dispatch
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Issue
from pytest_dispatch.core.outlook import Outlook
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.lab.outlook import outlook
from pytest_dispatch.server.api.handlers import from_history
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.api.schemas import API, EPOCH
from pytest_dispatch.server.api.session_schemas import (
    IssueTried,
    LabView,
    OutlookWanted,
    Readable,
    Review,
    Reviewed,
    RunLog,
    SessionView,
    Uploaded,
    Verdict,
)
from pytest_dispatch.server.api.session_views import session_view
from pytest_dispatch.server.api.uploads import Part, receive, uploaded
from pytest_dispatch.server.api.views import run_view
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.sources.locations import api_of
from pytest_dispatch.store.records import PendingIssue

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.explanation import Explanation
    from pytest_dispatch.lab.reload import Reloads
    from pytest_dispatch.lab.roster import RosterChange
    from pytest_dispatch.server.api.route import ApiContext


async def show_lab(context: ApiContext, _request: web.Request, _body: None) -> LabView:
    """Return the lab's version, and what it speaks and reads."""
    return LabView(version=pytest_dispatch.__version__, api=API, apis=context.lab.locations.apis)


async def show_session(context: ApiContext, request: web.Request, _body: None) -> SessionView:
    """Return the state of a session."""
    return session_view(context, request.match_info["session"])


async def upload(context: ApiContext, request: web.Request, _body: None) -> Uploaded:
    """Receive a part of an upload; each piece renews the lease of the session's holder, and checks that it still holds.

    An upload may take longer than a lease lasts, and another client may take the session over meanwhile.
    """
    size, offset = (whole(request, name, 0, "a number of bytes") for name in ("size", "offset"))
    session, digest = request.match_info["session"], request.match_info["digest"]
    epoch = int(request.headers[EPOCH])  # valid: the guard has checked it
    part = Part(
        digest=digest,
        offset=offset,
        size=size,
        stall=context.stall,
        heard=lambda: context.lab.session_service.heard(session, epoch),
    )
    return await receive(context.lab.uploads, request, part)


async def show_upload(context: ApiContext, request: web.Request, _body: None) -> Uploaded:
    """Return the progress of an upload."""
    where = request.match_info
    context.lab.lab_state.live_session(where["session"])
    return uploaded(await context.lab.uploads.standing(where["session"], where["digest"]))


async def show_readable(context: ApiContext, request: web.Request, _body: None) -> Readable:
    """Return whether the lab can read a release asset for this session."""
    context.lab.lab_state.live_session(request.match_info["session"])
    location = request.query.get("location", "")
    if api_of(location) not in context.lab.locations.apis:
        return Readable(readable=False)
    return Readable(readable=await context.lab.may_read(location))


async def show_outlook(context: ApiContext, request: web.Request, body: OutlookWanted) -> Outlook:
    """Return what a session may expect before it submits anything."""
    session, lab_state = request.match_info["session"], context.lab.lab_state
    lab_state.live_session(session)
    both = dict.fromkeys(itertools.zip_longest(body.requires, body.groups[: len(body.requires)], fillvalue=""))
    wanted = [(read_requirements(requires, "requires"), group) for requires, group in both]
    return await outlook(lab_state, context.lab.durations, session, wanted)


async def claim_issues(context: ApiContext, request: web.Request, _body: None) -> list[PendingIssue]:
    """Return the issues that the session's holder is to file."""
    return list(await context.lab.issues.holder_issues.claim(request.match_info["session"]))


async def issue_tried(context: ApiContext, request: web.Request, body: IssueTried) -> None:
    """Record what came of filing an issue."""
    session = request.match_info["session"]
    context.lab.lab_state.live_session(session)
    issue = Issue(title="", body="", marker=body.marker)
    tried = PendingIssue(
        session=session,
        run="",
        repo="",
        issue=issue,
        tries=body.tries,
        failed=body.failed,
        given_up=body.given_up,
        url=body.url,
    )
    await context.lab.issues.holder_issues.tried(session, tried)


async def show_log(context: ApiContext, request: web.Request, _body: None) -> RunLog:
    """Return what a run has written, from the system that carries it out; of a run that boots, its console."""
    run = context.lab.session_service.run(request.match_info["run"])
    text = await context.lab.service(run.workload.kind).log(run, request.query.get("case", ""))
    if text is None:
        text = "\n".join(line.text for line in run_view(context, run, whole=True).console)
    return RunLog(text=text)


async def explain_run(context: ApiContext, request: web.Request, _body: None) -> Explanation:
    """Explain why a run waits."""
    from pytest_dispatch.core.reasons import explain, how_it_stands

    lab, run_id = context.lab, request.match_info["run"]
    if run_id not in lab.queue.runs and not context.access.private:
        return how_it_stands((await from_history(context, run_id)).run, lab.lab_state.clock.now())
    run = lab.session_service.run(run_id)
    return explain(lab.queue, run.id, lab.lab_state.clock.now(), lab.durations.takes)


async def decide(context: ApiContext, request: web.Request, body: Verdict) -> None:
    """Accept the session's own verdict."""
    request[CHANGED] = Changed(request.match_info["run"], after={"outcome": body.outcome, "reason": body.reason})
    context.lab.session_service.decide(request.match_info["run"], body.outcome, body.reason, final=body.final)


async def review(context: ApiContext, request: web.Request, body: Review) -> Reviewed:
    """Accept the issues to file in place of those that the lab proposes."""
    run = context.lab.session_service.run(request.match_info["run"])
    in_time = context.lab.issues.amend(run.id, body.issues)
    await context.lab.lab_state.on_disk()  # so that after a crash no lab files an issue as it was proposed
    return Reviewed(in_time=in_time)


async def reload_ahead(context: ApiContext, _request: web.Request, _body: None) -> RosterChange:
    """Return what reading the configuration file anew would change, and change nothing."""
    return await _reloads(context).ahead()


async def reload(context: ApiContext, request: web.Request, _body: None) -> RosterChange:
    """Apply the configuration file anew, and return what is different."""
    done = await _reloads(context).reload("the API")
    request[CHANGED] = Changed("lab.yaml", done.before, done.after)
    return done.change


def _reloads(context: ApiContext) -> Reloads:
    """Return what reads the configuration anew.

    Raises:
        ConfigError: It is a lab of one pytest.
    """
    if context.lab.reloads is None:
        raise ConfigError("expected a lab of `dispatch serve`, got one that belongs to a pytest session")
    return context.lab.reloads
