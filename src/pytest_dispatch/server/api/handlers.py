"""The handlers of the API: one function for each operation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.media import MOST_BYTES
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.server.api.event_stream import event_stream
from pytest_dispatch.server.api.schemas import (
    EPOCH,
    Opened,
    OpenSession,
    Review,
    Reviewed,
    RunRequest,
    RunView,
    SessionView,
    Uploaded,
    Verdict,
    beyond,
)
from pytest_dispatch.server.api.uploads import Part, receive, uploaded
from pytest_dispatch.server.api.views import run_view, session_view

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

LONGEST_WAIT = 30.0  # longest long poll, in seconds


# Sessions


async def open_session(context: ApiContext, _request: web.Request, body: OpenSession) -> Opened:
    """Open a session, or resume one that an earlier lab left."""
    rule = _issue_rule(body)
    session_service, lease = context.lab.session_service, _lease(body)
    if body.resume:
        found = await session_service.resume(body.source, body.policy, rule, lease)
        if found is not None:
            return Opened(id=found.id, resumed=True, epoch=found.epoch)
    return Opened(id=await session_service.open(body.source, body.policy, rule, context.port(), lease))


async def take_over(context: ApiContext, request: web.Request, body: OpenSession) -> Opened:
    """Make the caller the holder of a session."""
    session = request.match_info["session"]
    rule = _issue_rule(body)
    taken = await context.lab.session_service.take_over(session, _lease(body), body.policy, rule)
    return Opened(id=session, resumed=True, epoch=taken.epoch)


async def show_session(context: ApiContext, request: web.Request, _body: None) -> SessionView:
    """Return the state of a session."""
    return session_view(context, request.match_info["session"])


async def close_session(context: ApiContext, request: web.Request, _body: None) -> None:
    """Close a session, and power off machines that are no longer needed."""
    session = request.match_info["session"]
    await context.lab.session_service.close(session, kept=_number(request, "kept", 0) > 0)
    context.lab.uploads.forget(session)
    await context.lab.machines.dismiss()


def _issue_rule(body: OpenSession) -> IssueRule:
    outcomes = frozenset(body.issues)
    return IssueRule(repo=body.issues_repo, outcomes=outcomes, raw=body.issues_raw, reviewed=body.issues_reviewed)


def _lease(body: OpenSession) -> Lease:
    return Lease(kind=body.lease.kind, owner=body.lease.owner, lasts=body.lease.lasts)


# Bytes


async def upload(context: ApiContext, request: web.Request, _body: None) -> Uploaded:
    """Receive a part of an upload; each piece renews the lease of the session's holder, and checks that it still holds.

    An upload may take longer than a lease lasts, and another client may take the session over meanwhile.
    """
    size, offset = _whole(request, "size"), _whole(request, "offset")
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


# Runs


async def submit(context: ApiContext, request: web.Request, body: list[RunRequest]) -> list[RunView]:
    """Submit workloads."""
    wanted = [(item.key, item.workload) for item in body]
    context.lab.check(request.match_info["session"], (workload for _, workload in wanted))
    runs = await context.lab.session_service.submit(request.match_info["session"], wanted)
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
    after, wait = _number(request, "after", -1), min(_number(request, "wait", 0), LONGEST_WAIT)
    known = [max(0, int(count)) for count in _numbers(request, "known")]
    give_up = lab_state.clock.now() + wait
    while session_service.run(run_id).version <= after and (left := give_up - lab_state.clock.now()) > 0:
        if lab_state.stopping or lab_state.broken is not None:
            break
        await lab_state.moved(left)
    run = await session_service.saved(run_id) if lab_state.broken is not None else session_service.run(run_id)
    view = run_view(context, run, whole=True)
    return replace(view, run=beyond(view.run, known)) if known else view


async def cancel(context: ApiContext, request: web.Request, _body: None) -> None:
    """Cancel a run."""
    context.lab.session_service.cancel(request.match_info["run"])


async def decide(context: ApiContext, request: web.Request, body: Verdict) -> None:
    """Accept the session's own verdict."""
    context.lab.session_service.decide(request.match_info["run"], body.outcome, body.reason, final=body.final)


async def review(context: ApiContext, request: web.Request, body: Review) -> Reviewed:
    """Accept the issues to file in place of those that the lab proposes."""
    run = context.lab.session_service.run(request.match_info["run"])
    in_time = context.lab.issues.amend(run.id, body.issues)
    await context.lab.lab_state.on_disk()  # so that after a crash no lab files an issue as it was proposed
    return Reviewed(in_time=in_time)


async def follow(context: ApiContext, request: web.Request, _body: None) -> web.StreamResponse:
    """Send the session's changes as they happen."""
    after = int(max(0, _number(request, "after", 0)))
    return await event_stream(context.lab, request, request.match_info["session"], after)


# Query parameters


def _number(request: web.Request, name: str, default: float) -> float:
    return next(_numbers(request, name), default)


def _numbers(request: web.Request, name: str) -> Iterator[float]:
    for given in request.query.getall(name, []):
        try:
            number = float(given)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise msgspec.ValidationError(f"query parameter {name}: expected a number, got {given!r}")
        yield number


def _whole(request: web.Request, name: str) -> int:
    """Return a query parameter that is a number of bytes."""
    number = _number(request, name, 0.0)
    if not (0 <= number < MOST_BYTES and number.is_integer()):
        raise msgspec.ValidationError(f"query parameter {name}: expected a number of bytes, got {number!r}")
    return int(number)
