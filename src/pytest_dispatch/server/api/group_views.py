"""Builds the API's views of groups, queues, templates and machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.lab.driven_machines import standing_of
from pytest_dispatch.server.api.group_schemas import (
    FaultView,
    GroupView,
    HealthView,
    LabHold,
    LabMachine,
    QueuedRun,
    QueueView,
    TemplateView,
)

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.requirements import Labels
    from pytest_dispatch.core.runs import RunRecord
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.core.unknown_machines import UnknownMachine
    from pytest_dispatch.lab.lab import Lab

_NOTHING_KNOWN = HealthView()


def lab_hold(lab: Lab) -> LabHold:
    """Return whether the whole lab is held, and why."""
    return LabHold(hold=lab.queue.groups.lab_hold)


def group_views(lab: Lab) -> list[GroupView]:
    """Return all groups in the order of the configuration, then those that are leaving."""
    groups, machines = lab.queue.groups, _labels(lab)
    leaving = [replace(_counted(lab, Group(id=name), ()), leaving=True) for name in groups.leaving]
    return [*(_counted(lab, group, machines) for group in groups.values()), *leaving]


def group_view(lab: Lab, group: str) -> GroupView:
    """Return one group.

    Raises:
        NoGroupError: There is no such group.
    """
    return _counted(lab, lab.queue.group_queue.known(group), _labels(lab))


def _labels(lab: Lab) -> list[tuple[Labels, int]]:
    """Return the labels of machines, and how many have them: of many machines, most have the same as others."""
    found = Counter(frozenset(seen.machine.labels.items()) for seen in lab.queue.machines.values())
    return [(dict(labels), count) for labels, count in found.items()]


def _counted(lab: Lab, group: Group, machines: Iterable[tuple[Labels, int]]) -> GroupView:
    queue, required = lab.queue, group.requires
    return GroupView(
        id=group.id,
        name=group.name or group.id,
        description=group.description,
        labels=group.labels,
        max_running=group.max_running,
        machines=sum(count for labels, count in machines if suits(required, labels)),
        queued=queue.group_queue.queued(group.id),
        running=queue.groups.running(group.id),
        paused=queue.groups.pauses.get(group.id),
    )


def queue_view(
    lab: Lab,
    groups: Iterable[str],
    first: int,
    most: int,
    session: str = "",
    keep: Callable[[RunRecord], bool] | None = None,
) -> QueueView:
    """Return a page of the queues of some groups, one group after the other.

    Args:
        lab: The lab.
        groups: Their ids.
        first: How many runs to leave out.
        most: How many to return.
        session: Id of the session whose runs alone count; empty for all.
        keep: Whether a run counts; None for all.

    Raises:
        NoGroupError: There is no such group.
    """
    queue, total, rows = lab.queue.group_queue, 0, list[QueuedRun]()
    if session:
        keep = lambda record: record.run.session == session  # noqa: E731 - one of several
    for group in groups:
        queue.known(group)
        skip, left = max(0, first - total), most - len(rows)
        if keep is not None:
            mine = [(place, record) for place, record in enumerate(queue.order(group), 1) if keep(record)]
            page, count = mine[skip : skip + left], len(mine)
        else:
            page, count = list(enumerate(queue.page(group, skip, left), skip + 1)), queue.queued(group)
        rows += [queued_run(lab, record, place) for place, record in page]
        total += count
    return QueueView(total=total, first=first, runs=tuple(rows))


def queued_run(lab: Lab, record: RunRecord, place: int = 0) -> QueuedRun:
    """Return a run as it is in the queue of its group.

    Args:
        lab: The lab.
        record: The run's record.
        place: Its place in the queue, from 1; 0 if it does not wait.
    """
    run, session = record.run, lab.lab_state.live_session(record.run.session).record
    return QueuedRun(
        id=run.id,
        group=run.group,
        place=place,
        session=run.session,
        owner=session.owner,
        source=session.source,
        name=run.workload.name,
        kind=run.workload.kind,
        priority=run.priority,
        since=run.attempt.since,
        requires=tuple(map(str, record.requires)),
        moved=run.place is not None,
        hold=lab.queue.transitions.held.get(run.id),
        needs=record.needs,
        waits_its_turn=record.waits_its_turn,
        only=run.only,
        avoids=run.avoids,
        again=run.again,
        requeue=run.requeue,
        template=lab.run_editing.template_of(run),
        differs=lab.run_editing.differences(run),
    )


def queued_now(lab: Lab, run_id: str) -> QueuedRun:
    """Return a run with its place in the queue of its group."""
    record = lab.queue.transitions.runs.record(run_id)
    return queued_run(lab, record, lab.queue.group_queue.place(record.run))


def all_queued_now(lab: Lab, group: str, runs: Iterable[Run]) -> list[QueuedRun]:
    """Return many runs of a group with their places in its queue, which is looked at once."""
    places = {record.run.id: place for place, record in enumerate(lab.queue.group_queue.order(group), 1)}
    records = map(lab.queue.transitions.runs.record, (run.id for run in runs))
    return [queued_run(lab, record, places.get(record.run.id, 0)) for record in records]


def template_view(template: Template) -> TemplateView:
    """Return a template."""
    return TemplateView(
        id=template.id,
        group=template.group,
        workload=template.workload,
        description=template.description,
        requeue=template.requeue,
        source=template.source,
    )


def machine_views(lab: Lab, *, heard: bool = True) -> list[LabMachine]:
    """Return all machines by id, without those that have left; unless `heard`, without when they last asked."""
    known = [machine_view(lab, seen, heard=heard) for seen in lab.queue.machines.values() if not seen.has_left]
    unknown = [unknown_view(seen, heard=heard) for seen in lab.queue.unknown.values()]
    return sorted([*known, *unknown], key=lambda view: view.id)


def unknown_view(seen: UnknownMachine, *, heard: bool = True) -> LabMachine:
    """Return a machine that waits for approval."""
    machine = seen.machine
    return LabMachine(
        id=machine.id,
        identities=tuple(sorted(machine.identities)),
        state=machine.state,
        reason=machine.reason,
        since=seen.since,
        heard=seen.heard if heard else 0.0,
    )


def health_view(lab: Lab, machine: str) -> HealthView:
    """Return the health of a machine."""
    known, check = lab.queue.health.of(machine), lab.health_service.check_of(machine)
    if check is None and machine not in lab.queue.health:
        return _NOTHING_KNOWN
    return HealthView(
        faults=tuple(
            FaultView(run=each.run, workload=each.series.name, reason=each.reason, at=each.at) for each in known.faults
        ),
        held=known.holding,
        group=check.group if check is not None else "",
        template=check.plan.template if check is not None else "",
        run=known.run,
        due=known.due,
        tries=known.tries,
        checked=known.checked,
        last=known.last,
        outcome=known.outcome,
        why=known.reason,
    )


def machine_view(lab: Lab, seen: MachineRecord, *, heard: bool = True) -> LabMachine:
    """Return one machine; unless `heard`, without when it last asked."""
    machine = seen.machine
    state, reason, since = standing_of(lab.machines, lab.queue, seen, lab.lab_state.clock.now())
    groups = lab.queue.groups
    return LabMachine(
        id=machine.id,
        identities=tuple(sorted(machine.identities)),
        labels=machine.labels,
        driven=machine.driven,
        state=state,
        reason=reason,
        since=since,
        heard=seen.heard if heard else 0.0,
        hold=seen.hold,
        runs=tuple(filter(None, (seen.holds, *seen.also))),
        groups=tuple(name for name in groups if suits(groups.requires(name), machine.labels)),
        leaving=seen.leaving,
        health=health_view(lab, seen.id),
    )
