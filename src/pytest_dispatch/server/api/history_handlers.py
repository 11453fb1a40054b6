"""The handlers of the API for history: searches, series, and what people add to runs that have ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.core.annotations import Note
from pytest_dispatch.core.ended_runs import EndedRun, HistoryPage
from pytest_dispatch.core.history_search import read_search, within
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.trends import OVER, USUAL, Span
from pytest_dispatch.lab.state import NotEndedError
from pytest_dispatch.server.api.handlers import LONGEST_WAIT
from pytest_dispatch.server.api.history_schemas import (
    ConsoleView,
    MachineSeriesView,
    NoteWanted,
    OverriddenView,
    OverrideWanted,
    SeriesView,
    SlotView,
    TrendsView,
)
from pytest_dispatch.server.api.query import number, whole
from pytest_dispatch.server.api.schemas import ConsoleLine, RunView, console_lines, slim
from pytest_dispatch.server.auth.audited_changes import CHANGED, Changed
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.principals import PRINCIPAL, Principal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.core.history_search import Search
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.core.trends import Trends
    from pytest_dispatch.lab.history import History, SeriesHistory
    from pytest_dispatch.server.api.route import ApiContext
    from pytest_dispatch.store.history_reader import ConsolePiece

PAGE = 50  # runs in a page if the request does not say how many
LONGEST_PAGE = 200  # most runs in a page
SERIES = 20  # series in an answer if the request does not say how many
MOST_SERIES = 100  # most series in an answer
LAST_PIECES = 200  # pieces of a console that are looked at for the text of a run


async def search_history(context: ApiContext, request: web.Request, _body: None) -> HistoryPage:
    """Return a page of the runs that a search finds."""
    search = search_of(context, request)
    before, most = whole(request, "before", 0, "the `before` of a page"), whole(request, "most", PAGE)
    return await context.lab.history.page(search, before or None, max(1, min(most, LONGEST_PAGE)))


def search_of(context: ApiContext, request: web.Request) -> Search:
    """Return what a request searches for: `q`, among the runs that the caller may see.

    Raises:
        SearchError: It cannot be understood.
    """
    now = context.lab.lab_state.clock.now()
    return within(read_search(request.query.get("q", ""), now), request[PRINCIPAL].groups)


async def latest_runs(context: ApiContext, principal: Principal, wanted: str, most: int) -> HistoryPage:
    """Return the newest runs that a search finds among those that somebody may see.

    Args:
        context: The lab.
        principal: Who searches.
        wanted: The search.
        most: How many runs to return, as far as a page may be so long.

    Raises:
        SearchError: The search cannot be understood.
    """
    search = within(read_search(wanted, context.lab.lab_state.clock.now()), principal.groups)
    return await context.lab.history.page(search, None, max(1, min(most, LONGEST_PAGE)))


async def show_series(context: ApiContext, request: web.Request, _body: None) -> list[SeriesView]:
    """Return the statistics of series.

    Raises:
        ForbiddenError: The caller's token is for some groups only, and statistics are of all.
    """
    if request[PRINCIPAL].groups is not None:
        raise ForbiddenError("expected a token for all groups, whose runs these statistics count, got one for some")
    kind, origin, name = (request.query.get(word, "") for word in ("kind", "origin", "name"))
    most = max(1, min(whole(request, "most", SERIES), MOST_SERIES))
    return [_series_view(each) for each in await context.lab.history.series(kind, origin, name, most)]


def _series_view(found: SeriesHistory) -> SeriesView:
    series = found.series
    machines = tuple(_machine_view(found, machine) for machine in sorted(found.sketches))
    return SeriesView(kind=series.kind, source=series.origin, name=series.name, machines=machines)


def _machine_view(found: SeriesHistory, machine: str) -> MachineSeriesView:
    sketch = found.sketches[machine]
    passed = sketch.outcomes.get(Outcome.PASSED, 0)
    counts: dict[tuple[Outcome, Outcome], int] = {}
    for each in found.overridden:
        if machine in ("", each.machine):
            key = (each.original, each.outcome)
            counts[key] = counts.get(key, 0) + each.count
    return MachineSeriesView(
        machine=machine,
        runs=sketch.runs,
        outcomes=sketch.outcomes,
        overridden=tuple(OverriddenView(original=was, outcome=now, count=n) for (was, now), n in counts.items()),
        flaky=sketch.flaky,
        flaky_rate=sketch.flaky / passed if passed else None,
        p50=sketch.quantile(0.5),
        p90=sketch.quantile(0.9),
        turning_point=found.turning[machine],
    )


async def show_trends(context: ApiContext, request: web.Request, _body: None) -> TrendsView:
    """Return how the lab has done over a time.

    Raises:
        msgspec.ValidationError: It is none of those that there are.
    """
    over = request.query.get("over", USUAL)
    if over not in OVER:
        raise msgspec.ValidationError(f"query parameter over: expected one of {', '.join(OVER)}, got {over[:40]!r}")
    found = await trends_over(context, request, over)
    slots = zip(found.span.begins, found.outcomes, found.waits, strict=True)
    return TrendsView(
        over=over,
        width=found.span.width,
        slots=tuple(SlotView(begins=begins, outcomes=outcomes, wait=wait) for begins, outcomes, wait in slots),
        looked_at=found.looked_at,
        machines=tuple(found.machines),
        used_since=found.used_since,
        states=tuple(found.states),
        flaky=tuple(found.flaky),
    )


async def trends_over(context: ApiContext, request: web.Request, over: str) -> Trends:
    """Return what charts show of one of the times `OVER`, among the runs that the caller may see."""
    span = Span.until(context.lab.lab_state.clock.now(), *OVER[over])
    return await context.lab.history.trends(span, request[PRINCIPAL].groups)


# What people add


async def override(context: ApiContext, request: web.Request, body: OverrideWanted) -> EndedRun:
    """Give a run that has ended another outcome."""
    run, who = request.match_info["run"], request[PRINCIPAL].name
    before, now = await context.lab.history.override(run, body.outcome, body.reason, who)
    request[CHANGED] = Changed(run, _outcome_of(before), _outcome_of(now))
    return now


async def withdraw_override(context: ApiContext, request: web.Request, _body: None) -> EndedRun:
    """Give a run back the outcome that it ended with."""
    run = request.match_info["run"]
    before, now = await context.lab.history.withdraw(run)
    request[CHANGED] = Changed(run, _outcome_of(before), _outcome_of(now))
    return now


def _outcome_of(ended: EndedRun) -> dict[str, str]:
    """Return what the audit log says of a run's outcome."""
    told = {"outcome": str(ended.outcome)}
    return told if ended.override is None else {**told, "reason": ended.override.reason}


