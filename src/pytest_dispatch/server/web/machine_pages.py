"""The pages of machines: all of them, and one with what it runs, what ended on it, and how it is recognised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_past import by_workload, share_used
from pytest_dispatch.core.moments import DAY
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.lab.history import past_of
from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.server.api.group_handlers import check_machine_groups, known_machine, show_machine
from pytest_dispatch.server.api.group_schemas import ApproveWanted
from pytest_dispatch.server.api.group_views import group_views, machine_view, machine_views
from pytest_dispatch.server.api.history_handlers import latest_runs
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.audit_page import ADDRESS as AUDIT
from pytest_dispatch.server.web.audit_page import changes
from pytest_dispatch.server.web.deeds import Deed, Deeds, Fields, act
from pytest_dispatch.server.web.history_page import View, term
from pytest_dispatch.server.web.holds import HoldDeeds, held
from pytest_dispatch.server.web.machine_day import STEP, day_begins, machine_day
from pytest_dispatch.server.web.now_page import Active, under_way
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import part_of
from pytest_dispatch.server.web.said import Question
from pytest_dispatch.server.web.words import counted, in_order, listed
from pytest_dispatch.store.accounts import AuditFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiohttp import web

    from pytest_dispatch.core.audit_entry import AuditEntry
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import LabMachine
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.web.forms import Form

PAGE = 50  # machines on a page
ENDED = 20  # runs that ended on a machine, on its page
WORKLOADS = 10  # workloads whose durations there are told
AUDITED = 10  # entries of the audit log that are about it
WEEK = 7 * DAY
LIVE = "machine run group left"
_HOLDS = HoldDeeds(begin="hold", end="return", of="machine")

#: The order in which the states stand by which machines are chosen: what works, what could, and what does not.
_ORDER = (
    MachineState.RUNNING,
    MachineState.RESERVED,
    MachineState.IDLE,
    MachineState.OFF,
    MachineState.UNAPPROVED,
    MachineState.HELD,
    MachineState.BROKEN,
    MachineState.OFFLINE,
    MachineState.UNKNOWN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which machines a page is to show, as its address says.

    Attributes:
        state: Their state; empty for any.
        group: Id of a group that they are in; empty for any.
        named: What their id or one of their labels must contain.
    """

    state: str
    group: str
    named: str

    def address(self, first: int = 0, **changed: str) -> str:
        """Return the address of the same machines but for these, without the `first` ones."""
        fields = {"state": self.state, "group": self.group, "named": self.named, "first": first, **changed}
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"/machines?{query}" if query else "/machines"

    def has(self, machine: LabMachine) -> bool:
        """Return whether a machine is to be shown."""
        texts = (machine.id, *(f"{key}={value}" for key, value in machine.labels.items()))
        return (
            self.state in ("", machine.state)
            and (not self.group or self.group in machine.groups)
            and any(self.named.lower() in text.lower() for text in texts)
        )


