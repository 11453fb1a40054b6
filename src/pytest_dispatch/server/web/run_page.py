"""The page of a run: how it stands and why, its attempts with their times, what it said, its console."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.explanation import ObstacleKind
from pytest_dispatch.core.model import BAD, Outcome, Phase
from pytest_dispatch.core.run_options import MachineChoice
from pytest_dispatch.lab.queue_service import QUEUED
from pytest_dispatch.server.api.group_schemas import AgainWanted
from pytest_dispatch.server.api.handlers import show_run
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.api.session_handlers import explain_run
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.web.deeds import Deed, Deeds, Fields, act
from pytest_dispatch.server.web.history_page import found_by
from pytest_dispatch.server.web.markdown_text import markdown
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.server.web.run_console import asked_of, console_part
from pytest_dispatch.server.web.run_people import deeds_of
from pytest_dispatch.server.web.steering import QUEUE_DEEDS
from pytest_dispatch.server.web.words import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web
    from markupsafe import Markup

    from pytest_dispatch.core.explanation import Candidate, Explanation
    from pytest_dispatch.core.model import Attempt, Case, Moment, Report, Run
    from pytest_dispatch.lab.lab import Lab
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.server.api.schemas import RunView
    from pytest_dispatch.server.auth.principals import Principal
    from pytest_dispatch.server.web.forms import Form

MOST_ATTEMPTS = 12  # attempts, the last ones
MOST_REPORTS = 30  # reports of an attempt, the first ones
MOST_CASES = 200  # cases of a report
MOST_MACHINES = 50  # machines, as seen from a run that waits
NAMED = 3  # runs that go first
LONGEST_BODY = 20_000  # characters of a report's text

#: Whose fault an outcome is.
_CAUSES = {
    Outcome.FAILED: "The workload failed",
    Outcome.ERROR: "The lab failed, not the workload",
    Outcome.SKIPPED: "It was skipped",
    Outcome.PASSED: "It passed",
}
#: What keeps a run from every machine, so that it is told of each.
_EVERYWHERE = {
    ObstacleKind.STOPPING,
    ObstacleKind.LAB_HOLD,
    ObstacleKind.RUN_HOLD,
    ObstacleKind.PAUSE,
    ObstacleKind.NEEDS,
}
CANCELLED = "cancelled"  # what a run is called that somebody cancelled, whose fault nothing is


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A state of an attempt.

    Attributes:
        lasted: Seconds until the next state; None for the last one.
    """

    moment: Moment
    lasted: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """An attempt, as the page shows it.

    Attributes:
        ended: How it ended, in a word; empty if it has not.
        texts: The texts of its reports as markup; None for those that are shown as they were written.
        cases: Its cases, those that did not pass before the others.
    """

    attempt: Attempt
    ended: str
    steps: Sequence[Step]
    texts: Sequence[Markup | None]
    cases: Sequence[Case]

    @property
    def reports(self) -> list[tuple[Report, Markup | None]]:
        """Return the reports that are shown, each with its text as markup."""
        return list(zip(self.attempt.reports, self.texts, strict=False))

    @property
    def seconds(self) -> float:
        """Return how long it took, from the queue to its last state."""
        return self.attempt.since - self.attempt.history[0].at


@page
async def show_run_page(context: ApiContext, request: web.Request, body: None) -> Page:
    """Return the page."""
    view = await show_run(context, request, body)
    run = view.run
    waits = run.outcome is None and run.attempt.phase is Phase.QUEUED
    explanation = await explain_run(context, request, body) if waits else None
    live, ended = context.lab.lab_state.live_sessions.get(run.session), _ended(run, view)
    values = {
        "view": view,
        "run": run,
        "ended": ended,
        "sentence": explanation.sentence if explanation is not None else _cause(run),
        "explanation": explanation,
        "machines": _seen(explanation) if explanation is not None else (),
        "first": _goes_first(context.lab, explanation, request[PRINCIPAL]) if explanation is not None else (),
        "session": live.record if live is not None else None,
        "edits": waits and live is not None and live.record.source == QUEUED,
        "hold": context.lab.queue.transitions.held.get(run.id),
        "priorities": PRIORITIES,
        "outcomes": [each for each in Outcome if each != (view.override.outcome if view.override else run.outcome)],
        **await _what_it_did(context, request, run),
    }
    events = f"run:{run.id} ended:{run.id}" + (" queue group machine hold" if waits else "")
    return Page(
        template="run.html", title=f"{run.workload.name}: {ended or run.attempt.state}", live=events, values=values
    )


async def _what_it_did(context: ApiContext, request: web.Request, run: Run) -> dict[str, object]:
    """Return the values of the page about what a run did, and what was done with it."""
    asked = asked_of(request, run)
    return {
        "tries": await _tries(run),
        "earlier": len(run.attempts) - MOST_ATTEMPTS,
        "longest": LONGEST_BODY,
        "asked": asked,
        "console": await console_part(context, run, asked),
        "turning": await context.lab.history.turning(run.id) if run.outcome in BAD else None,
        "people": await deeds_of(context, run),
        "found_by": found_by,
    }


def _seen(explanation: Explanation) -> list[Candidate]:
    """Return the machines, as seen from a run: what keeps the run itself keeps each of them that fits."""
    everywhere = [each.text for each in explanation.obstacles if each.kind in _EVERYWHERE]
    return [
        replace(each, why="; ".join(filter(None, [*everywhere, each.why]))) if each.could else each
        for each in explanation.machines[:MOST_MACHINES]
    ]


def _goes_first(lab: Lab, explanation: Explanation, reader: Principal) -> list[Run]:
    """Return the first of the runs that go before one, of those that the reader may see."""
    ahead = [run for each in explanation.obstacles if each.kind is ObstacleKind.AHEAD for run in each.runs]
    known = [lab.queue.runs[run] for run in ahead if run in lab.queue.runs]
    return [run for run in known if reader.may_use(run.group)][:NAMED]


def _cause(run: Run) -> str:
    """Return whose fault it is that a run ended as it did, and why."""
    if run.outcome is None:
        where = f" on {run.attempt.where}" if run.attempt.where else ""
        return f"It is {run.attempt.state}{where}."
    if run.cancelled:
        told = run.reason or CANCELLED
        return f"It was {told}." if told.startswith(CANCELLED) else f"It was cancelled: {told}."
    reason = run.reason or run.attempt.reason
    flaky = f", at attempt {len(run.attempts)}" if run.flaky else ""
    return f"{_CAUSES[run.outcome]}{flaky}{f': {reason}' if reason else ''}."


def _ended(run: Run, view: RunView) -> str:
    """Return how a run ended, in a word; empty if it has not."""
    if view.override is not None:
        return str(view.override.outcome)
    return CANCELLED if run.cancelled else str(run.outcome or "")


async def _tries(run: Run) -> list[Try]:
    """Return the last attempts, in order."""
    attempts = run.attempts[-MOST_ATTEMPTS:]
    texts = iter(await markdown([report.body for each in attempts for report in each.reports[:MOST_REPORTS]]))
    return [_try(run, each, list(islice(texts, min(len(each.reports), MOST_REPORTS)))) for each in attempts]


def _try(run: Run, attempt: Attempt, texts: Sequence[Markup | None]) -> Try:
    cut_off = run.cancelled and attempt is run.attempt
    return Try(
        attempt=attempt,
        ended=CANCELLED if cut_off else str(attempt.outcome or ""),
        steps=_steps(attempt),
        texts=texts,
        cases=_cases(attempt),
    )


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
