"""The page Queue: what waits in all groups, why, and when it should start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pytest_dispatch.core.requirements import suits
from pytest_dispatch.lab.queue_service import QUEUED
from pytest_dispatch.server.api.group_views import group_views, lab_hold, machine_views, queue_view
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.api.queue_reasons import QueueReasons
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import outside
from pytest_dispatch.server.web.edit_page import Differs, differing
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.paging import on_a_page
from pytest_dispatch.server.web.words import PRIORITIES, are_free, counted

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.requirements import Requirements
    from pytest_dispatch.core.runs import RunRecord
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.group_schemas import QueuedRun
    from pytest_dispatch.server.api.queue_reasons import Reason
    from pytest_dispatch.server.api.route import ApiContext

PAGE = 50  # runs on a page
ROUND = 30.0  # seconds to which an expected start is rounded, so that a page does not change all the time

#: What a view of the queue is called.
VIEWS = {"": "All", "mine": "Mine", "stuck": "Stuck"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits, as a row shows it.

    Attributes:
        why: Why it waits.
        starts: When it should start, in seconds since 1970; 0 if that is not known here.
        differs: What its template has, where it has something else.
        is_edited_here: Whether what it runs can be changed by hand.
    """

    run: QueuedRun
    why: str
    starts: float
    differs: tuple[Differs, ...]
    is_edited_here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of the queue a page is to show, as its address says.

    Attributes:
        view: One of `VIEWS`.
        group: Id of the group; empty for all.
        named: What the name of a workload must contain.
        first: How many runs to leave out.
    """

    view: str
    group: str
    named: str
    first: int

    def address(self, **changed: object) -> str:
        """Return the address of the same page but for these."""
        fields = {"view": self.view, "group": self.group, "named": self.named, "first": self.first, **changed}
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"/queue?{query}" if query else "/queue"


@page
async def show_queue(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    lab, principal = context.lab, request[PRINCIPAL]
    wanted = _wanted(request)
    if wanted.group and not principal.may_use(wanted.group):
        raise outside(principal, wanted.group)
    usable = [each for each in group_views(lab) if principal.may_use(each.id)]
    groups = [wanted.group] if wanted.group else [each.id for each in usable if not each.leaving]
    keep = _kept(lab, wanted, principal.name)
    view = queue_view(lab, groups, wanted.first, PAGE, keep=keep)
    if view.total and wanted.first >= view.total:
        wanted = replace(wanted, first=on_a_page(wanted.first, view.total, PAGE))
        view = queue_view(lab, groups, wanted.first, PAGE, keep=keep)
    reasons = QueueReasons(lab)
    values = {
        "wanted": wanted,
        "views": VIEWS,
        "rows": [_waiting(lab, run, reasons.of(run.id)) for run in view.runs],
        "total": view.total,
        "last": min(view.total, wanted.first + PAGE),
        "page": PAGE,
        "groups": usable,
        "hold": lab_hold(lab).hold,
        "priorities": PRIORITIES,
        "sentence": _sentence(lab, view.total, wanted),
        "elsewhere": any(each.queued for each in usable),
    }
    return Page(template="queue.html", title="Queue", live="queue group hold left run machine", values=values)


def _wanted(request: web.Request) -> Wanted:
    query = request.query
    view = query.get("view", "")
    return Wanted(
        view=view if view in VIEWS else "",
        group=query.get("group", ""),
        named=query.get("named", "").strip(),
        first=whole(request, "first", 0),
    )


def _waiting(lab: Lab, run: QueuedRun, reason: Reason) -> Waiting:
    return Waiting(
        run=run,
        why=reason.why,
        starts=ROUND * round(reason.starts.latest / ROUND) if reason.starts is not None else 0.0,
        differs=differing(lab, run.kind, run.differs) if run.differs else (),
        is_edited_here=run.source == QUEUED,
    )


def _sentence(lab: Lab, total: int, wanted: Wanted) -> str:
    if total:
        does = ("is stuck", "are stuck") if wanted.view == "stuck" else ("waits", "wait")
        return f"{counted(total, 'run')} {does[total != 1]}"
    if wanted.view or wanted.group or wanted.named:
        return "Nothing like that waits"
    free = are_free(machine_views(lab))
    return f"Nothing waits. {free}." if free else "Nothing waits"


def _kept(lab: Lab, wanted: Wanted, name: str) -> Callable[[RunRecord], bool] | None:
    """Return whether a run is to be shown; None if all are, so that they need not be looked at."""
    tests: list[Callable[[RunRecord], bool]] = []
    if wanted.view == "mine":
        tests.append(_of(lab, name))
    if wanted.view == "stuck":
        tests.append(_stuck(lab))
    if wanted.named:
        part = wanted.named.lower()
        tests.append(lambda record: part in record.run.workload.name.lower())
    return (lambda record: all(test(record) for test in tests)) if tests else None


def _of(lab: Lab, name: str) -> Callable[[RunRecord], bool]:
    def mine(record: RunRecord) -> bool:
        session = lab.lab_state.live_session(record.run.session).record
        return name in (session.user, session.owner)

    return mine


def _stuck(lab: Lab) -> Callable[[RunRecord], bool]:
    """Return whether nothing gets a run started unless somebody does something.

    It is held, or its group or the whole lab is, or all machines that fit are held or broken, or there is none.
    """
    labels = {seen.id: seen.machine.labels for seen in lab.queue.machines.values() if _comes_back(seen)}
    all_held = lab.queue.groups.lab_hold is not None
    fitting: dict[Requirements, bool] = {}

    def stuck(record: RunRecord) -> bool:
        if all_held or record.on_hold or record.lost or record.run.group in lab.queue.groups.pauses:
            return True
        if record.lifecycle.elsewhere:
            return False
        if record.run.only:
            return record.run.only not in labels
        requires = record.requires
        if requires not in fitting:
            fitting[requires] = any(suits(requires, each) for each in labels.values())
        return not fitting[requires]

    return stuck


def _comes_back(seen: MachineRecord) -> bool:
    """Return whether a machine takes work, now or later, without anybody doing something about it."""
    held = seen.hold is not None and seen.hold.until is None
    return not (seen.leaving or seen.broken or held)
