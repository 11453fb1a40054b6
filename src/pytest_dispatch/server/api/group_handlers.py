"""The handlers of the API for groups, queues, templates and machines."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.run_edit import changed_parts
from pytest_dispatch.core.run_options import Requeue
from pytest_dispatch.lab.admission import Approval
from pytest_dispatch.lab.queue_service import MoveTo
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.server.api.group_schemas import (
    AgainWanted,
    ApproveWanted,
    GroupView,
    HoldWanted,
    LabHold,
    LabMachine,
    MoveWanted,
    QueuedRun,
    QueueView,
    QueueWanted,
    RunChanged,
    TemplateView,
)
from pytest_dispatch.server.api.group_views import (
    all_queued_now,
    group_view,
    group_views,
    lab_hold,
    machine_view,
    machine_views,
    queue_view,
    queued_now,
    template_view,
    unknown_view,
)
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.api.queue_reasons import QueueReasons
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.errors import ForbiddenError, TooManyError
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.scope import check_groups, outside

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.notifications import TargetStatus
    from pytest_dispatch.server.api.route import ApiContext

PAGE = 100  # runs in a page of a queue if the request does not say how many
LONGEST_PAGE = 1000  # most runs in a page
AT_ONCE = 10_000  # most runs in one request

# The whole lab


async def show_hold(context: ApiContext, _request: web.Request, _body: None) -> LabHold:
    """Return why no run begins in the whole lab."""
    return lab_hold(context.lab)


async def hold_lab(context: ApiContext, request: web.Request, body: HoldWanted) -> LabHold:
    """Hold the whole lab."""
    check_whole(request)
    await context.lab.group_service.hold_lab(_hold(request, body))
    request[CHANGED] = Changed("the lab", after={"reason": body.reason, "until": body.until})
    return lab_hold(context.lab)


async def release_lab(context: ApiContext, request: web.Request, _body: None) -> LabHold:
    """End the hold of the whole lab."""
    check_whole(request)
    await context.lab.group_service.release_lab()
    request[CHANGED] = Changed("the lab")
    return lab_hold(context.lab)


async def look_now(context: ApiContext, request: web.Request, _body: None) -> None:
    """Ask the systems that the lab depends on at once.

    Raises:
        TooManyError: That was done just now.
    """
    check_whole(request)
    left = context.lab.fresh_look.begin()
    if left:
        raise TooManyError(f"they were asked just now; try again in {math.ceil(left)} s", left)
    request[CHANGED] = Changed("the lab")


def check_whole(request: web.Request) -> None:
    """Refuse a token that is confined to groups what concerns them all.

    Raises:
        ForbiddenError: It is.
    """
    principal = request[PRINCIPAL]
    if principal.groups is not None:
        raise ForbiddenError(f"expected a token for the whole lab, got one for {', '.join(sorted(principal.groups))}")


# Groups


async def list_groups(context: ApiContext, _request: web.Request, _body: None) -> list[GroupView]:
    """List the groups."""
    return group_views(context.lab)


async def show_group(context: ApiContext, request: web.Request, _body: None) -> GroupView:
    """Return a group."""
    return group_view(context.lab, request.match_info["group"])


async def pause_group(context: ApiContext, request: web.Request, body: HoldWanted) -> GroupView:
    """Pause a group."""
    await context.lab.group_service.pause(request.match_info["group"], _hold(request, body))
    return group_view(context.lab, request.match_info["group"])


async def resume_group(context: ApiContext, request: web.Request, _body: None) -> GroupView:
    """Resume a group."""
    await context.lab.group_service.resume(request.match_info["group"])
    return group_view(context.lab, request.match_info["group"])


async def list_templates(context: ApiContext, request: web.Request, _body: None) -> list[TemplateView]:
    """List the templates of a group."""
    group = context.lab.queue.group_queue.known(request.match_info["group"])
    return [template_view(template) for template in context.lab.group_service.templates.of(group.id)]


def _hold(request: web.Request, body: HoldWanted) -> Hold:
    return Hold(reason=body.reason.strip(), owner=_owner(request, body.owner), until=body.until)


def _owner(request: web.Request, named: str) -> str:
    """Return who does something: the caller, unless an administrator does it for somebody else."""
    caller = request[PRINCIPAL]
    return named if named and caller.may_all else caller.name


# Queues


async def show_all_queues(context: ApiContext, request: web.Request, _body: None) -> QueueView:
    """Return a page of what waits in all groups that the caller may use, or in one of them."""
    principal, wanted = request[PRINCIPAL], request.query.get("group", "")
    if wanted and not principal.may_use(wanted):
        raise outside(principal, wanted)
    groups = [wanted] if wanted else [group for group in context.lab.queue.groups if principal.may_use(group)]
    view = queue_view(context.lab, groups, *_page(request), session=request.query.get("session", ""))
    return _with_reasons(context, view)


async def show_queue(context: ApiContext, request: web.Request, _body: None) -> QueueView:
    """Return a page of a group's queue."""
    return _with_reasons(context, queue_view(context.lab, [request.match_info["group"]], *_page(request)))


