"""The handlers with which a session begins: one function for each operation; `session_handlers` has the others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.known_issues import IssueMode
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.server.api.event_stream import event_stream
from pytest_dispatch.server.api.query import number, numbers
from pytest_dispatch.server.api.schemas import Opened, OpenSession, RunRequest, RunView, beyond
from pytest_dispatch.server.api.views import run_view
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import check_groups

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

LONGEST_WAIT = 30.0  # longest long poll, in seconds


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


async def close_session(context: ApiContext, request: web.Request, _body: None) -> None:
    """Close a session, and power off machines that are no longer needed; with `left`, only end its lease."""
    session = request.match_info["session"]
    if number(request, "left", 0) > 0:
        context.lab.session_service.leave(session)
        await context.lab.lab_state.on_disk()
        await context.lab.machines.dismiss()
        return
    person = request[PRINCIPAL].person
    by = person if person and person != await context.lab.session_service.user_of(session) else ""
    await context.lab.session_service.close(session, kept=number(request, "kept", 0) > 0, by=by)
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


# Issues that a holder files


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
        return await from_history(context, run_id)
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


async def from_history(context: ApiContext, run_id: str) -> RunView:
    """Return the view of a run that the lab has forgotten."""
    from pytest_dispatch.server.api.history_handlers import forgotten_view

    return await forgotten_view(context, run_id)


async def _with_added(context: ApiContext, view: RunView) -> RunView:
    if context.lab.broken is not None:
        return view
    from pytest_dispatch.server.api.history_handlers import with_added

    return await with_added(context, view)


async def cancel(context: ApiContext, request: web.Request, _body: None) -> None:
    """Cancel a run that is not over."""
    context.lab.session_service.cancel(request.match_info["run"], request[PRINCIPAL].person)


async def follow(context: ApiContext, request: web.Request, _body: None) -> web.StreamResponse:
    """Send the session's changes as they happen."""
    after = int(max(0, number(request, "after", 0)))

    def welcome() -> bool:
        return context.access.private or context.access.knows(request, request[CALLER])

    return await event_stream(context.lab, request, request.match_info["session"], after, welcome)


# The lab
