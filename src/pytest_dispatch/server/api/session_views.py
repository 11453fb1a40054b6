"""Builds the API's views of sessions and of their machines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.server.api.session_schemas import MachineView, SessionView

if TYPE_CHECKING:
    from pytest_dispatch.core.machine_record import MachineRecord
    from pytest_dispatch.server.api.route import ApiContext


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
