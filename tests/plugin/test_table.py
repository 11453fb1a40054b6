"""The live table as text."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from boots import boots, but, moment, on

from pytest_dispatch.core.model import Attempt, Outcome, Run
from pytest_dispatch.plugin.terminal.live_table import table_lines
from pytest_dispatch.workloads.boot.lifecycle import Expect, State


def run(
    number: int, state: State, since: float = 0.0, machine: str = "sim-1", name: str = "", size: int = 2**21
) -> Run:
    workload = boots(name or f"w-{number}.efi", size=size)
    attempt = Attempt(number=1, placements=on(machine), history=(moment(state, since),))
    return Run(
        id=f"r{number}", session="s", key=f"k{number}", position=number, workload=workload, limits={},
        expect=Expect.REPORT, attempts=(attempt,),
    )  # fmt: skip


def ended(number: int, outcome: Outcome) -> Run:
    before = run(number, State.FINISHED)
    return replace(before, attempts=(replace(before.attempt, outcome=outcome),), outcome=outcome)


def test_those_under_way_come_first() -> None:
    runs = [
        ended(0, Outcome.PASSED),
        run(1, State.UNASSIGNED, machine=""),
        run(2, State.BOOTING, since=-75.0),
        run(3, State.DOWNLOADING, since=-1.0),
        ended(4, Outcome.FAILED),
    ]
    assert table_lines(runs, {"r3": 2**20}, 0.0, (100, 30)) == [
        "",
        "  ⚡ booting            w-2.efi  sim-1  75s",
        "  📥 downloading        w-3.efi  sim-1   1s  50 % of 2.0 MiB",
        "  ⏳ unassigned         w-1.efi          0s",
        "  🏁 finished (passed)  w-0.efi  sim-1",
        "  ❌ finished (failed)  w-4.efi  sim-1",
        "  ⏳ 1 unassigned  📥 1 downloading  ⚡ 1 booting  🏁 1 passed  ❌ 1 failed",
    ]


def test_a_state_that_is_called_as_its_outcome_is_named_once() -> None:
    failed, broken = (
        replace(before, attempts=(replace(before.attempt, outcome=outcome),), outcome=outcome)
        for before, outcome in ((run(0, State.FAILED), Outcome.FAILED), (run(1, State.FAILED), Outcome.ERROR))
    )
    assert [line.rstrip() for line in table_lines([failed, broken], {}, 0.0, (100, 30))[1:3]] == [
        "  ❌ failed          w-0.efi  sim-1",
        "  ❌ failed (error)  w-1.efi  sim-1",
    ]


@pytest.mark.parametrize(("lines", "rows"), [(30, 16), (15, 10), (6, 1), (2, 1)])
def test_it_is_never_higher_than_the_screen(lines: int, rows: int) -> None:
    runs = [run(number, State.UNASSIGNED, machine="") for number in range(40)]
    shown = table_lines(runs, {}, 0.0, (80, lines))
    assert len([line for line in shown if ".efi" in line]) == rows
    assert shown[-1] == f"  ⏳ 40 unassigned  ({40 - rows} not shown)  none has been taken yet"


@pytest.mark.parametrize(("lines", "rows", "told"), [(30, 16, 3), (15, 7, 3), (8, 1, 2), (6, 1, 0), (2, 1, 0)])
def test_the_latest_of_what_befell_machines_stands_below_it(lines: int, rows: int, told: int) -> None:
    runs = [run(number, State.UNASSIGNED, machine="") for number in range(40)]
    notices = [f"refused: m-{number}: {'x' * 100}" for number in range(5)]
    shown = table_lines(runs, {}, 0.0, (80, lines), notices)
    assert len([line for line in shown if ".efi" in line]) == rows
    latest = shown[len(shown) - told :]
    assert [line.split()[1] for line in latest] == ["m-2:", "m-3:", "m-4:"][3 - told :]
    assert {len(line) for line in latest} <= {79}


def test_it_is_never_wider_than_the_screen() -> None:
    long = run(1, State.DOWNLOADING, name="n" * 300, machine="m" * 300)
    runs = [long, *(run(number, state) for number, state in enumerate(State, start=2))]
    for line in table_lines(runs, {"r1": 5}, 0.0, (40, 30)):
        assert sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line) < 40


def test_names_give_way_in_their_middle_and_nothing_else_does() -> None:
    names = [f"memory-bandwidth-of-every-socket-with-{kind}.efi" for kind in ("reads", "writes")]
    runs = [run(number, State.BOOTING, machine="rack-7-node-12", name=name) for number, name in enumerate(names)]
    shown = table_lines(runs, {}, 0.0, (60, 30))
    assert shown[1:3] == [
        "  ⚡ booting  memory-band…h-reads.efi  rack-7-node-12  0s",
        "  ⚡ booting  memory-band…-writes.efi  rack-7-node-12  0s",
    ]


def test_names_are_text_and_nothing_else() -> None:
    hostile = "[red]:smile:\x1b[2J[/]\ngood.efi"
    text = "\n".join(table_lines([run(1, State.BOOTING, name=hostile)], {}, 0.0, (100, 30)))
    assert "[red]:smile:[/] good.efi" in text
    assert "\x1b" not in text


def test_more_bytes_than_there_are_is_all_of_them() -> None:
    assert "100 % of 2.0 MiB" in table_lines([run(1, State.DOWNLOADING)], {"r1": 2**22}, 0.0, (80, 30))[1]
    empty = replace(run(1, State.DOWNLOADING), workload=but(run(1, State.DOWNLOADING).workload, size=0))
    assert "%" not in table_lines([empty], {"r1": 0}, 0.0, (80, 30))[1]


def test_what_waits_has_its_place() -> None:
    runs = [run(1, State.UNASSIGNED, machine=""), run(2, State.BOOTING, since=-75.0)]
    shown = table_lines(runs, {}, 0.0, (100, 30), places={"r1": "place 3, starts in 2m to 5m", "r2": "place 1"})
    assert shown[1:3] == [
        "  ⚡ booting     w-2.efi  sim-1  75s",
        "  ⏳ unassigned  w-1.efi          0s  place 3, starts in 2m to 5m",
    ]
