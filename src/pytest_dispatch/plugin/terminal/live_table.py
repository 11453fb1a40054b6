"""The live table: the state of every workload, as lines of text that fit the screen."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.attempts import was_taken
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import Outcome, Phase, Run
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.results.timeline import outcome_beside, sign_of

if TYPE_CHECKING:
    from rich.table import Table

ROWS = 16  # maximum number of workloads in the table
NOTICES = 3  # maximum number of notices about machines below the table
OTHER_LINES = 5  # lines of the screen for pytest's last output, and above and below the rows

LEAST_NAME = 8  # minimum width of a name in columns, on any screen
_NAME = 1  # index of the column with the workloads' names

#: Order of the rows: running workloads first, then waiting ones, then finished ones.
_ORDER = [Phase.SETTLING, Phase.RUNNING, Phase.STARTING, Phase.QUEUED, Phase.OVER]


def table_lines(
    runs: Collection[Run],
    sent: Mapping[str, int],
    now: float,
    size: tuple[int, int],
    notices: Sequence[str] = (),
    places: Mapping[str, str] | None = None,
) -> list[str]:
    """Return a blank line, the table, a line with the number of workloads by state, and notices about machines.

    Args:
        runs: All runs of the session.
        sent: Progress of current downloads: bytes sent so far, by run.
        now: Current time in epoch seconds.
        size: Columns and lines of the screen.
        notices: Notices about machines; the latest ones are shown.
        places: Places of waiting runs in the queue, and when they should start, by run.
    """
    columns, lines = size
    latest = notices[max(0, len(notices) - max(0, min(NOTICES, lines - OTHER_LINES - 1))) :]
    rows = max(1, min(ROWS, lines - OTHER_LINES - len(latest)))
    ordered = sorted(runs, key=lambda run: (_ORDER.index(run.attempt.phase), run.position))
    table = _table(
        [tuple(_row(run, sent.get(run.id), now, (places or {}).get(run.id, ""))) for run in ordered[:rows]], columns
    )
    below = [_below(runs, hidden=len(ordered[rows:])), *latest]
    return ["", *_rendered(table, [f"  {line}" for line in below], columns)]


def _table(rows: Sequence[Sequence[str]], columns: int) -> Table:
    """Build the table; on a narrow screen, cut names in the middle, because they usually differ at their ends."""
    from rich.cells import cell_len
    from rich.table import Table

    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    room = max(LEAST_NAME, columns - 1 - sum(2 + width for width in widths) + widths[_NAME])
    table = Table(box=None, padding=(0, 0, 0, 2), show_header=False)
    for justify in ("left", "left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row[:_NAME], _shortened(row[_NAME], room), *row[_NAME + 1 :])
    return table


def _shortened(name: str, room: int) -> str:
    kept = room - 1
    return name if len(name) <= room else f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"


def _row(run: Run, sent: int | None, now: float, place: str) -> Iterable[str]:
    attempt = run.attempt
    yield f"{sign_of(attempt.phase, attempt.outcome)} {attempt.state}{outcome_beside(attempt)}"
    yield plain_line(run.workload.name, 50)
    yield plain_line(attempt.where, 40)
    yield "" if attempt.ended else format_duration(max(0, int(now - attempt.since)))
    yield place if attempt.phase is Phase.QUEUED else _progress(run, sent)


def _progress(run: Run, sent: int | None) -> str:
    size = run.workload.payload.get("size")
    if sent is None or run.attempt.phase is not Phase.STARTING or not isinstance(size, int) or not size:
        return ""
    return f"{min(100, 100 * sent // size)} % of {size / 2**20:.1f} MiB"


def _below(runs: Collection[Run], *, hidden: int) -> str:
    """Return a line with the number of runs by state, and by outcome for finished ones."""
    states = Counter((run.attempt.phase, run.attempt.state) for run in runs if run.outcome is None)
    outcomes = Counter(run.outcome for run in runs if run.outcome is not None)
    order = sorted(states, key=lambda stands: list(Phase).index(stands[0]))
    facts = [f"{sign_of(phase)} {states[phase, state]} {state}" for phase, state in order]
    facts += [f"{sign_of(Phase.OVER, each)} {outcomes[each]} {each}" for each in Outcome if outcomes[each]]
    facts += [f"({hidden} not shown)"] * bool(hidden)
    if not any(map(was_taken, (attempt for run in runs for attempt in run.attempts))):
        facts.append("none has been taken yet")
    return "  ".join(facts)


def _rendered(table: Table, below: Sequence[str], columns: int) -> list[str]:
    """Render the table to lines shorter than the screen is wide; some characters take two columns."""
    from rich.console import Console

    page = io.StringIO()
    # names come from outside: do not interpret markup or emoji names in them
    console = Console(file=page, width=columns - 1, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(table)
    for text in below:
        console.print(text, no_wrap=True, overflow="ellipsis")
    return [line.rstrip() for line in page.getvalue().splitlines()]