def _with_reasons(context: ApiContext, view: QueueView) -> QueueView:
    """Return a page of a queue with why its runs wait."""
    reasons = QueueReasons(context.lab)
    return replace(view, runs=tuple(replace(run, why=reasons.of(run.id).why) for run in view.runs))


def _page(request: web.Request) -> tuple[int, int]:
    """Return how many runs to leave out, and how many to show."""
    first, most = whole(request, "first", 0), whole(request, "most", PAGE)
    return first, min(most, LONGEST_PAGE)


async def enqueue(context: ApiContext, request: web.Request, body: QueueWanted) -> QueuedRun:
    """Queue a run for a person."""
    lab, group = context.lab, request.match_info["group"]
    wanted = [_wanted(context, group, body)]
    (run,) = await lab.queue_service.enqueue(group, wanted, _owner(request, body.owner), [body.template])
    return queued_now(lab, run.id)


async def enqueue_all(context: ApiContext, request: web.Request, body: list[QueueWanted]) -> list[QueuedRun]:
    """Queue many runs for a person, all of them or none."""
    lab, group = context.lab, request.match_info["group"]
    if not 0 < len(body) <= AT_ONCE:
        raise ConfigError(f"expected 1 to {AT_ONCE} runs at once, got {len(body)}")
    owners = list(dict.fromkeys(_owner(request, each.owner) for each in body))
    if len(owners) > 1:
        raise ConfigError(f"owner: expected one for all runs, got {owners[0]} and {owners[1]}; ask once for each")
    wanted = [_wanted(context, group, each) for each in body]
    runs = await lab.queue_service.enqueue(group, wanted, owners[0], [each.template for each in body])
    request[CHANGED] = Changed(group, after={"runs": len(runs), "first": runs[0].id, "last": runs[-1].id})
    return all_queued_now(lab, group, runs)


def _wanted(context: ApiContext, group: str, body: QueueWanted) -> tuple[Workload, Requeue | None]:
    """Return the workload that a request names, or the one of its template, and how often it is queued again."""
    context.lab.queue.group_queue.known(group)
    workload, requeue = body.workload, body.requeue.as_requeue() if body.requeue is not None else None
    if workload is None:
        template = context.lab.group_service.templates.known(group, body.template)
        workload, requeue = template.workload, requeue or Requeue(most=template.requeue)
    priority = workload.priority if body.priority is None else body.priority
    return replace(workload, payload={**workload.payload, **body.payload}, priority=priority), requeue


async def order_queue(context: ApiContext, request: web.Request, body: list[str]) -> None:
    """Put runs of a group first, in the order of the request."""
    if not body:
        raise ConfigError("expected the ids of the runs that are to go first, got none")
    group = request.match_info["group"]
    await context.lab.queue_service.put_first(group, body)
    request[CHANGED] = Changed(group, after={"runs": len(body), "first": body[0]})


async def take_from_queue(context: ApiContext, request: web.Request, _body: None) -> None:
    """Cancel a run of a group."""
    run = request.match_info["queued"]
    await context.lab.queue_service.cancel(request.match_info["group"], run, request[PRINCIPAL].person)
    request[CHANGED] = Changed(run)


async def move_run(context: ApiContext, request: web.Request, body: MoveWanted) -> QueuedRun:
    """Move a run within the queue of its group."""
    to = MoveTo(before=body.before, after=body.after, up=body.up, down=body.down, bottom=body.bottom)
    await context.lab.queue_service.move(request.match_info["run"], to)
    return queued_now(context.lab, request.match_info["run"])


async def hold_run(context: ApiContext, request: web.Request, body: HoldWanted) -> QueuedRun:
    """Hold a run."""
    await context.lab.queue_service.hold(request.match_info["run"], _hold(request, body))
    request[CHANGED] = Changed(request.match_info["run"], after={"reason": body.reason, "until": body.until})
    return queued_now(context.lab, request.match_info["run"])


async def release_run(context: ApiContext, request: web.Request, _body: None) -> QueuedRun:
    """Release a run."""
    await context.lab.queue_service.release(request.match_info["run"])
    return queued_now(context.lab, request.match_info["run"])


