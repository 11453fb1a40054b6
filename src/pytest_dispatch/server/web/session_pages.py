"""The page Sessions: who asks the lab for runs, how their leases stand, and what is left to do."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.model import Phase
from pytest_dispatch.lab.queue_service import QUEUED
from pytest_dispatch.server.api.guard import carry_out
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL, Principal
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import part_of
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, told, unsaid
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.store.records import SessionRecord

ADDRESS = "/sessions"
PAGE = 40  # sessions on a page
VIEWS = {"": "All", "mine": "Mine"}

#: What sessions of the lab's own are for.
_OWN = {QUEUED: "runs that people have queued", CHECKS: "checks of machines"}
_LEASES = {
    LeaseKind.ATTACHED: "a running program",
    LeaseKind.DURABLE: "something that comes back",
    LeaseKind.DETACHED: "a person",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session, as the page shows it.

    Attributes:
        source: The source of its workloads.
        holder: What kind of holder it has.
        state: `held` by a holder that is connected, or `waiting` for one to come back; empty if it needs none.
        waiting: How many of its runs wait.
        active: How many of its runs are under way.
        ended: How many of its runs have ended that the lab still knows.
        ends: When it ends if its holder stays away; 0 if it does not, or the holder is there.
        may_end: Whether who looks may end it.
    """

    record: SessionRecord
    source: str
    holder: str
    state: str
    waiting: int
    active: int
    ended: int
    ends: float
    may_end: bool


@page
async def show_sessions(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    given = request.query.get("view", "")
    view = given if given in VIEWS else ""
    rows = list(_rows(context.lab, request[PRINCIPAL], mine=view == "mine"))
    values = {
        "rows": part_of(rows, whole(request, "first", 0), PAGE, partial(_address, view)),
        "sentence": _sentence(rows),
        "view": view,
        "views": VIEWS,
        "address_of": _address,
    }
    return Page(template="sessions.html", title="Sessions", live="run queue hold", values=values)


def _address(view: str, first: int = 0) -> str:
    query = urlencode({name: value for name, value in {"view": view, "first": first}.items() if value})
    return f"{ADDRESS}?{query}" if query else ADDRESS


def _sentence(rows: list[SessionRow]) -> str:
    if not rows:
        return "No session is open"
    waiting, active = (sum(getattr(each, name) for each in rows) for name in ("waiting", "active"))
    return f"{counted(len(rows), 'session')} open, with {counted(waiting + active, 'run')} left to do"


def _rows(lab: Lab, principal: Principal, *, mine: bool) -> Iterator[SessionRow]:
    """Yield the sessions that are not over, the newest first; of a token that is for some groups, its user's."""
    tally = _tally(lab)
    found = sorted(lab.lab_state.live_sessions.values(), key=lambda live: (-live.record.opened, live.record.id))
    for record in (live.record for live in found):
        own = record.user == principal.name
        if record.id not in lab.queue.table or lab.queue.table.is_over(record.id):
            continue
        if own or (principal.groups is None and not mine):
            yield _row(lab, record, principal, tally)


def _tally(lab: Lab) -> Counter[tuple[str, Phase]]:
    """Return how many runs each session has in each phase."""
    return Counter(
        (run.session, run.attempt.phase if run.outcome is None else Phase.OVER) for run in lab.queue.runs.values()
    )


def _row(lab: Lab, record: SessionRecord, principal: Principal, tally: Counter[tuple[str, Phase]]) -> SessionRow:
    lease = lab.queue.table[record.id].lease
    counts = {phase: tally[record.id, phase] for phase in Phase}
    needed = lease.kind is not LeaseKind.DETACHED
    away = needed and not lease.connections
    own = record.user == principal.name
    return SessionRow(
        record=record,
        source=_OWN.get(record.source, record.source),
        holder=_LEASES[lease.kind],
        state=("waiting" if away else "connected") if needed else "",
        waiting=counts[Phase.QUEUED],
        active=sum(counts[each] for each in Phase if each not in {Phase.QUEUED, Phase.OVER}),
        ended=counts[Phase.OVER],
        ends=lease.ends if away and math.isfinite(lease.ends) else 0.0,
        may_end=record.source not in _OWN and (principal.may_all or (own and principal.covers(Role.OPERATOR))),
    )


async def end_session(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """End a session, after asking; one that another holder has taken over meanwhile stays."""
    form = request[FORM]
    session, lab = form.one("session"), context.lab
    record = lab.lab_state.live_session(session).record
    lease = lab.queue.table[session].lease
    _check_may_end(request[PRINCIPAL], record)
    if not form.one("sure"):
        fields = (*unsaid(form.fields), ("epoch", str(lease.epoch)))
        return ask(context, request, _question(lab, record, request[PRINCIPAL].name), ADDRESS, fields)
    lease.check(_epoch(form.one("epoch")))
    await carry_out(context, operation("DELETE", "/sessions/{session}"), request, {"session": session})
    left = sum(run.outcome is None for run in lab.session_service.runs(session))
    if left:
        text = f"its runs are cancelled, and {counted(left, 'run')} under way being stopped; end it once more then"
    else:
        text = "the session has ended"
        await lab.session_service.close(session)  # for good: what it had left to do is over
    return told(request, Said(said=f"{record.source}: {text}."))


def _check_may_end(principal: Principal, record: SessionRecord) -> None:
    """Refuse to ask about a session that who asks may not end.

    Raises:
        ForbiddenError: It is another user's.
    """
    if record.user != principal.name and not principal.may_all:
        raise ForbiddenError(f"expected a session of {principal.name}, or the role admin, got one of {record.user}")


def _epoch(given: str) -> int:
    """Return which holder of the session was asked about: without it nobody knows whose work would end."""
    if not re.fullmatch("[0-9]{1,18}", given):
        raise ConfigError(f"epoch: expected the whole number of the question, got {given[:40]!r}")
    return int(given)


def _question(lab: Lab, record: SessionRecord, name: str) -> Question:
    counts = _tally(lab)
    waiting = counts[record.id, Phase.QUEUED]
    active = sum(counts[record.id, each] for each in Phase if each not in {Phase.QUEUED, Phase.OVER})
    text = [f"{counted(waiting, 'run')} that {'waits' if waiting == 1 else 'wait'} will be cancelled"]
    text.append(f", and {counted(active, 'run')} under way stopped." if active else ".")
    if record.user != name:
        text.append(f" It is the session of {record.user}, whose program is told.")
    text.append(" This cannot be undone.")
    return Question(ask="End this session?", text="".join(text), label="End the session")
