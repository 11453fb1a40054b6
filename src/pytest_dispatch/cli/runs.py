"""`dispatch runs`: what is under way, and all that is known of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb
from pytest_dispatch.cli.console import CONSOLE, JUNIT
from pytest_dispatch.cli.names import ANY_RUN, find_run, short_id
from pytest_dispatch.cli.output import tick
from pytest_dispatch.cli.page import Answer, Cell, Column, Facts, Sentence, Table, Tone, cells
from pytest_dispatch.cli.run_notes import LINK, NOTE, OVERRIDE
from pytest_dispatch.cli.series import SERIES
from pytest_dispatch.cli.state_colors import OF_OUTCOMES, state_cell
from pytest_dispatch.cli.times import ago, moment, since
from pytest_dispatch.cli.trends import TRENDS
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.explanation import told_place
from pytest_dispatch.core.model import Phase
from pytest_dispatch.server.api.lab_schemas import LabRun
from pytest_dispatch.server.api.schemas import RunView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from pytest_dispatch.cli.page import Block
    from pytest_dispatch.client.operator_client import OperatorClient
    from pytest_dispatch.core.annotations import Override
    from pytest_dispatch.core.model import Attempt, Report, Run

COLUMNS = (
    Column("RUN"),
    Column("WORKLOAD"),
    Column("GROUP"),
    Column("STATE"),
    Column("FOR", right=True),
    Column("MACHINE"),
    Column("WHY", wraps=True),
)
STATES = (Column("STATE"), Column("FROM"), Column("TOOK", right=True))
CASES = (Column("CASE"), Column("OUTCOME"), Column("TOOK", right=True), Column("MESSAGE", wraps=True))
WAIT = 20.0  # seconds of one long poll
LAST_LINES = 10  # of a console


def run_table(runs: Iterable[LabRun], empty: str) -> Table:
    """Return a table of runs."""
    return Table(COLUMNS, tuple(map(_row, runs)), empty)


def _row(run: LabRun) -> tuple[Cell, ...]:
    state = state_cell(run.state, run.phase, run.outcome)
    attempt = f"attempt {run.attempt}" if run.attempt > 1 else ""
    why = "; ".join(filter(None, (attempt, run.reason)))
    return cells(short_id(run.id), run.name, run.group, state, since(run.since), ", ".join(run.machines), why)


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    runs = client.runs()
    return Answer(runs, (run_table(runs, "nothing is under way"),))


def _watch(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    from pytest_dispatch.client.lab_watch import watch_lab

    for sight in watch_lab(client, tick(given)):
        page: list[Block] = [run_table(sight.lab.runs, "nothing is under way")]
        page += [Sentence(sight.away, Tone.HELD)] if sight.away else []
        yield Answer(sight.lab.runs, tuple(page))


def _show(client: OperatorClient, given: Namespace) -> Answer:
    view = client.run(find_run(client, given.run))
    return Answer(view, tuple(_page(view, _waits(client, view))))


def _waits(client: OperatorClient, view: RunView) -> str:
    """Return why a run waits; empty if it does not."""
    if view.run.outcome is not None or view.run.attempt.phase is not Phase.QUEUED:
        return ""
    found = client.explanation(view.run.id)
    return " ".join(filter(None, (found.sentence, f"({place})" if (place := told_place(found, time.time())) else "")))


def _watch_run(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    """Yield a run until it is over."""
    view = client.run(find_run(client, given.run))
    while True:
        yield Answer(view, tuple(_page(view)))
        if view.run.outcome is not None and not view.filing:
            return
        after, wait = view.version, WAIT if tick(given) is None else 1.0
        view = client.run(view.run.id, after, wait)


def _page(view: RunView, waits: str = "") -> Iterator[Block]:
    run = view.run
    facts = {**_facts(run, view), "waits": Cell(waits)}
    yield Facts(tuple((name, cell) for name, cell in facts.items() if cell.text))
    for attempt in run.attempts:
        if len(run.attempts) > 1:
            where = f" on {attempt.where}" if attempt.where else ""
            yield Sentence(f"attempt {attempt.number}{where}: {attempt.outcome or attempt.state}", Tone.STRONG)
        yield _states(attempt)
        yield from map(_cases, (report for report in attempt.reports if report.cases))
    if view.console:
        last = "\n".join(line.text for line in view.console[-LAST_LINES:])
        yield Sentence(last, Tone.QUIET)


def _facts(run: Run, view: RunView) -> dict[str, Cell]:
    last = run.attempt
    said = "; ".join(report.title for report in last.reports)
    return {
        "run": Cell(run.id, Tone.STRONG),
        "workload": Cell(run.workload.name),
        "kind": Cell(run.workload.kind),
        "state": _outcome(run, view.override),
        "why": Cell(run.reason or last.reason),
        "machine": Cell(last.where),
        "group": Cell(run.group),
        "priority": Cell(run.priority.name.lower()),
        "requires": Cell(", ".join(map(str, run.workload.requires))),
        "said": Cell(said),
        "digest": Cell(view.digest),
        "override": Cell("" if view.override is None else _override(view.override)),
        "issues": Cell(" ".join(dict.fromkeys((*view.issues, *(link.url for link in view.links))))),
        **{f"note {note.id}": Cell(f"{note.text} ({note.who}, {ago(note.at)})") for note in view.notes},
    }


def _outcome(run: Run, override: Override | None) -> Cell:
    """Return how a run stands; with what it was before a person changed it."""
    if override is not None:
        return Cell(f"{override.outcome} (was {run.outcome})", OF_OUTCOMES[override.outcome])
    return state_cell(run.attempt.state, run.attempt.phase, run.outcome)


def _override(override: Override) -> str:
    return f"{override.outcome}: {override.reason} ({override.who}, {ago(override.at)})"


def _states(attempt: Attempt) -> Table:
    ends = [each.at for each in attempt.history[1:]]
    took = [format_duration(end - each.at) for each, end in zip(attempt.history, ends, strict=False)]
    took += [] if attempt.ended else [since(attempt.since)]
    rows = (
        cells(state_cell(each.state, each.phase, None), moment(each.at), how_long)
        for each, how_long in zip(attempt.history, [*took, ""], strict=False)
    )
    return Table(STATES, tuple(rows), "")


def _cases(report: Report) -> Table:
    rows = (
        cells(case.name, Cell(case.outcome, OF_OUTCOMES[case.outcome]), format_duration(case.duration), case.message)
        for case in report.cases
    )
    return Table(CASES, tuple(rows), "")


RUNS = Noun(
    "runs",
    "show what is under way, and all that is known of a run",
    (
        Verb("list", "show what is under way", list[LabRun], _list, watch=_watch),
        Verb("show", "show all about one run", RunView, _show, watch=_watch_run, arguments=(ANY_RUN,)),
        CONSOLE,
        JUNIT,
        SERIES,
        TRENDS,
        OVERRIDE,
        NOTE,
        LINK,
    ),
)
