"""The API under /api/v1: what the pytest side, its xdist workers and the command line speak with a lab.

`ROUTES` is the whole of it; the OpenAPI description is made from the same table.
"""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from pytest_dispatch.core.errors import ConfigError, DispatchError, StaleLeaseError
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.media import MOST_BYTES
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.writer import UnknownError
from pytest_dispatch.server.api.event_stream import event_stream
from pytest_dispatch.server.api.schemas import (
    EPOCH,
    MachineView,
    Opened,
    OpenSession,
    Problem,
    Review,
    Reviewed,
    RunChange,
    RunReport,
    RunView,
    SessionView,
    Uploaded,
    Verdict,
    Wanted,
    bare,
    beyond,
    console_lines,
    slim,
)
from pytest_dispatch.server.api.uploads import Part, receive, uploaded
from pytest_dispatch.server.limits.bounds import packing
from pytest_dispatch.server.limits.host_check import foreign_page, stranger
from pytest_dispatch.sources.cache_folder import NoRoomError
from pytest_dispatch.sources.uploads import TooLongError, WrongPlaceError
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_table import MachineRecord
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab

LONGEST_WAIT = 30.0  # seconds that a long poll may last
BODY_LIMIT = 64 * 2**20  # bytes of a request
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Door:
    """What the handlers need: the lab, and what the server knows about itself."""

    lab: Lab
    token: str
    port: Callable[[], int]
    mdns: Callable[[], str]
    names: Callable[[], Collection[str]]
    too_fast: Callable[[str], Awaitable[bool]]
    stall: float


