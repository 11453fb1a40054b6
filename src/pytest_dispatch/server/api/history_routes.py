"""The routes of the API for history."""

from __future__ import annotations

from pytest_dispatch.core.annotations import Note
from pytest_dispatch.core.ended_runs import EndedRun, HistoryPage
from pytest_dispatch.server.api import history_handlers as handlers
from pytest_dispatch.server.api.history_schemas import (
    ConsoleView,
    NoteWanted,
    OverrideWanted,
    SeriesView,
    TrendsView,
)
from pytest_dispatch.server.api.route import Route
from pytest_dispatch.server.auth.roles import Role

HISTORY_ROUTES = (
    Route(
        method="GET",
        path="/history",
        handler=handlers.search_history,
        needs=Role.READER,
        summary="The runs that have ended and that the search `q` finds, newest first: `most` of them (50, at most 200)"
        " before the place `before`",
        gives=HistoryPage,
        query=("before", "most"),
        words=("q",),
    ),
    Route(
        method="GET",
        path="/history/series",
        handler=handlers.show_series,
        needs=Role.READER,
        summary="Statistics of workloads by machine, and where they turned from good to bad: those of a `kind`, an"
        " `origin` and a `name`, all of which may be left out; `most` of them (20, at most 100)",
        gives=list[SeriesView],
        query=("most",),
        words=("kind", "origin", "name"),
    ),
    Route(
        method="GET",
        path="/history/trends",
        handler=handlers.show_trends,
        needs=Role.READER,
        summary="The numbers of the charts `over` 1h, 24h (unless it says otherwise), 7d or 30d: outcomes and waits,"
        " the use of machines, the time in each state, and flaky workloads",
        gives=TrendsView,
        words=("over",),
    ),
    Route(
        method="POST",
        path="/runs/{run}/override",
        handler=handlers.override,
        needs=Role.OPERATOR,
        audit="run.override",
        summary="Give a run that has ended another outcome, with a reason; what it ended with stays beside it",
        takes=OverrideWanted,
        gives=EndedRun,
        checked=False,
        kept=True,
    ),
    Route(
        method="DELETE",
        path="/runs/{run}/override",
        handler=handlers.withdraw_override,
        needs=Role.OPERATOR,
        audit="run.withdraw-override",
        summary="Give a run back the outcome that it ended with",
        gives=EndedRun,
        checked=False,
        kept=True,
    ),
    Route(
        method="POST",
        path="/runs/{run}/notes",
        handler=handlers.add_note,
        needs=Role.OPERATOR,
        audit="run.note",
        summary="Add a note to a run that has ended",
        takes=NoteWanted,
        gives=Note,
        status=201,
        checked=False,
        kept=True,
    ),
    Route(
        method="DELETE",
        path="/runs/{run}/notes/{note}",
        handler=handlers.delete_note,
        needs=Role.OPERATOR,
        audit="run.delete-note",
        summary="Delete a note of a run",
        status=204,
        checked=False,
        kept=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}/console",
        handler=handlers.show_console,
        needs=Role.READER,
        summary="The console of an `attempt` of a run (the last one) after the place `after`; if there is none yet,"
        " within `wait` seconds (at most 30)",
        gives=ConsoleView,
        query=("attempt", "after", "wait"),
        kept=True,
    ),
    Route(
        method="GET",
        path="/runs/{run}/junit",
        handler=handlers.show_junit,
        needs=Role.READER,
        summary="A run that has ended as a JUnit file (`application/xml`), as pytest's `--dispatch-junit` has it",
        kept=True,
    ),
)
