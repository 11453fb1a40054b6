"""The page Health: how the lab itself stands, and what it depends on: its database, GitHub, issues, notifications."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest_dispatch
from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.server.api.group_handlers import check_whole
from pytest_dispatch.server.api.group_views import lab_hold, machine_views
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.deeds import Deed, Deeds, act
from pytest_dispatch.server.web.history_page import found_by
from pytest_dispatch.server.web.now_page import TROUBLE, held_text
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from pytest_dispatch.github.polling_api import GitHubStanding
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext

PING = 2.0  # longest wait for the database, in seconds
LATE = 1.0  # seconds after which a change should be on disk
MOST = 10  # lines of each kind that are shown

FINE, UNKNOWN = "fine", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """Something of the lab that is fine or not.

    Attributes:
        state: `fine`, `trouble`, `held` or `unknown`.
        at: When something of it last happened, in seconds since 1970; 0 if that does not matter.
        where: Its page; empty for none.
    """

    what: str
    state: str
    text: str
    at: float = 0.0
    where: str = ""


@page
async def show_health(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page; also of a lab that is broken."""
    lab = context.lab
    vitals = [_lab(lab), await _database(lab), *_github(lab)]
    if lab.broken is None:
        vitals += [*_connections(lab), *_machines(lab)]
        everything, whole = request[PRINCIPAL].may_all, request[PRINCIPAL].groups is None
        vitals += [*_issues(lab, everything=everything), *_people(context), *_suspects(lab, whole=whole)]
        vitals += _notifications(context.lab) if request[PRINCIPAL].may_all else ()
    wrong = sum(each.state == TROUBLE for each in vitals)
    sentence = f"{counted(wrong, 'thing')} not as it should be" if wrong else "All is well"
    outside = bool(lab.at_github or lab.fresh_look.connections or lab.machines.troubles.by_machine())
    values = {"sentence": sentence, "vitals": vitals, "outside": outside}
    return Page(template="health.html", title="Health", live="hold machine left", values=values)


_DEEDS = Deeds(
    action="/lab",
    known={
        "look": Deed(
            operation=("POST", "/lab/look"),
            done="What the lab depends on is asked now",
            of="",
            check=lambda _context, request: check_whole(request),
        )
    },
)


