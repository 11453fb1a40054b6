"""`dispatch cycle`: what runs again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.holds import HOLD, hold_wanted
from pytest_dispatch.cli.names import on_cycle
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, Cell, Column, Facts, Sentence, Table, Tone, cells, said
from pytest_dispatch.cli.state_colors import OF_OUTCOMES, hold_text
from pytest_dispatch.cli.times import age, ago, ahead
from pytest_dispatch.client.cycle_client import CycleClient
from pytest_dispatch.core.cycle_state import CyclePhase, Round
from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.server.api.cycle_schemas import CycleView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from pytest_dispatch.cli.page import Block
    from pytest_dispatch.client.operator_client import OperatorClient

SHOWN = 10  # rounds
MOST_ROUNDS = 1000
PAUSE = 1.0  # seconds between two looks at what a round shows

COLUMNS = (
    Column("CYCLE"),
    Column("STATE"),
    Column("NEXT"),
    Column("LAST"),
    Column("CHANGE"),
    Column("SCHEDULE", wraps=True),
)
ROUNDS = (
    Column("ROUND", right=True),
    Column("BEGAN"),
    Column("TOOK", right=True),
    Column("OUTCOME"),
    Column("CHANGE"),
    Column("WHY", wraps=True),
)
NONE = "no cycles: they stand in lab.yaml, below cycles"
NO_ROUNDS = "no rounds yet"

_OF_PHASES = {
    CyclePhase.STOPPED: Tone.QUIET,
    CyclePhase.WAITING: Tone.PLAIN,
    CyclePhase.PAUSED: Tone.HELD,
    CyclePhase.RUNNING: Tone.BUSY,
}


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    cycles = CycleClient(client.connection).all()
    return Answer(cycles, (Table(COLUMNS, tuple(map(_row, cycles)), NONE),))


def _row(cycle: CycleView) -> tuple[Cell, ...]:
    last = cycle.last
    return cells(
        cycle.name,
        Cell(cycle.phase, _OF_PHASES[cycle.phase]),
        _next(cycle),
        _outcome(last) if last is not None else Cell("none yet", Tone.QUIET),
        str(last.change) if last is not None and last.change else "",
        cycle.schedule,
    )


def _next(cycle: CycleView) -> str:
    if cycle.running is not None:
        return f"round {cycle.running.number} for {age(time.time() - cycle.running.began)}"
    return ahead(cycle.due) if cycle.due is not None and cycle.hold is None else ""


def _outcome(each: Round) -> Cell:
    if each.outcome is None:
        return Cell("running", Tone.BUSY)
    return Cell(f"missed {each.missed}" if each.missed else each.outcome, OF_OUTCOMES[each.outcome])


def _show(client: OperatorClient, given: Namespace) -> Answer:
    cycles = CycleClient(client.connection)
    cycle = on_cycle(client, given.cycle, cycles.one)
    rounds = cycles.rounds(given.cycle, given.rounds)
    parameters = {f"choose {each.name}": f"{' or '.join(each.choices) or each.pattern}" for each in cycle.parameters}
    rows = {
        "cycle": Cell(cycle.name, Tone.STRONG),
        "for": Cell(cycle.description),
        "state": Cell(cycle.phase, _OF_PHASES[cycle.phase]),
        "next": Cell(_next(cycle)),
        "schedule": Cell(cycle.schedule),
        "started by": Cell(cycle.started),
        "with": Cell(", ".join(f"{name}={value}" for name, value in cycle.values.items())),
        "paused": Cell(hold_text(cycle.hold) if cycle.hold is not None else ""),
        "group": Cell(cycle.group),
        "longest": Cell(age(cycle.limit)),
        **{name: Cell(text) for name, text in parameters.items()},
    }
    facts = Facts(tuple((name, cell) for name, cell in rows.items() if cell.text))
    return Answer(rounds, (facts, *_changes(rounds), Table(ROUNDS, tuple(map(_round_row, rounds)), NO_ROUNDS)))


def _changes(rounds: Sequence[Round]) -> Iterator[Block]:
    """Yield what is different in the last round that is over, by name of case."""
    last = next((each for each in rounds if each.ended is not None and not each.missed), None)
    if last is None:
        return
    for what, names, tone in (
        ("fails now", last.change.failures, Tone.BAD),
        ("is a fault of the lab now", last.change.errors, Tone.BAD),
        ("is fixed", last.change.fixed, Tone.GOOD),
    ):
        if names:
            yield Sentence("\n".join(f"{name} {what}" for name in names), tone)


def _round_row(each: Round) -> tuple[Cell, ...]:
    took = "" if each.missed else age((each.ended or time.time()) - each.began)
    by = f"{each.who} asked for it" if each.who else ""
    again = f"started {each.tries} times" if each.tries > 1 else ""
    why = "; ".join(filter(None, (each.reason, by, again)))
    change = str(each.change) if each.ended is not None and not each.missed else ""
    return cells(str(each.number), ago(each.began), took, _outcome(each), change, why)


def _start(client: OperatorClient, given: Namespace) -> Answer:
    values = dict(map(_pair, given.set))
    cycle = on_cycle(client, given.cycle, lambda name: CycleClient(client.connection).start(name, values))
    when = "now" if cycle.due is None or cycle.due <= time.time() else ahead(cycle.due)
    return said(cycle, f"{cycle.name} is started: its first round begins {when}{_paused(cycle)}")


def _paused(cycle: CycleView) -> str:
    return "; but it is paused: resume it" if cycle.hold is not None else ""


def _now(client: OperatorClient, given: Namespace) -> Answer:
    values = dict(map(_pair, given.set))
    cycle = on_cycle(client, given.cycle, lambda name: CycleClient(client.connection).run_now(name, values))
    return said(cycle, f"a round of {cycle.name} begins now; `dispatch cycle logs {cycle.name} --follow` shows it")


def _stop(client: OperatorClient, given: Namespace) -> Answer:
    cycle = on_cycle(client, given.cycle, CycleClient(client.connection).stop)
    ending = f"; round {cycle.running.number} ends now, and its runs are cancelled" if cycle.running else ""
    return said(cycle, f"{cycle.name} is stopped{ending}")


def _pause(client: OperatorClient, given: Namespace) -> Answer:
    wanted = hold_wanted(given)
    cycle = on_cycle(client, given.cycle, lambda name: CycleClient(client.connection).pause(name, wanted))
    goes_on = f"; round {cycle.running.number} goes on" if cycle.running else ""
    return said(cycle, f"{cycle.name} is paused: {wanted.reason}{goes_on}")


def _resume(client: OperatorClient, given: Namespace) -> Answer:
    cycle = on_cycle(client, given.cycle, CycleClient(client.connection).resume)
    return said(
        cycle, f"{cycle.name} is {cycle.phase} again{f', its next round {_next(cycle)}' if _next(cycle) else ''}"
    )


def _logs(client: OperatorClient, given: Namespace) -> Answer:
    cycles, which = CycleClient(client.connection), _which(client, given)
    text = cycles.junit(given.cycle, which) if given.junit else cycles.output(given.cycle, which)
    return Answer(text, (Sentence(text.rstrip("\n")),))


def _follow(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    """Yield what the pytest of a round shows, until it is over."""
    cycles, which, shown = CycleClient(client.connection), _which(client, given), ""
    while True:
        over = cycles.round(given.cycle, which).ended is not None
        text = cycles.output(given.cycle, which)
        text = text if over else text[: text.rfind("\n") + 1]
        lines, shown = added(shown, text), text
        if lines.strip("\n"):
            yield Answer(lines, (Sentence(lines.rstrip("\n")),))
        if over:
            return
        time.sleep(PAUSE)


def added(before: str, now: str) -> str:
    """Return what a text has behind what was there before, of both of which only the end may be kept.

    The first line of a text whose beginning is left out says how much that is, and the second one may be cut anywhere.
    Where nothing that was there before is kept, all of it is new.

    Args:
        before: What was there, in whole lines.
        now: What is there.
    """
    if now.startswith(before):
        return now[len(before) :]
    kept = now.split("\n", 2)[-1]
    line = kept[: kept.find("\n") + 1]
    at = before.find(line) if line else -1
    while at >= 0:
        if kept.startswith(before[at:]):
            return kept[len(before) - at :]
        at = before.find(line, at + 1)
    return now


def _which(client: OperatorClient, given: Namespace) -> int:
    """Return the number of the round that is meant: the one that runs, else the last one that did.

    Raises:
        LabError: There was none.
    """
    if given.round is not None:
        return int(given.round)
    cycle = on_cycle(client, given.cycle, CycleClient(client.connection).one)
    if cycle.running is not None:
        return cycle.running.number
    rounds = CycleClient(client.connection).rounds(given.cycle, SHOWN)
    found = next((each.number for each in rounds if not each.missed), None)
    if found is None:
        raise LabError(f"{given.cycle} had no round yet; `dispatch cycle now {given.cycle}` begins one")
    return found


def _pair(text: str) -> tuple[str, str]:
    """Read `NAME=VALUE`.

    Raises:
        ConfigError: It has no name.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--set: expected NAME=VALUE, got {text!r}")
    return name, value