Handler = Callable[[Door, web.Request, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    Attributes:
        takes: Type of the request's JSON body, None where there is none.
        gives: Type of the answer's JSON body, or those of its events; None where there is none.
        query: Names of query parameters, all numbers and optional.
        repeated: Likewise, of those that may be given several times.
        status: Of the answer when all is well.
        saved: It has an answer even when the lab is broken, if the journal has one.
        checked: Only who holds the session may ask, if a session is in the path at all.
        bare: The request's body is bytes, and the handler reads it as it comes.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    takes: Any = None
    gives: Any = None
    query: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    status: int = 200
    saved: bool = False
    checked: bool = True
    bare: bool = False

    @property
    def of_session(self) -> bool:
        """Tell whether it is about one session, or a run of one."""
        return "{session}" in self.path or "{run}" in self.path

    @property
    def changes(self) -> bool:
        """Tell whether it changes something of a session: then its holder has to say that it is that."""
        return self.of_session and self.checked and self.method != "GET"


def routes(door: Door) -> list[web.RouteDef]:
    """The API as aiohttp routes; nothing below its prefix is left to anybody else."""
    known = [web.route(r.method, PREFIX + r.path, _guarded(door, r)) for r in ROUTES]
    others = [Route(method="*", path=path, handler=_unknown, summary="") for path in ("", "/{rest:.*}")]
    return [*known, *(web.route(r.method, PREFIX + r.path, _guarded(door, r)) for r in others)]


class _NoEpochError(DispatchError):
    """Who wants to change a session does not say which of its holders it is."""


#: What a handler may raise, and the status that it becomes; the first row that fits.
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


def _guarded(door: Door, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        refused = await _refused(door, request)
        if refused is not None:
            return refused
        try:
            return await _answer(door, route, request)
        except _EXPECTED as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            text = error.text if isinstance(error, web.HTTPException) else str(error)
            return _json(Problem(error=text or ""), status)

    return handle


async def _refused(door: Door, request: web.Request) -> web.Response | None:
    """Why this request is none that the lab answers; says the same whatever the path is."""
    meant_for, page, known = stranger(request, door.names()), foreign_page(request), _may_enter(door, request)
    if not known and await door.too_fast(request.remote or ""):
        return _json(Problem(error="too many requests without the session's token"), 429, {"Retry-After": "1"})
    if meant_for is not None:
        return _json(Problem(error=f"expected the lab's address in the header Host, got {meant_for!r}"), 421)
    if page is not None:
        return _json(Problem(error=f"no page but the lab's own may ask, got one of {page!r}"), 403)
    if request.method == "OPTIONS":
        return _json(Problem(error=f"expected one of {_METHODS}, got OPTIONS"), 405, {"Allow": _METHODS})
    if not known:
        problem = Problem(error="expected the session's bearer token in the header Authorization")
        return _json(problem, 401, {"WWW-Authenticate": "Bearer"})
    return None


def _may_enter(door: Door, request: web.Request) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip().encode(errors="surrogateescape")  # as aiohttp decoded it
    return hmac.compare_digest(given, door.token.encode()) and scheme.lower() == "bearer"


async def _answer(door: Door, route: Route, request: web.Request) -> web.StreamResponse:
    if door.lab.broken is not None and not route.saved:
        return _json(Problem(error=str(door.lab.broken)), 503)
    if (route.takes or route.bare) and (packed := packing(request.headers)):
        return _json(Problem(error=f"expected a body as it is, got one with Content-Encoding: {packed}"), 415)
    body = decode(await request.read(), route.takes) if route.takes else None
    if route.of_session and door.lab.broken is None:
        _note_holder(door, route, request)
    result = await route.handler(door, request, body)
    if isinstance(result, web.StreamResponse):
        return result
    return web.Response(status=204) if route.gives is None else _json(result, route.status)


def _note_holder(door: Door, route: Route, request: web.Request) -> None:
    """Hear of a session's holder; refuse who was the holder once, and who changes something without saying who it is.

    Raises:
        UnknownError: There is no such session or run.
        StaleLeaseError: Another one holds it since, or it has ended.
    """
    orders, where = door.lab.orders, request.match_info
    session = where["session"] if "session" in where else orders.run(where["run"]).session
    given = ", ".join(request.headers.getall(EPOCH)) if EPOCH in request.headers else None
    if given is None and route.changes:
        door.lab.writer.ledger(session)
        raise _NoEpochError(f"expected the epoch of the session, as it was opened, in the header {EPOCH}, got none")
    if given is None or not route.checked:
        return
    if not re.fullmatch("[0-9]{1,18}", given):
        raise msgspec.ValidationError(f"header {EPOCH}: expected a whole number, got {given!r}")
    orders.heard(session, int(given))


async def _unknown(_door: Door, request: web.Request, _body: None) -> web.Response:
    """No such path, or no such method on it."""
    path = request.path.removeprefix(PREFIX)
    allowed = sorted(r.method for r in ROUTES if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", r.path), path))
    if not allowed:
        return _json(Problem(error=f"no {request.path!r} here; {PREFIX}/openapi.json says what there is"), 404)
    expected = ", ".join(allowed)
    return _json(Problem(error=f"expected {expected}, got {request.method}"), 405, {"Allow": expected})


def _json(value: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


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


def _view(door: Door, run: Run, *, whole: bool, reports: bool = True) -> RunView:
    """How a run stands; if not `whole`, without the console and the long texts of reports, or without `reports`."""
    lab = door.lab
    told = run if whole else slim(run) if reports else bare(run)
    return RunView(
        run=told,
        version=run.version,
        digest=lab.writer.digest_of(run),
        console=console_lines(lab.console.of(run)) if whole else (),
        issues=tuple(lab.writer.ledger(run.session).urls(run)),
        filing=lab.issues.filing(run),
        whole=whole,
    )


def _issue_rule(body: OpenSession) -> IssueRule:
    outcomes = frozenset(body.issues)
    return IssueRule(repo=body.issues_repo, outcomes=outcomes, raw=body.issues_raw, reviewed=body.issues_reviewed)


def _lease(body: OpenSession) -> Lease:
    return Lease(kind=body.lease.kind, owner=body.lease.owner, lasts=body.lease.lasts)


async def _open(door: Door, _request: web.Request, body: OpenSession) -> Opened:
    rule = _issue_rule(body)
    orders, lease = door.lab.orders, _lease(body)
    if body.resume:
        found = await orders.resume(body.source, body.policy, rule, lease)
        if found is not None:
            return Opened(id=found.id, resumed=True, epoch=found.epoch)
    return Opened(id=await orders.open(body.source, body.policy, rule, door.port(), lease))


async def _take_over(door: Door, request: web.Request, body: OpenSession) -> Opened:
    session = request.match_info["session"]
    rule = _issue_rule(body)
    taken = await door.lab.orders.take_over(session, _lease(body), body.policy, rule)
    return Opened(id=session, resumed=True, epoch=taken.epoch)


async def _session(door: Door, request: web.Request, _body: None) -> SessionView:
    session = request.match_info["session"]
    door.lab.writer.ledger(session)
    private = door.lab.private
    outbox = door.lab.issues.status("" if private else session)
    views = [(seen, _machine_view(door, seen, session)) for seen in door.lab.queue.machines.values()]
    return SessionView(
        id=session,
        machines=tuple(view for _, view in views if private or view.ran),
        issues_pending=outbox.pending,
        issues_filed=outbox.filed,
        unfiled=outbox.unfiled,
        mdns=door.mdns(),
        notices=door.lab.notices.all(),
        more_notices=door.lab.notices.more,
    )


#: States of a machine that holds nothing: if its driver says that it is off, it is.
_AWAY = {MachineState.IDLE, MachineState.OFFLINE}


def _machine_view(door: Door, seen: MachineRecord, session: str) -> MachineView:
    """Return how a machine stands, as this session may know it."""
    lab, queue = door.lab, door.lab.queue
    machine, off = queue.machine(seen.id, lab.writer.clock.now()), lab.machines.is_off(seen.id)
    if off and machine.state in _AWAY:
        machine = replace(machine, state=MachineState.OFF, reason="")
    ran = [queue.runs[run_id] for run_id in seen.ran if run_id in queue.runs]
    return MachineView(
        name=seen.id,
        heard=seen.heard,
        off=off,
        ran=tuple(run.workload.name for run in ran if run.session == session),
        awaited=lab.machines.is_awaited(seen.id) if lab.private else _holds_of(door, seen, session),
        labels=machine.labels,
        state=machine.state,
        reason=machine.reason,
        since=machine.since,
    )


def _holds_of(door: Door, seen: MachineRecord, session: str) -> bool:
    return bool(seen.holds) and door.lab.orders.run(seen.holds).session == session


async def _close(door: Door, request: web.Request, _body: None) -> None:
    session = request.match_info["session"]
    await door.lab.orders.close(session, kept=_number(request, "kept", 0) > 0)
    door.lab.uploads.forget(session)
    await door.lab.machines.dismiss()


async def _upload(door: Door, request: web.Request, _body: None) -> Uploaded:
    """Take a piece of an upload; its session's holder is heard of as long as it comes, and is to stay the holder."""
    size, offset = _whole(request, "size"), _whole(request, "offset")
    session, digest = request.match_info["session"], request.match_info["digest"]
    epoch = int(request.headers[EPOCH])  # looked at before
    part = Part(
        digest=digest, offset=offset, size=size, stall=door.stall, heard=lambda: door.lab.orders.heard(session, epoch)
    )
    return await receive(door.lab.uploads, request, part)


def _whole(request: web.Request, name: str) -> int:
    """A query parameter that is a number of bytes."""
    number = _number(request, name, 0.0)
    if not (0 <= number < MOST_BYTES and number.is_integer()):
        raise msgspec.ValidationError(f"query parameter {name}: expected a number of bytes, got {number!r}")
    return int(number)


async def _uploaded(door: Door, request: web.Request, _body: None) -> Uploaded:
    where = request.match_info
    door.lab.writer.ledger(where["session"])
    return uploaded(await door.lab.uploads.standing(where["session"], where["digest"]))


async def _submit(door: Door, request: web.Request, body: list[Wanted]) -> list[RunView]:
    wanted = [(item.key, item.workload) for item in body]
    door.lab.check(request.match_info["session"], (workload for _, workload in wanted))
    runs = await door.lab.orders.submit(request.match_info["session"], wanted)
    return [_view(door, run, whole=False) for run in runs]


async def _runs(door: Door, request: web.Request, _body: None) -> list[RunView]:
    runs = door.lab.orders.runs(request.match_info["session"])
    return [_view(door, run, whole=False, reports=False) for run in runs]


async def _run(door: Door, request: web.Request, _body: None) -> RunView:
    """Answer when the run has moved past version `after`, or after `wait` seconds with what there is.

    A caller that follows the run says how many reports of each attempt are known to it, and gets those beyond.
    """
    orders, writer = door.lab.orders, door.lab.writer
    run_id = request.match_info["run"]
    after, wait = _number(request, "after", -1), min(_number(request, "wait", 0), LONGEST_WAIT)
    known = [max(0, int(count)) for count in _numbers(request, "known")]
    give_up = writer.clock.now() + wait
    while orders.run(run_id).version <= after and (left := give_up - writer.clock.now()) > 0:
        if writer.stopping or writer.broken is not None:
            break
        await writer.moved(left)
    run = await orders.saved(run_id) if writer.broken is not None else orders.run(run_id)
    view = _view(door, run, whole=True)
    return replace(view, run=beyond(view.run, known)) if known else view


async def _cancel(door: Door, request: web.Request, _body: None) -> None:
    door.lab.orders.cancel(request.match_info["run"])


async def _decide(door: Door, request: web.Request, body: Verdict) -> None:
    door.lab.orders.decide(request.match_info["run"], body.outcome, body.reason, final=body.final)


async def _review(door: Door, request: web.Request, body: Review) -> Reviewed:
    run = door.lab.orders.run(request.match_info["run"])
    in_time = door.lab.issues.amend(run.id, body.issues)
    await door.lab.writer.on_disk()  # else a lab after this one might file it as it was proposed
    return Reviewed(in_time=in_time)


async def _events(door: Door, request: web.Request, _body: None) -> web.StreamResponse:
    after = int(max(0, _number(request, "after", 0)))
    return await event_stream(door.lab, request, request.match_info["session"], after)


async def _description(_door: Door, _request: web.Request, _body: None) -> dict[str, Any]:
    from pytest_dispatch.server.api.openapi import describe

    return describe(ROUTES, PREFIX)


ROUTES = (
    Route(
        method="POST",
        path="/sessions",
        handler=_open,
        summary="Open a session, or resume one",
        takes=OpenSession,
        gives=Opened,
        status=201,
    ),
    Route(
        method="GET",
        path="/sessions/{session}",
        handler=_session,
        summary="How a session stands",
        gives=SessionView,
    ),
    Route(
        method="DELETE",
        path="/sessions/{session}",
        handler=_close,
        summary="Close a session: cancel what it still waits for; with `kept`, it may yet be resumed",
        query=("kept",),
        status=204,
    ),
    Route(
        method="POST",
        path="/sessions/{session}/lease",
        handler=_take_over,
        summary="Take a session over from its holder, whose calls are refused from then on; what has not begun waits"
        " to be asked for again",
        takes=OpenSession,
        gives=Opened,
        checked=False,
    ),
    Route(
        method="PUT",
        path="/sessions/{session}/bytes/{digest}",
        handler=_upload,
        summary="Upload bytes that workloads of the session name by their digest, from `offset` on, of `size` in all",
        gives=Uploaded,
        query=("size", "offset"),
        bare=True,
    ),
    Route(
        method="GET",
        path="/sessions/{session}/bytes/{digest}",
        handler=_uploaded,
        summary="How far an upload of the session is; nothing of what others have",
        gives=Uploaded,
    ),
    Route(
        method="POST",
        path="/sessions/{session}/runs",
        handler=_submit,
        summary="Ask for workloads; a key that is known changes nothing",
        takes=list[Wanted],
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/runs",
        handler=_runs,
        summary="All runs of a session, without their reports and consoles",
        gives=list[RunView],
    ),
    Route(
        method="GET",
        path="/sessions/{session}/events",
        handler=_events,
        summary="Server-sent events: `report` (a `RunReport`), each once; `change` (a `RunChange`), with fewer of them"
        " for a reader that is far behind; `progress` (bytes taken, by run)",
        gives=tuple[RunReport, RunChange],
        query=("after",),
    ),
    Route(
        method="GET",
        path="/runs/{run}",
        handler=_run,
        summary="A run; with `after` and `wait`, its next change; with `known`, once for each attempt, without so many"
        " of its first reports",
        gives=RunView,
        query=("after", "wait"),
        repeated=("known",),
        saved=True,
    ),
    Route(
        method="DELETE",
        path="/runs/{run}",
        handler=_cancel,
        summary="Cancel a run",
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/verdict",
        handler=_decide,
        summary="The session's own verdict on an attempt that reported",
        takes=Verdict,
        status=204,
    ),
    Route(
        method="POST",
        path="/runs/{run}/issues",
        handler=_review,
        summary="What is to be filed instead of the issues that the lab proposes",
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

_METHODS = ", ".join(sorted({route.method for route in ROUTES}))