async def steer_lab(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form asks for with the lab."""
    return await act(context, request, _DEEDS)


def _lab(lab: Lab) -> Vital:
    if lab.broken is not None:
        return Vital(what="Lab", state=TROUBLE, text=str(lab.broken))
    hold = lab_hold(lab).hold
    if hold is not None:
        return Vital(what="Lab", state="held", text=f"No run begins: {held_text(hold)}", at=hold.since)
    kinds = ", ".join(sorted(lab.kinds))
    return Vital(what="Lab", state=FINE, text=f"pytest-dispatch {pytest_dispatch.__version__}, runs {kinds}")


async def _database(lab: Lab) -> Vital:
    name = lab.lab_state.journal.name
    try:
        async with asyncio.timeout(PING):
            await lab.lab_state.journal.background.ping()
    except (TimeoutError, JournalError) as error:
        text = str(error) or f"{name}: no answer within {PING:g} seconds"
        return Vital(what="Database", state=TROUBLE, text=text)
    behind = lab.lab_state.batches.behind()
    if behind > LATE:
        text = f"{name}: changes of the last {format_roughly(behind)} are not on disk yet"
        return Vital(what="Database", state=TROUBLE, text=text)
    return Vital(what="Database", state=FINE, text=f"{name}: answers, and all changes are on disk")


def _github(lab: Lab) -> Iterator[Vital]:
    """Yield how each GitHub stands, for each token: what is left of its hourly limit, and whether it is asked."""
    for each in lab.at_github:
        what = f"GitHub, {each.host}"
        if each.why:
            yield Vital(what=what, state=TROUBLE, text=f"Nothing is asked for now: {each.why}", at=each.answered)
        elif not each.answered:
            yield Vital(what=what, state=UNKNOWN, text="It has not answered yet")
        else:
            yield Vital(what=what, state=_budget_state(each), text=budget(each), at=each.answered)


def _budget_state(standing: GitHubStanding) -> str:
    return FINE if standing.lasts is None or math.isinf(standing.lasts) else TROUBLE


def budget(standing: GitHubStanding) -> str:
    """Return what is left of an hourly limit, and how long that lasts at this rate."""
    if standing.remaining is None:
        return "It answers, and names no limit"
    if standing.lasts is None:
        return "It answers, and counts anew by now"
    left = f"{standing.remaining:,} of {standing.limit:,} requests of this hour are left"
    if math.isinf(standing.lasts):
        return f"{left}, enough at this rate until it counts anew"
    return f"{left}, for about {format_roughly(standing.lasts)} at this rate; the lab asks less often"


def _connections(lab: Lab) -> Iterator[Vital]:
    """Yield how the other systems stand that kinds depend on."""
    for each in lab.fresh_look.connections:
        if each.why:
            yield Vital(what=each.what, state=TROUBLE, text=each.why, at=each.answered)
        elif not each.answered:
            yield Vital(what=each.what, state=UNKNOWN, text="It has not answered yet")
        else:
            yield Vital(what=each.what, state=FINE, text="It answers", at=each.answered)


def _machines(lab: Lab) -> Iterator[Vital]:
    """Yield which machines are broken, and what keeps drivers and lenders from doing what they were told."""
    troubles = lab.machines.troubles.by_machine()
    broken = {each.id: each.reason for each in machine_views(lab, heard=False) if each.state is MachineState.BROKEN}
    for name, why in sorted({**broken, **troubles}.items()):
        yield Vital(what=f"Machine {name}", state=TROUBLE, text=why, where=f"/machines/{quote(name, safe='')}")


def _issues(lab: Lab, *, everything: bool) -> Iterator[Vital]:
    status = lab.issues.status()
    if status.pending or not status.unfiled:
        text = f"{counted(status.pending, 'issue')} to be filed, {status.filed:,} filed"
        yield Vital(what="Issues", state=FINE, text=text)
    if status.unfiled and not everything:
        yield Vital(what="Issues", state=TROUBLE, text="Some cannot be filed; an administrator sees why")
    for line in status.unfiled[:MOST] if everything else ():
        yield Vital(what="Issues", state=TROUBLE, text=line)


def _notifications(lab: Lab) -> Iterator[Vital]:
    for each in lab.notifier.status():
        text = f"{each.sent:,} sent, {each.waiting:,} waiting, {each.held:,} of them held back"
        lines = [f"the last try failed: {each.failed}"] if each.failed else []
        lines += [f"given up: {line}" for line in each.given_up[:MOST]]
        yield Vital(
            what=f"Notifications to {each.name}",
            state=TROUBLE if each.failed else FINE,
            text="; ".join([text, *lines]),
        )


def _suspects(lab: Lab, *, whole: bool) -> Iterator[Vital]:
    """Yield the workloads whose faults count against no machine; to who is confined to groups only how many."""
    why = "count against no machine, as several machines had them"
    suspects = [*lab.queue.health.suspects.items()]
    named = suspects[:MOST] if whole else []
    for series, since in named:
        where = found_by("workload", series.name)
        text = f"The faults of {series.name} {why}"
        yield Vital(what=f"Workload {series.name}", state=UNKNOWN, text=text, at=since, where=where)
    if len(suspects) > len(named):
        more = f"{counted(len(suspects) - len(named), 'workload')}{' more' if named else ''}"
        yield Vital(what="Workloads", state=UNKNOWN, text=f"The faults of {more} {why}")


def _people(context: ApiContext) -> Iterator[Vital]:
    viewers = context.stream.viewers if context.stream is not None else 0
    yield Vital(what="Open pages", state=FINE, text=f"{viewers:,} are told of changes")
    mdns = context.mdns()
    if mdns:
        state = TROUBLE if mdns.startswith("not announced") else FINE
        yield Vital(what="Name on the network", state=state, text=mdns)