async def add_note(context: ApiContext, request: web.Request, body: NoteWanted) -> Note:
    """Add a note to a run that has ended."""
    run = request.match_info["run"]
    note = await context.lab.history.note(run, body.text, request[PRINCIPAL].name)
    request[CHANGED] = Changed(run, after={"note": note.id, "text": note.text})
    return note


async def delete_note(context: ApiContext, request: web.Request, _body: None) -> None:
    """Delete a note of a run."""
    run = request.match_info["run"]
    note = await context.lab.history.delete_note(run, request.match_info["note"])
    request[CHANGED] = Changed(run, before={"note": note.id, "text": note.text})


# A run in full


async def show_console(context: ApiContext, request: web.Request, _body: None) -> ConsoleView:
    """Return a part of a run's console, as soon as there is one."""
    history = context.lab.history
    attempt, after = whole(request, "attempt", 0), whole(request, "after", 0)
    wait = max(0.0, min(number(request, "wait", 0), LONGEST_WAIT))
    found = await history.console(request.match_info["run"], attempt, after, wait)
    lines = tuple(_lines(found.pieces))
    gone = found.complete and not lines and not after and await _is_gone(history, found.run)
    last = found.pieces[-1].id if found.pieces else after
    return ConsoleView(
        run=found.run, attempt=found.attempt, lines=lines, after=last, complete=found.complete, gone=gone
    )


def _lines(pieces: Sequence[ConsolePiece]) -> Sequence[ConsoleLine]:
    return console_lines((piece.at, text) for piece in pieces for text in piece.text.split("\n"))


async def _is_gone(history: History, run: str) -> bool:
    ended = (await history.added(run)).ended
    return ended is not None and "consoles" in history.gone(ended.ended)


async def show_junit(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Return a run as a JUnit file.

    Raises:
        NotEndedError: It has not ended.
    """
    from pytest_dispatch.results.junit_writer import junit_text
    from pytest_dispatch.results.run_cases import junit_cases

    view = await forgotten_view(context, request.match_info["run"])
    if view.run.outcome is None:
        raise NotEndedError(f"{view.run.id}: expected a run that has ended, got one that has not; wait, or cancel it")
    console = [(line.at, line.text) for line in view.console]
    cases = [*junit_cases(view.run, view.digest, console, view.issues, view.links)]
    return web.Response(body=junit_text(cases), content_type="application/xml", charset="utf-8")


async def forgotten_view(context: ApiContext, run_id: str, *, brief: bool = False) -> RunView:
    """Return the view of a run as the journal has it, whether the lab has it in memory or not.

    Args:
        context: The lab.
        run_id: Id of the run.
        brief: Leave out the console and long texts.

    Raises:
        UnknownError: There is no run with that id.
    """
    context.lab.lab_state.hand_over()
    await context.lab.lab_state.on_disk()
    history = context.lab.history
    kept, issues = await history.kept(run_id)
    run = kept.run
    view = RunView(
        run=slim(run) if brief else run,
        version=run.version,
        digest=kept.digest or run.workload.digest,
        console=() if brief else tuple(_lines(await history.last_console(run.id, _shown_attempt(run), LAST_PIECES))),
        issues=tuple(issues),
        links=await context.lab.lab_state.journal.background.of_issues(lambda reader: reader.links_of(run_id)),
        whole=not brief,
    )
    return await with_added(context, view)


async def with_added(context: ApiContext, view: RunView) -> RunView:
    """Return the view of a run that has ended with what people added to it."""
    history = context.lab.history
    added = await history.added(view.run.id)
    if added.ended is None:
        return view
    gone = history.gone(added.ended.ended)
    return replace(view, override=added.ended.override, notes=added.notes, gone=gone)


def _shown_attempt(run: Run) -> int:
    """Return the number of the latest attempt that had a machine, whose console is shown."""
    return next((attempt.number for attempt in reversed(run.attempts) if attempt.machine), len(run.attempts))
