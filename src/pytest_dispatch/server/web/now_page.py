"""The page Now: how the lab stands in one sentence, what needs somebody, what runs, and what has just ended."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.machine import Hold, MachineState
from pytest_dispatch.core.model import Phase
from pytest_dispatch.server.api.group_views import group_views, lab_hold, machine_views
from pytest_dispatch.server.api.history_handlers import latest_runs
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.first_steps import first_steps
from pytest_dispatch.server.web.outcome_chart import outcomes_drawn
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.words import are_free, counted, is_free

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiohttp import web

    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import GroupView, LabMachine
    from pytest_dispatch.server.api.route import ApiContext

ENDED = 20  # runs that have just ended
UNDER_WAY = 50  # runs under way that are shown
MOST_NOTES = 20  # things that need somebody
TROUBLE = "trouble"  # the state of what the lab depends on and does not get
DRAWN = "24h"  # time over which outcomes are drawn

#: States of machines that somebody should look at.
_TROUBLE = (MachineState.BROKEN, MachineState.OFFLINE, MachineState.UNAPPROVED, MachineState.HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A run under way.

    Attributes:
        began: When it left the queue, in seconds since 1970.
        takes: Seconds in which half of its like have ended; None if nobody knows.
    """

    run: Run
    began: float
    takes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something that somebody should look at.

    Attributes:
        what: What it is, in a word or two.
        where: Its page; empty for none.
        state: The state that is shown beside it.
        text: Why.
        since: Since when, in seconds since 1970; 0 if unknown.
    """

    what: str
    where: str
    state: str
    text: str
    since: float = 0.0


@page
async def show_now(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page Now; of a broken lab, only why it is."""
    lab = context.lab
    if lab.broken is not None:
        return Page(template="now.html", title="Now", values={"sentence": "This lab is broken.", "steps": ()})
    groups, machines = group_views(lab), machine_views(lab)
    active = [each for each in under_way(lab) if request[PRINCIPAL].may_use(each.run.group)]
    ended = await latest_runs(context, request[PRINCIPAL], "", ENDED)
    values = {
        **await outcomes_drawn(context, request, DRAWN),
        "sentence": _sentence(lab, groups, machines, active),
        "concerns": list(islice(_concerns(lab, groups, machines), MOST_NOTES)),
        "active": active[:UNDER_WAY],
        "more": len(active) - UNDER_WAY,
        "ended": ended.runs,
        "groups": groups,
        "steps": first_steps(context, request, machines, ran=bool(ended.runs or active)),
    }
    return Page(template="now.html", title="Now", live="run group machine hold left ended", values=values)


def under_way(lab: Lab) -> list[Active]:
    """Return the runs that are under way, those first that began first."""
    runs = (lab.queue.runs[run] for run in lab.queue.transitions.run_index.under_way)
    return sorted((_active(lab, run) for run in runs), key=lambda each: (each.began, each.run.id))


def _active(lab: Lab, run: Run) -> Active:
    history = run.attempt.history
    began = next((moment.at for moment in history if moment.phase is not Phase.QUEUED), run.attempt.since)
    return Active(run=run, began=began, takes=lab.durations.takes(run, run.attempt.machine, 0.5))


def _sentence(lab: Lab, groups: Iterable[GroupView], machines: Sequence[LabMachine], active: Sequence[Active]) -> str:
    waiting = sum(each.queued for each in groups)
    told = [
        are_free(machines) or "No machines yet",
        f"{counted(waiting, 'run')} {'waits' if waiting == 1 else 'wait'}" if waiting else "nothing waits",
        f"{counted(len(active), 'run')} under way" if active else "nothing runs",
    ]
    if waiting and not any(map(is_free, machines)):
        soonest = _next_free(active, lab.lab_state.clock.now())
        told += [f"the next machine gets free in about {format_roughly(soonest)}"] if soonest is not None else []
    return f"{', '.join(told)}."


def _next_free(active: Iterable[Active], now: float) -> float | None:
    """Return the seconds until a machine gets free, to the minute, so that the page does not change all the time."""
    lefts = [each.began + each.takes - now for each in active if each.takes is not None]
    return None if not lefts else max(60.0, 60.0 * round(min(lefts) / 60.0))


def _concerns(lab: Lab, groups: Iterable[GroupView], machines: Sequence[LabMachine]) -> Iterator[Concern]:
    hold = lab_hold(lab).hold
    if hold is not None:
        yield Concern(what="The whole lab", where="", state="held", text=held_text(hold), since=hold.since)
    yield from _outside(lab, {each.id for each in machines if each.state is MachineState.BROKEN})
    for group in groups:
        if group.paused is not None and group.paused != hold:
            text, where = held_text(group.paused), f"/queue?group={group.id}"
            yield Concern(what=group.name, where=where, state="paused", text=text, since=group.paused.since)
    for state in _TROUBLE:
        for each in machines:
            if each.state is state:
                text = held_text(each.hold) if each.hold is not None else each.reason
                where = f"/machines/{quote(each.id, safe='')}"
                yield Concern(what=each.id, where=where, state=str(state), text=text, since=each.since)


def _outside(lab: Lab, broken: set[str]) -> Iterator[Concern]:
    """Yield what the lab depends on and does not get: an answer of GitHub or Testflinger, the power of a machine.

    Args:
        lab: The lab.
        broken: Machines that have been given up, which are told of by themselves.
    """
    for standing in lab.at_github:
        if standing.why:
            yield Concern(what=f"GitHub, {standing.host}", where="/lab", state=TROUBLE, text=standing.why)
    for each in lab.fresh_look.connections:
        if each.why:
            yield Concern(what=each.what, where="/lab", state=TROUBLE, text=each.why)
    troubles = lab.machines.troubles.by_machine()
    for name in sorted(troubles.keys() - broken):
        why = troubles[name]
        yield Concern(what=name, where=f"/machines/{quote(name, safe='')}", state=TROUBLE, text=why)


def held_text(hold: Hold) -> str:
    """Return who holds something, and why."""
    return f"{hold.reason} ({hold.owner})" if hold.owner else hold.reason
