"""The handlers of the API: one function for each operation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

import pytest_dispatch
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import IssueMode
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.media import MOST_BYTES
from pytest_dispatch.core.model import Issue
from pytest_dispatch.core.outlook import Outlook
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.lab.outlook import outlook
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.server.api.event_stream import event_stream
from pytest_dispatch.server.api.query import number, numbers
from pytest_dispatch.server.api.schemas import (
    API,
    EPOCH,
    IssueTried,
    LabView,
    Opened,
    OpenSession,
    OutlookWanted,
    Readable,
    Review,
    Reviewed,
    RunLog,
    RunRequest,
    RunView,
    SessionView,
    Uploaded,
    Verdict,
    beyond,
)
from pytest_dispatch.server.api.uploads import Part, receive, uploaded
from pytest_dispatch.server.api.views import run_view, session_view
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import check_groups
from pytest_dispatch.sources.locations import api_of
from pytest_dispatch.store.records import PendingIssue

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.explanation import Explanation
    from pytest_dispatch.lab.roster import RosterChange
    from pytest_dispatch.server.api.route import ApiContext

LONGEST_WAIT = 30.0  # longest long poll, in seconds


async def show_lab(context: ApiContext, _request: web.Request, _body: None) -> LabView:
    """Return the lab's version, and what it speaks and reads."""
    return LabView(version=pytest_dispatch.__version__, api=API, apis=context.lab.locations.apis)


# Sessions


async def open_session(context: ApiContext, request: web.Request, body: OpenSession) -> Opened:
    """Open a session, or resume one that an earlier lab left."""
    rule, user = _issue_rule(body), request[PRINCIPAL].name
    urls = await context.lab.notifier.check(body.notify)
    session_service, lease = context.lab.session_service, _lease(body)
    if body.resume:
        found = await context.lab.resumption.resume(body.source, body.policy, rule, lease, user)
        if found is not None:
            request[CHANGED] = Changed(found.id, after={"source": body.source, "resumed": True, "epoch": found.epoch})
            _note_who_files(context, found.id, body)
            context.lab.notifier.enlist(found.id, urls)
            return Opened(id=found.id, resumed=True, epoch=found.epoch)
    opened = await session_service.open(body.source, body.policy, rule, context.port(), lease, user)
    request[CHANGED] = Changed(opened, after={"source": body.source})
    _note_who_files(context, opened, body)
    context.lab.notifier.enlist(opened, urls)
    return Opened(id=opened)


async def take_over(context: ApiContext, request: web.Request, body: OpenSession) -> Opened:
    """Make the caller the holder of a session; with `epoch`, only if it was its latest holder, with this epoch."""
    session, epoch = request.match_info["session"], int(number(request, "epoch", 0))
    rule, resumption = _issue_rule(body), context.lab.resumption
    urls = await context.lab.notifier.check(body.notify)
    if epoch > 0:
        back, anew = await resumption.come_back(session, epoch, _lease(body), body.policy, rule)
        request[CHANGED] = Changed(session, after={"epoch": back.epoch})
        _note_who_files(context, session, body)
        context.lab.notifier.enlist(session, urls)
        return Opened(id=session, resumed=anew, epoch=back.epoch)
    taken = await resumption.take_over(session, _lease(body), body.policy, rule)
    request[CHANGED] = Changed(session, after={"epoch": taken.epoch})
    context.lab.notifier.enlist(session, urls)
    _note_who_files(context, session, body)
    return Opened(id=session, resumed=True, epoch=taken.epoch)


async def show_session(context: ApiContext, request: web.Request, _body: None) -> SessionView:
    """Return the state of a session."""
    return session_view(context, request.match_info["session"])


async def close_session(context: ApiContext, request: web.Request, _body: None) -> None:
    """Close a session, and power off machines that are no longer needed; with `left`, only end its lease."""
    session = request.match_info["session"]
    if number(request, "left", 0) > 0:
        context.lab.session_service.leave(session)
        await context.lab.lab_state.on_disk()
        await context.lab.machines.dismiss()
        return
    await context.lab.session_service.close(session, kept=number(request, "kept", 0) > 0)
    context.lab.uploads.forget(session)
    await context.lab.machines.dismiss()


def _issue_rule(body: OpenSession) -> IssueRule:
    outcomes = frozenset(body.issues)
    return IssueRule(
        repo=body.issues_repo,
        outcomes=outcomes,
        raw=body.issues_raw,
        reviewed=body.issues_reviewed,
        api=body.issues_api,
        updates=body.issues_mode is IssueMode.UPDATE,
        close_after=body.issues_close_after,
    )


def _note_who_files(context: ApiContext, session: str, body: OpenSession) -> None:
    context.lab.issues.holder_issues.holder_files(session, files=body.issues_filed)


def _lease(body: OpenSession) -> Lease:
    return Lease(kind=body.lease.kind, owner=body.lease.owner, lasts=body.lease.lasts)


