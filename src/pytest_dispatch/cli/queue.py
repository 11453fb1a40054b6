"""`dispatch queue`: what waits for a machine, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import PRIORITIES, Noun, Verb, argument
from pytest_dispatch.cli.holds import HOLD, hold_wanted
from pytest_dispatch.cli.names import RUN, find_run, short_id
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.output import tick
from pytest_dispatch.cli.page import Answer, Cell, Column, Sentence, Table, Tone, cells, said
from pytest_dispatch.cli.queue_edits import ADD, EDIT
from pytest_dispatch.cli.state_colors import hold_text
from pytest_dispatch.cli.times import since
from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.run_options import MachineChoice
from pytest_dispatch.server.api.group_schemas import (
    AgainWanted,
    LabHold,
    MoveWanted,
    QueuedRun,
    QueueView,
    RequeueWanted,
    RunChanged,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from pytest_dispatch.client.operator_client import OperatorClient

COLUMNS = (
    Column("#", right=True),
    Column("RUN"),
    Column("WORKLOAD"),
    Column("GROUP"),
    Column("PRIORITY"),
    Column("OWNER"),
    Column("WAITS", right=True),
    Column("WHY", wraps=True),
)
MOST = 50  # rows of a page
MOST_ASKED = 1000  # that the lab gives at once
LOOK = 2.0  # seconds between two looks at the queue


def _list(client: OperatorClient, given: Namespace) -> Answer:
    page = client.queue(given.group, given.first, given.most)
    none = f"nothing waits after the first {page.first:,}: there are {page.total:,}" if page.total else "nothing waits"
    shown = Table(COLUMNS, tuple(map(_row, page.runs)), none)
    rest = page.total - page.first - len(page.runs)
    more = f"and {rest:,} more: --first {page.first + len(page.runs)}"
    return Answer(page, (shown, Sentence(more, Tone.QUIET)) if rest > 0 else (shown,))


def _row(run: QueuedRun) -> tuple[Cell, ...]:
    priority = Cell(run.priority.name.lower(), Tone.STRONG if run.priority < Priority.NORMAL else Tone.PLAIN)
    where = (str(run.place), short_id(run.id), run.name, run.group)
    return cells(*where, priority, run.owner, since(run.since), _why(run))


def _why(run: QueuedRun) -> Cell:
    """Return what keeps a run from machines, with what was asked of the lab for it."""
    if run.hold is not None:
        return Cell(f"held: {hold_text(run.hold)}", Tone.HELD)
    if run.needs:
        return Cell(f"needs {run.needs}")
    if run.waits_its_turn:
        return Cell("others of its chain come first")
    only = f"only {run.only}" if run.only else f"rather not {run.avoids}" if run.avoids else ""
    times = run.requeue is not None and run.requeue.most - run.requeue.done
    again = f"again {'once' if times == 1 else f'{times} times'}" if times else ""
    return Cell("; ".join(filter(None, (run.why, only, again))))


def _watch(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    from pytest_dispatch.client.lab_watch import watch_lab
    from pytest_dispatch.client.unreachable_lab import UnreachableError

    last: Answer | None = None
    for sight in watch_lab(client, LOOK):  # runs that were moved are no event
        try:
            answer = _list(client, given)
        except UnreachableError as error:
            answer = Answer(None, (Sentence(sight.away or str(error), Tone.HELD),))
        if tick(given) is not None or last is None or answer.value != last.value:
            last = answer
            yield answer


def _move(client: OperatorClient, given: Namespace) -> Answer:
    named = [f"--{name}" for name in ("before", "after", "up", "down", "bottom") if getattr(given, name)]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        raise ConfigError(f"expected one of --before, --after, --up, --down and --bottom, got {got}")
    run = find_run(client, given.run)
    before, after = (text and find_run(client, text) for text in (given.before, given.after))
    to = asked_for(MoveWanted, before=before, after=after, up=given.up, down=given.down, bottom=given.bottom)
    moved = client.move(run, to)
    return said(moved, f"{_named(moved)} is {moved.place} in the queue of {moved.group}, {_priority(moved)}")


def _top(client: OperatorClient, given: Namespace) -> Answer:
    moved = client.move(find_run(client, given.run), MoveWanted(top=True))
    return said(moved, f"{_named(moved)} is at the top of the queue of {moved.group}, {_priority(moved)}")


def _hold(client: OperatorClient, given: Namespace) -> Answer:
    wanted = hold_wanted(given)
    run = client.hold_run(find_run(client, given.run), wanted)
    held = "is held" if run.place else "goes on, and its further attempts are held"
    return said(run, f"{_named(run)} {held}: {wanted.reason}")


def _release(client: OperatorClient, given: Namespace) -> Answer:
    run = client.release_run(find_run(client, given.run))
    place = f"{run.place} in the queue of {run.group}" if run.place else "under way"
    return said(run, f"{_named(run)} is released: {place}")


def _cancel(client: OperatorClient, given: Namespace) -> Answer:
    runs = [find_run(client, each) for each in given.run]  # all are found before any is cancelled
    for run in runs:
        client.cancel(run)
    return said(None, f"{', '.join(map(short_id, runs))} {'is' if len(runs) == 1 else 'are'} cancelled")


def _requeue(client: OperatorClient, given: Namespace) -> Answer:
    wanted = asked_for(RequeueWanted, most=given.times)
    run = client.change(find_run(client, given.run), RunChanged(requeue=wanted))
    times = "once" if given.times == 1 else f"{given.times} times"
    return said(run, f"{_named(run)} is {f'queued again {times} in all' if given.times else 'not queued again'}")


def _again(client: OperatorClient, given: Namespace) -> Answer:
    priority = Priority[given.priority.upper()] if given.priority else None
    wanted = AgainWanted(machine=MachineChoice(given.machine), priority=priority, failed=given.failed)
    run = client.again(find_run(client, given.run), wanted)
    only = f", for {run.only} alone" if run.only else f", rather not for {run.avoids}" if run.avoids else ""
    place = f"{run.place} in the queue of {run.group}" if run.place else f"under way in {run.group}"
    return said(run, f"{_named(run)} is {place}{only}")


def _prioritise(client: OperatorClient, given: Namespace) -> Answer:
    change = RunChanged(priority=Priority[given.priority.upper()])
    run = client.change(find_run(client, given.run), change)
    return said(run, f"{_named(run)} has {_priority(run)}, and is {run.place} in the queue of {run.group}")


def _pause(client: OperatorClient, given: Namespace) -> Answer:
    wanted = hold_wanted(given)
    return said(client.hold_lab(wanted), f"no run begins anywhere: {wanted.reason}")


def _resume(client: OperatorClient, _given: Namespace) -> Answer:
    return said(client.release_lab(), "runs begin again")


def _named(run: QueuedRun) -> str:
    return f"{run.name} ({short_id(run.id)})"


def _priority(run: QueuedRun) -> str:
    return f"priority {run.priority.name.lower()}"


_WHERE = (
    argument("--before", metavar="RUN", default="", completes="run", help="directly before this run"),
    argument("--after", metavar="RUN", default="", completes="run", help="directly after this run"),
    argument("--up", action="store_true", help="one place up"),
    argument("--down", action="store_true", help="one place down"),
    argument("--bottom", action="store_true", help="after all others"),
)
_PRIORITY = argument("priority", metavar="PRIORITY", choices=PRIORITIES, help=", ".join(PRIORITIES))
_TIMES = argument("times", metavar="N", type=number(0), help="how many times in all; 0 for not at all")
_RUNS = replace(RUN, settings={**RUN.settings, "nargs": "+"})
_AGAIN = (
    argument("--machine", choices=["same", "other"], default="", help="on the same machine, or rather on another"),
    argument("--priority", choices=PRIORITIES, default="", help="in place of that of the workload"),
    argument("--failed", action="store_true", help="only what has failed of it: the failed jobs of GitHub Actions"),
)
_PAGE = (
    argument("--group", metavar="GROUP", default="", completes="group", help="only what waits in this group"),
    argument(
        "-n",
        "--most",
        type=number(1, MOST_ASKED),
        default=MOST,
        metavar="N",
        help="how many runs (default: %(default)s)",
    ),
    argument("--first", type=number(0), default=0, metavar="N", help="after so many others"),
)

QUEUE = Noun(
    "queue",
    "show what waits, put it in another order, hold or cancel it",
    (
        Verb("list", "show what waits, in its order", QueueView, _list, watch=_watch, arguments=_PAGE),
        Verb(
            "move",
            "put a run elsewhere; it takes the priority there",
            QueuedRun,
            _move,
            arguments=(RUN, *_WHERE),
        ),
        ADD,
        EDIT,
        Verb("top", "put a run before all others of its group", QueuedRun, _top, arguments=(RUN,)),
        Verb("hold", "keep a run from machines", QueuedRun, _hold, arguments=(RUN, *HOLD)),
        Verb("release", "end the hold of a run", QueuedRun, _release, arguments=(RUN,)),
        Verb("priority", "give a run another priority", QueuedRun, _prioritise, arguments=(RUN, _PRIORITY)),
        Verb("again", "queue the workload of a run once more", QueuedRun, _again, arguments=(RUN, *_AGAIN)),
        Verb("pause", "begin no more runs anywhere in the lab", LabHold, _pause, arguments=HOLD),
        Verb("resume", "begin runs again", LabHold, _resume),
        Verb("requeue", "queue a run again when it ends, so many times", QueuedRun, _requeue, arguments=(RUN, _TIMES)),
        Verb("cancel", "cancel runs, also such as are under way", None, _cancel, arguments=(_RUNS,)),
    ),
)
