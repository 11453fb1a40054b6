"""Builds the API's views of runs, machines and sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.server.api.schemas import (
    Held,
    HeldView,
    MachineView,
    RunView,
    SessionView,
    bare,
    console_lines,
    slim,
)

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext


def run_view(context: ApiContext, run: Run, *, whole: bool, reports: bool = True) -> RunView:
    """Return a run's view; without `whole`, leave out the console and long texts; without `reports`, all reports."""
    lab = context.lab
    told = run if whole else slim(run) if reports else bare(run)
    return RunView(
        run=told,
        version=run.version,
        digest=lab.lab_state.digest_of(run),
        console=console_lines(lab.console.of(run)) if whole else (),
        issues=tuple(lab.lab_state.live_session(run.session).urls(run)),
        links=lab.lab_state.tracker.links_of(run.id),
        filing=lab.issues.filing(run),
        whole=whole,
    )


def session_view(context: ApiContext, session: str) -> SessionView:
    """Return the view of a session.

    Raises:
        UnknownError: There is no session with that id.
    """
    context.lab.lab_state.live_session(session)
    private, notices = context.lab.private, context.lab.notices
    outbox = context.lab.issues.status("" if private else session)
    views = [(seen, _machine_view(context, seen, session)) for seen in context.lab.queue.machines.values()]
    return SessionView(
        id=session,
        machines=tuple(view for _, view in views if private or view.ran),
        issues_pending=outbox.pending,
        issues_filed=outbox.filed,
        unfiled=outbox.unfiled,
        mdns=context.mdns(),
        notices=tuple(each for each in notices.all() if notices.concerns(session, each)),
        more_notices=notices.more if private else 0,
        notifications=tuple(context.lab.notifier.status(session)),
    )


MOST_HELD = 20  # held runs that a session is told of


def held_view(lab: Lab, session: str) -> HeldView:
    """Return what keeps runs of a session waiting: the lab's hold, paused groups, and the first runs that are held."""
    queue, groups, held = lab.queue, lab.queue.groups, lab.queue.transitions.held
    if not groups.pauses and not held:
        return HeldView()
    order = queue.transitions.run_index.order
    waiting = [run for run in queue.sessions.runs_of(session) if run.id in order(run.group)]
    found: list[Held] = []
    if waiting and groups.lab_hold is not None:
        found.append(Held(what="lab", name="", hold=groups.lab_hold))
    paused = [group for group in dict.fromkeys(run.group for run in waiting) if group in groups.pauses]
    found += [Held(what="group", name=group, hold=groups.pauses[group]) for group in paused]
    alone = [run for run in waiting if run.id in held][:MOST_HELD]
    found += [Held(what="run", name=run.workload.name, hold=held[run.id]) for run in alone]
    return HeldView(holds=tuple(found))


#: States of a machine that holds no run: such a machine is off if its driver says so.
_AWAY = {MachineState.IDLE, MachineState.OFFLINE}


def _machine_view(context: ApiContext, seen: MachineRecord, session: str) -> MachineView:
    """Return the view of a machine, with only those of its runs that belong to the session."""
    lab, queue = context.lab, context.lab.queue
    machine, off = queue.machine(seen.id, lab.lab_state.clock.now()), lab.machines.is_off(seen.id)
    if off and machine.state in _AWAY:
        machine = replace(machine, state=MachineState.OFF, reason="")
    ran = [queue.runs[run_id] for run_id in seen.ran if run_id in queue.runs]
    return MachineView(
        name=seen.id,
        heard=seen.heard,
        off=off,
        ran=tuple(run.workload.name for run in ran if run.session == session),
        awaited=lab.machines.is_awaited(seen.id) if lab.private else _holds_of(context, seen, session),
        labels=machine.labels,
        state=machine.state,
        reason=machine.reason,
        since=machine.since,
    )


def _holds_of(context: ApiContext, seen: MachineRecord, session: str) -> bool:
    return bool(seen.holds) and context.lab.session_service.run(seen.holds).session == session