@page
async def show_machines(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return a page of all machines, by their ids: their states change, and they stay where they are."""
    query = request.query
    wanted = Wanted(state=query.get("state", ""), group=query.get("group", ""), named=query.get("named", "").strip())
    known = machine_views(context.lab)
    shown = sorted(filter(wanted.has, known), key=lambda each: in_order(each.id))
    values = {
        "wanted": wanted,
        "machines": part_of(shown, whole(request, "first", 0), PAGE, wanted.address),
        "active": {each.run.id: each for each in under_way(context.lab)},
        "groups": group_views(context.lab),
        "counts": {state: sum(each.state is state for each in known) for state in _ORDER},
        "sentence": _sentence(known, shown),
        "any": bool(known),
    }
    return Page(template="machines.html", title="Machines", live=LIVE, values=values)


def _sentence(known: Sequence[LabMachine], shown: Sequence[LabMachine]) -> str:
    if not known:
        return "No machines yet"
    if len(shown) < len(known):
        return f"{len(shown)} of {counted(len(known), 'machine')}"
    return counted(len(known), "machine")


@page
async def show_one_machine(context: ApiContext, request: web.Request, body: None) -> Page:
    """Return the page of a machine."""
    machine = await show_machine(context, request, body)
    principal, lab = request[PRINCIPAL], context.lab
    search = term("machine", machine.id)
    ended = await latest_runs(context, principal, search, ENDED)
    values = {
        "machine": machine,
        "trouble": lab.machines.troubles.by_machine().get(machine.id, ""),
        "active": _on(machine, under_way(lab)),
        "ended": ended.runs,
        "passed": sum(each.outcome == "passed" for each in ended.runs),
        "all_ended": View(search=search).address,
        "known": [each.id for each in machine_views(lab) if each.state is not MachineState.UNAPPROVED],
        "notices": [each for each in reversed(lab.notices.all()) if each.machine == machine.id],
        "audit": await _audit(context, machine.id) if principal.may_all else None,
        "all_audit": f"{AUDIT}?{urlencode({'action': 'machine', 'target': machine.id})}",
        **await _past(lab, machine.id, principal.groups),
    }
    return Page(template="machine.html", title=machine.id, live=f"{LIVE} ended", values=values)


async def _past(lab: Lab, machine: str, groups: frozenset[str] | None) -> dict[str, object]:
    """Return what a machine did: its last day, how much it was used, and how workloads did on it."""
    now = lab.lab_state.clock.now()
    since = math.floor(now / STEP) * STEP  # steady for a while, so that the page does not change all the time
    past = await past_of(lab.history, machine, day_begins(now), since - WEEK, groups)
    return {
        "day": machine_day(past.visits, lab.diary.of(machine), now),
        "used": share_used(past.ended, since - DAY, since),
        "used_in_week": share_used(past.ended, since - WEEK, since) if past.whole else None,
        "workloads": by_workload(past.ended)[:WORKLOADS],
        "looked_at": len(past.ended),
        "whole": past.whole,
    }


async def _audit(context: ApiContext, machine: str) -> list[tuple[AuditEntry, list[str]]]:
    """Return what people last did to a machine."""
    wanted = AuditFilter(action="machine", target=machine, most=AUDITED)
    return [(each, changes(each)) for each in await service_access(context).audit.read(wanted)]


def _on(machine: LabMachine, active: Iterable[Active]) -> list[Active]:
    return [each for each in active if each.run.id in machine.runs]


# What is done


def _hold_question(lab: Lab, _name: str, machines: Sequence[str]) -> Question:
    found = [seen for each in machines if (seen := lab.queue.machines.find(each)) is not None]
    runs = listed([lab.queue.runs[seen.holds].workload.name for seen in found if seen.holds])
    if len(machines) == 1:
        text = f"It gets no more runs until somebody returns it.{f' {runs}, which it runs, goes on.' if runs else ''}"
        return Question(ask=f"Hold {machines[0]}?", text=text, label="Hold it", reason=True)
    text = f"They get no more runs until somebody returns them.{f' What they run goes on: {runs}.' if runs else ''}"
    return Question(ask=f"Hold {listed(machines)}?", text=text, label="Hold them", reason=True)


def _remove_question(_lab: Lab, _name: str, machines: Sequence[str]) -> Question:
    text = "The lab forgets it. What ran on it stays in history; if it asks for work again, it is a new machine."
    if len(machines) > 1:
        text = "The lab forgets them. What ran on them stays in history; one that asks for work again is a new machine."
    label = "Remove it" if len(machines) == 1 else "Remove them"
    return Question(ask=f"Remove {listed(machines)}?", text=text, label=label)


def _held_before(lab: Lab, machines: Sequence[str]) -> Fields | None:
    known = [lab.queue.machines.find(machine) for machine in machines]
    return _HOLDS.undo(machines, [seen.hold if seen is not None else None for seen in known])


def _standing(lab: Lab, machine: str) -> object:
    """Return what its return changes of a machine: its hold, and what speaks against its health."""
    record = lab.queue.machines.find(machine)
    if record is None or record.has_left:
        return None
    seen = machine_view(lab, record)
    return seen.hold, seen.state, seen.reason, seen.health.faults, seen.health.held


def _approved(form: Form, _place: int) -> ApproveWanted:
    labels = read_labels(form.one("labels").replace(",", " ").split(), "labels")
    return ApproveWanted(id=form.one("id").strip(), machine=form.one("joins"), labels=labels)


_DEEDS = {
    "hold": Deed(
        operation=("POST", "/machines/{machine}/hold"),
        body=held,
        done="held",
        of="machine",
        check=check_machine_groups,
        question=_hold_question,
        undo=_held_before,
    ),
    "return": Deed(
        operation=("DELETE", "/machines/{machine}/hold"),
        done="returned",
        of="machine",
        check=check_machine_groups,
        seen=_standing,
        idle="is not held",
    ),
    "check": Deed(
        operation=("POST", "/machines/{machine}/health"),
        done="its health is checked as soon as it can be",
        of="machine",
    ),
    "approve": Deed(
        operation=("POST", "/machines/{machine}/approve"),
        body=_approved,
        done="approved",
        of="machine",
        onward="/machines",
    ),
    "remove": Deed(
        operation=("DELETE", "/machines/{machine}"),
        done="removed",
        of="machine",
        check=known_machine,
        question=_remove_question,
        onward="/machines",
    ),
}
MACHINE_DEEDS = Deeds(action="/machines", known=_DEEDS, buttons=("hold", "return"))


async def steer_machine(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form asks for with a machine."""
    return await act(context, request, MACHINE_DEEDS)