_CYCLE = argument("cycle", metavar="CYCLE", completes="cycle", help="its name")
_SET = argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a parameter; may be repeated")
_ROUNDS = argument("--rounds", metavar="N", type=number(1, MOST_ROUNDS), default=SHOWN, help="how many of the latest")
_LOGS = (
    _CYCLE,
    argument("round", metavar="ROUND", nargs="?", type=number(1, 10**9 - 1), help="its number (default: the last)"),
    argument("--junit", action="store_true", help="its JUnit file in place of what it showed"),
)

CYCLES = Noun(
    "cycle",
    "show what runs again and again, start it, pause it, run it now",
    (
        Verb("list", "show all cycles", list[CycleView], _list),
        Verb("show", "show a cycle and its latest rounds", list[Round], _show, arguments=(_CYCLE, _ROUNDS)),
        Verb("start", "begin rounds by the schedule", CycleView, _start, arguments=(_CYCLE, _SET)),
        Verb("now", "begin a round now, whether it is started or not", CycleView, _now, arguments=(_CYCLE, _SET)),
        Verb("pause", "begin no more rounds; one that runs goes on", CycleView, _pause, arguments=(_CYCLE, *HOLD)),
        Verb("resume", "begin rounds again", CycleView, _resume, arguments=(_CYCLE,)),
        Verb("stop", "end the schedule, and the round that runs", CycleView, _stop, arguments=(_CYCLE,)),
        Verb("logs", "show what a round's pytest showed", str, _logs, arguments=_LOGS, follow=_follow),
    ),
)
