"""The page of a run: how it stands and why, its attempts with their times, what it said, its console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import BAD, Outcome, Phase
from pytest_dispatch.core.run_options import MachineChoice
from pytest_dispatch.server.api.group_schemas import AgainWanted
from pytest_dispatch.server.api.handlers import show_run
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.api.session_handlers import explain_run
from pytest_dispatch.server.web.deeds import Deed, Deeds, Fields, act
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.steering import QUEUE_DEEDS
from pytest_dispatch.server.web.words import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pytest_dispatch.core.model import Attempt, Case, Moment, Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.web.forms import Form

MOST_LINES = 400  # lines of the console, the last ones
MOST_CASES = 200  # cases of a report
MOST_MACHINES = 50  # machines, as seen from a run that waits
LONGEST_BODY = 20_000  # characters of a report's text

#: Whose fault an outcome is.
_CAUSES = {
    Outcome.FAILED: "The workload failed",
    Outcome.ERROR: "The lab failed, not the workload",
    Outcome.SKIPPED: "It was skipped",
    Outcome.PASSED: "It passed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A state of an attempt.

    Attributes:
        lasted: Seconds until the next state; None for the last one.
    """

    moment: Moment
    lasted: float | None


@page
async def show_run_page(context: ApiContext, request: web.Request, body: None) -> Page:
    """Return the page."""
    view = await show_run(context, request, body)
    run = view.run
    waits = run.outcome is None and run.attempt.phase is Phase.QUEUED
    explanation = await explain_run(context, request, body) if waits else None
    live = context.lab.lab_state.live_sessions.get(run.session)
    following = run.outcome is None and run.attempt.phase not in (Phase.QUEUED, Phase.OVER)
    values = {
        "view": view,
        "run": run,
        "sentence": explanation.sentence if explanation is not None else _cause(run),
        "explanation": explanation,
        "machines": explanation.machines[:MOST_MACHINES] if explanation is not None else (),
        "session": live.record if live is not None else None,
        "attempts": [(each, _steps(each), _cases(each)) for each in reversed(run.attempts)],
        "console": view.console[-MOST_LINES:],
        "cut": len(view.console) - MOST_LINES,
        "following": following,
        "hold": context.lab.queue.transitions.held.get(run.id),
        "priorities": PRIORITIES,
        "outcome": view.override.outcome if view.override is not None else run.outcome,
        "outcomes": tuple(Outcome),
        "choices": tuple(MachineChoice),
        "longest": LONGEST_BODY,
    }
    events = f"run:{run.id} ended:{run.id}" + (" queue group machine hold" if waits else "")
    return Page(template="run.html", title=run.workload.name, live=events, values=values)


def _cause(run: Run) -> str:
    """Return whose fault it is that a run ended as it did, and why."""
    if run.outcome is None:
        where = f" on {run.attempt.where}" if run.attempt.where else ""
        return f"It is {run.attempt.state}{where}."
    if run.cancelled:
        return "It was cancelled."
    reason = run.reason or run.attempt.reason
    flaky = f", at attempt {len(run.attempts)}" if run.flaky else ""
    return f"{_CAUSES[run.outcome]}{flaky}{f': {reason}' if reason else ''}."


def _steps(attempt: Attempt) -> list[Step]:
    ends = [moment.at for moment in attempt.history[1:]]
    return [
        Step(moment=moment, lasted=ends[place] - moment.at if place < len(ends) else None)
        for place, moment in enumerate(attempt.history)
    ]


def _cases(attempt: Attempt) -> list[Case]:
    """Return the first cases of an attempt, those that did not pass before the others."""
    cases = [case for report in attempt.reports for case in report.cases]
    return sorted(cases, key=lambda case: case.outcome not in BAD)[:MOST_CASES]


# What is done


def _again(form: Form, _place: int) -> AgainWanted:
    given = form.one("machine")
    if given not in {str(each) for each in MachineChoice}:
        raise ConfigError(
            f"machine: expected one of {', '.join(filter(None, MachineChoice))}, or nothing, got {given[:40]!r}"
        )
    return AgainWanted(machine=MachineChoice(given))


def _overridden(form: Form, _place: int) -> OverrideWanted:
    given = form.one("outcome")
    if given not in {str(each) for each in Outcome}:
        raise ConfigError(f"outcome: expected one of {', '.join(Outcome)}, got {given[:40]!r}")
    return OverrideWanted(outcome=Outcome(given), reason=form.one("reason"))


def _noted(form: Form, _place: int) -> NoteWanted:
    return NoteWanted(text=form.one("text"))


async def _counted_before(lab: Lab, runs: Sequence[str]) -> Fields | None:
    """Return what has runs count as they do now, which an earlier override may say; None if each counts otherwise."""
    ended = [(await lab.history.added(run)).ended for run in runs]
    before = {(each.override.outcome, each.override.reason) if each and each.override else None for each in ended}
    last, named = before.pop(), tuple(("run", run) for run in runs)
    if before:
        return None
    if last is None:
        return (("do", "withdraw"), *named)
    return (("do", "override"), ("outcome", last[0]), ("reason", last[1]), *named)


async def _override(lab: Lab, run: str) -> str:
    """Return as what a run counts that ended otherwise; empty if it counts as it ended."""
    ended = (await lab.history.added(run)).ended
    return str(ended.override.outcome) if ended is not None and ended.override is not None else ""


RUN_DEEDS = Deeds(
    action="/runs",
    known={
        **{name: QUEUE_DEEDS.known[name] for name in ("top", "hold", "release", "cancel", "back")},
        "again": Deed(operation=("POST", "/runs/{run}/again"), body=_again, done="queued again"),
        "override": Deed(
            operation=("POST", "/runs/{run}/override"),
            body=_overridden,
            done="counts otherwise now",
            undo=_counted_before,
        ),
        "withdraw": Deed(
            operation=("DELETE", "/runs/{run}/override"),
            done="counts as it ended",
            seen=_override,
            idle="counts as it ended already",
        ),
        "note": Deed(operation=("POST", "/runs/{run}/notes"), body=_noted, done="noted"),
    },
)


async def steer_run(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what a form asks for with a run."""
    return await act(context, request, RUN_DEEDS)