# Bytes


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


# Issues that a holder files


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


# Runs


async def submit(context: ApiContext, request: web.Request, body: list[RunRequest]) -> list[RunView]:
    """Submit workloads."""
    wanted = [(item.key, item.workload) for item in body]
    context.lab.check(request.match_info["session"], (workload for _, workload in wanted))
    check_groups(request[PRINCIPAL], (workload for _, workload in wanted))
    runs = await context.lab.session_service.submit(request.match_info["session"], wanted)
    request[CHANGED] = Changed(request.match_info["session"], after={"runs": len(runs)})
    return [run_view(context, run, whole=False) for run in runs]


async def list_runs(context: ApiContext, request: web.Request, _body: None) -> list[RunView]:
    """List the runs of a session."""
    runs = context.lab.session_service.runs(request.match_info["session"])
    return [run_view(context, run, whole=False, reports=False) for run in runs]


async def show_run(context: ApiContext, request: web.Request, _body: None) -> RunView:
    """Return a run once it has changed past version `after`, or its current state after `wait` seconds.

    With `known`, the number of reports that the caller has for each attempt, return only the reports after those.
    """
    session_service, lab_state = context.lab.session_service, context.lab.lab_state
    run_id = request.match_info["run"]
    if run_id not in context.lab.queue.runs and not context.access.private:
        return await _from_history(context, run_id)
    after, wait = number(request, "after", -1), min(number(request, "wait", 0), LONGEST_WAIT)
    known = [max(0, int(count)) for count in numbers(request, "known")]
    give_up = lab_state.clock.now() + wait
    while session_service.run(run_id).version <= after and (left := give_up - lab_state.clock.now()) > 0:
        if lab_state.stopping or lab_state.broken is not None:
            break
        await lab_state.moved(left)
    run = await session_service.saved(run_id) if lab_state.broken is not None else session_service.run(run_id)
    view = run_view(context, run, whole=True)
    if known:
        return replace(view, run=beyond(view.run, known))
    return view if context.access.private or run.outcome is None else await _with_added(context, view)


async def show_log(context: ApiContext, request: web.Request, _body: None) -> RunLog:
    """Return what a run has written, from the system that carries it out; of a run that boots, its console."""
    run = context.lab.session_service.run(request.match_info["run"])
    text = await context.lab.service(run.workload.kind).log(run, request.query.get("case", ""))
    if text is None:
        text = "\n".join(line.text for line in run_view(context, run, whole=True).console)
    return RunLog(text=text)


async def _from_history(context: ApiContext, run_id: str) -> RunView:
    from pytest_dispatch.server.api.history_handlers import forgotten_view

    return await forgotten_view(context, run_id)


async def _with_added(context: ApiContext, view: RunView) -> RunView:
    if context.lab.broken is not None:
        return view
    from pytest_dispatch.server.api.history_handlers import with_added

    return await with_added(context, view)


async def explain_run(context: ApiContext, request: web.Request, _body: None) -> Explanation:
    """Explain why a run waits."""
    from pytest_dispatch.core.reasons import explain, how_it_stands

    lab, run_id = context.lab, request.match_info["run"]
    if run_id not in lab.queue.runs and not context.access.private:
        return how_it_stands((await _from_history(context, run_id)).run, lab.lab_state.clock.now())
    run = lab.session_service.run(run_id)
    return explain(lab.queue, run.id, lab.lab_state.clock.now(), lab.durations.takes)


async def cancel(context: ApiContext, request: web.Request, _body: None) -> None:
    """Cancel a run that is not over."""
    context.lab.session_service.cancel(request.match_info["run"])


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


async def follow(context: ApiContext, request: web.Request, _body: None) -> web.StreamResponse:
    """Send the session's changes as they happen."""
    after = int(max(0, number(request, "after", 0)))

    def welcome() -> bool:
        return context.access.private or context.access.knows(request, request[CALLER])

    return await event_stream(context.lab, request, request.match_info["session"], after, welcome)


# The lab


async def reload(context: ApiContext, request: web.Request, _body: None) -> RosterChange:
    """Apply the configuration file anew, and return what is different."""
    if context.lab.reloads is None:
        raise ConfigError("expected a lab of `dispatch serve`, got one that belongs to a pytest session")
    done = await context.lab.reloads.reload("the API")
    request[CHANGED] = Changed("lab.yaml", done.before, done.after)
    return done.change


# Query parameters


def whole(request: web.Request, name: str, default: int, what: str = "a whole number") -> int:
    """Return a query parameter that is a whole number from 0 on.

    Raises:
        msgspec.ValidationError: It is none.
    """
    found = float(number(request, name, default))
    if not (0 <= found < MOST_BYTES and found.is_integer()):
        raise msgspec.ValidationError(f"query parameter {name}: expected {what}, got {found!r}")
    return int(found)