async def change_run(context: ApiContext, request: web.Request, body: RunChanged) -> QueuedRun:
    """Change a run: what it is to run, in which group, its priority, how often it is queued again."""
    editing, run = context.lab.run_editing, request.match_info["run"]
    back = editing.as_in_template(run, body.reset) if body.reset else {}
    group = back.get("group") if body.group is None else body.group
    if group is not None and not request[PRINCIPAL].may_use(group):
        raise outside(request[PRINCIPAL], group)
    was = context.lab.session_service.run(run)
    requeue = body.requeue.as_requeue() if body.requeue is not None else None
    await editing.change(run, body.edit, back, body.priority, requeue)
    before, after = changed_parts(was, context.lab.session_service.run(run))
    request[CHANGED] = Changed(run, before=before, after=after)
    return queued_now(context.lab, run)


async def run_again(context: ApiContext, request: web.Request, body: AgainWanted) -> QueuedRun:
    """Queue the workload of a run once more, for a person."""
    lab = context.lab
    run = lab.queue.runs.get(request.match_info["run"])
    if run is None:
        kept, _ = await lab.history.kept(request.match_info["run"])
        run = kept.run
    if run.group not in lab.queue.groups:
        check_groups(request[PRINCIPAL], [replace(run.workload, group="")])
    owner = _owner(request, body.owner)
    queued = await lab.queue_service.again(run, owner, body.machine, body.priority, failed=body.failed)
    request[CHANGED] = Changed(run.id, after={"run": queued.id, "machine": str(body.machine), "failed": body.failed})
    return queued_now(lab, queued.id)


# Machines


async def list_notifications(context: ApiContext, _request: web.Request, _body: None) -> list[TargetStatus]:
    """Return how notifications stand, by target of the lab."""
    return context.lab.notifier.status("")


async def list_machines(context: ApiContext, _request: web.Request, _body: None) -> list[LabMachine]:
    """List the machines."""
    return machine_views(context.lab)


async def show_machine(context: ApiContext, request: web.Request, _body: None) -> LabMachine:
    """Return a machine."""
    return known_machine(context, request)


async def hold_machine(context: ApiContext, request: web.Request, body: HoldWanted) -> LabMachine:
    """Hold a machine."""
    check_machine_groups(context, request)
    machine = request.match_info["machine"]
    await context.lab.group_service.hold_machine(machine, _hold(request, body))
    request[CHANGED] = Changed(machine, after={"reason": body.reason, "until": body.until})
    return known_machine(context, request)


async def release_machine(context: ApiContext, request: web.Request, _body: None) -> LabMachine:
    """Release a machine."""
    check_machine_groups(context, request)
    await context.lab.group_service.release_machine(request.match_info["machine"])
    return known_machine(context, request)


async def check_machine(context: ApiContext, request: web.Request, _body: None) -> LabMachine:
    """Check the health of a machine now."""
    check_machine_groups(context, request)
    await context.lab.health_service.check_now(request.match_info["machine"])
    return known_machine(context, request)


async def approve_machine(context: ApiContext, request: web.Request, body: ApproveWanted) -> LabMachine:
    """Take a machine into the lab that waits for approval."""
    wanted = Approval(id=body.id, machine=body.machine, labels=body.labels)
    name = await context.lab.admission.approve(request.match_info["machine"], wanted)
    request[CHANGED] = Changed(name, after={"machine": request.match_info["machine"], "labels": dict(body.labels)})
    return machine_view(context.lab, context.lab.queue.machines[name])


async def remove_machine(context: ApiContext, request: web.Request, _body: None) -> None:
    """Forget a machine."""
    await context.lab.admission.remove(request.match_info["machine"])


def check_machine_groups(context: ApiContext, request: web.Request) -> None:
    """Refuse a machine that is in no group which the caller may use.

    Raises:
        ForbiddenError: It is in others.
    """
    groups = known_machine(context, request).groups
    if not any(request[PRINCIPAL].may_use(group) for group in groups):
        raise outside(request[PRINCIPAL], ", ".join(groups))


def known_machine(context: ApiContext, request: web.Request) -> LabMachine:
    """Return the machine that a request names.

    Raises:
        UnknownError: The lab does not know it.
    """
    name = request.match_info["machine"]
    seen = context.lab.queue.machines.find(name)
    if seen is None and name in context.lab.queue.unknown:
        return unknown_view(context.lab.queue.unknown[name])
    if seen is None:
        raise UnknownError(f"no machine {name!r}; GET /api/v1/machines lists those that the lab knows")
    return machine_view(context.lab, seen)


async def watch_lab(context: ApiContext, request: web.Request, _body: None) -> web.StreamResponse:
    """Send what changes in the lab as it happens; it is made once for all, so nobody gets a part of it."""
    check_whole(request)
    if context.stream is None:
        raise ConfigError("expected a service, got a lab that belongs to a pytest session")
    return await context.stream.send(request, lambda: context.access.knows(request, request[CALLER]))
