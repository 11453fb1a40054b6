"""What machines show on their consoles: to whom it belongs, how much is kept, and where."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.lab.console_lines import FIRST, LAST, LEFT_OUT, LINE, WIDEST, ConsoleLines
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio


SIX = LINE + 6  # bytes of a line of six characters


def test_a_console_keeps_its_last_lines() -> None:
    lines = ConsoleLines(last=3 * SIX)
    for n in range(5):
        lines.add("r1", 1, float(n), f"line {n}")
    assert [text for _, text in lines.of("r1", 1)] == ["line 2", "line 3", "line 4"]
    assert lines.of("r1", 2) == []


def test_consoles_do_not_grow_with_the_number_of_runs() -> None:
    lines = ConsoleLines(last=3 * SIX, together=6 * SIX)
    for run in ("r1", "r2", "r3"):
        for _ in range(3):
            lines.add(run, 1, 0.0, "a line")
    assert not lines.of("r1", 1)
    assert len(lines.of("r2", 1)) == len(lines.of("r3", 1)) == 3
    only = ConsoleLines(last=9 * SIX, together=2 * SIX)
    for _ in range(4):
        only.add("r", 1, 0.0, "a line")
    assert len(only.of("r", 1)) == 4


def test_lines_before_a_workload_go_to_the_attempt_that_takes_it() -> None:
    lines = ConsoleLines()
    lines.before("m", 1.0, "BdsDxe")
    assert lines.take("m", "r", 1) == [("r", 1, 1.0, "BdsDxe")]
    assert lines.take("m", "r", 2) == []
    assert lines.of("r", 1) == [(1.0, "BdsDxe")]


def test_the_journal_gets_the_beginning_of_an_attempt_and_at_its_end_the_last_lines() -> None:
    lines = ConsoleLines(first=3 * SIX, last=2 * SIX)
    shown = [[text for *_, text in lines.add("r", 1, float(n), f"line {n}")] for n in range(7)]
    assert shown == [["line 0"], ["line 1"], ["line 2"], [LEFT_OUT], [], [], []]
    assert lines.end("r", 1) == [("r", 1, 5.0, "line 5"), ("r", 1, 6.0, "line 6")]
    assert lines.end("r", 1) == []
    assert lines.of("r", 1) == [(5.0, "line 5"), (6.0, "line 6")]


def test_the_journal_gets_no_line_twice() -> None:
    lines = ConsoleLines(first=3 * SIX, last=9 * SIX)
    for n in range(3):
        lines.add("whole", 1, float(n), f"line {n}")
    for n in range(5):
        lines.add("more", 1, float(n), f"line {n}")
    assert lines.end_all() == [("more", 1, 3.0, "line 3"), ("more", 1, 4.0, "line 4")]
    assert lines.end_all() == []


def test_a_line_is_cut_where_it_never_ends() -> None:
    lines = ConsoleLines()
    lines.before("m", 0.0, "x" * 10**6)
    lines.take("m", "r", 1)
    assert lines.add("r", 1, 0.0, "y" * 10**6) == [("r", 1, 0.0, "y" * WIDEST)]
    assert [len(text) for _, text in lines.of("r", 1)] == [WIDEST, WIDEST]


FLOOD = [f"{n:06} " + "x" * 900 for n in range(4000)]


@fault(
    "Machines",
    "a workload fills its console without end",
    outcome="unchanged; the journal gets the first MiB of an attempt's console, and the last lines",
    told="the last lines, as ever; in the journal `only the last lines of this attempt are kept`",
)
@pytest.mark.parametrize("ends", ["by a fault", "with the lab"])
async def test_a_console_that_is_flooded_does_not_fill_the_disk(tmp_path: Path, ends: str) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one(policy=Policy(retries=0))
        await until(lambda: puppet.alive)
        await bench.call("GET", puppet.target())
        await bench.call("POST", puppet.target())
        for line in FLOOD:
            puppet.signs.put_nowait(Sign(text=line))
        await until(lambda: [text for _, text in bench.lab.console.of(bench.now(run))[-1:]] == FLOOD[-1:])
        if ends == "by a fault":
            puppet.signs.put_nowait(Sign(text="panic", fault="kernel panic"))
            await until(lambda: bench.now(run).outcome is Outcome.FAILED)
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    try:
        lines = [text for *_, text in journal.reader.console(run.session, 10**6)]
    finally:
        journal.close()
    last = [*FLOOD, "panic"] if ends == "by a fault" else FLOOD
    cut = lines.index(LEFT_OUT)
    assert cut > 1000
    assert lines[:cut] == FLOOD[:cut]
    assert len(lines) - cut > 200
    assert lines[cut + 1 :] == last[cut + 1 - len(lines) :]
    assert sum(map(len, lines)) < FIRST + LAST


@pytest.mark.parametrize("turns", range(5))
async def test_connections_that_are_just_being_accepted_are_closed_with_the_rest(tmp_path: Path, turns: int) -> None:
    async with running_lab(tmp_path) as bench:
        peers = [socket.create_connection(("127.0.0.1", bench.port)) for _ in range(30)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await bench.server.stop()
        assert len(bench.server.connections) == 0
        for peer in peers:
            with peer, suppress(ConnectionResetError):
                peer.settimeout(10)
                assert peer.recv(1) == b""
