"""Builds the API's views of runs, machines and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.server.api.schemas import Held, HeldView, RunView, bare, console_lines, slim

if TYPE_CHECKING:
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
