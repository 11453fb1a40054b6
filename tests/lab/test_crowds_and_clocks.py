"""Dates that jump, machines that flood a lab, and defects of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from faults import fault
from labs import Clock, LabBench, running_lab
from machine_steps import (
    GET,
    HOSTILE,
    NOTHING,
    ONCE,
    A,
    another_passes,
    ended,
    time_passes,
)
from project import SUPPORT
from waiting import until

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.lab.session_feed import IssueRule

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]


# Time


class Wall(Clock):
    """The lab's clock over a date that jumps, and a steady time that a suspended computer does not count."""

    def __init__(self) -> None:
        self.step = 0.0
        self.ahead = 0.0
        running = SteadyClock()
        SteadyClock.__init__(self, lambda: running.now() + self.step, running.now)


@pytest.mark.parametrize("step", [-365 * 86400.0, -3600.0, 3600.0, 365 * 86400.0])
@fault(
    "Machines",
    "the date of the lab's computer jumps (NTP, suspend)",
    outcome="nothing: deadlines count the time that the lab is awake, dates go on from its start",
    told=NOTHING,
)
async def test_the_date_jumps(tmp_path: Path, step: float) -> None:
    clock = Wall()
    async with running_lab(tmp_path, clock=clock) as bench:
        run, silent = await bench.booted(A, policy=ONCE), await bench.booted("127.0.0.3", name="s.efi", policy=ONCE)
        clock.step += step
        await another_passes(bench)
        clock.ahead += 3500
        await another_passes(bench)
        assert (await bench.report(A)).status == 200
        assert bench.now(silent).outcome is None
        times = [moment.at for moment in bench.attempt(run).history]
        assert times == sorted(times)
        await time_passes(bench, 101, silent)
        assert ended(bench, silent) == (Outcome.FAILED, "no report 1h after it booted on 127.0.0.3")


@fault(
    "Machines",
    "the date was set back when a session is resumed",
    outcome="what was noted in the future counts as of now, and no deadline waits for it",
    told=NOTHING,
)
async def test_the_date_was_set_back_between_two_labs(tmp_path: Path) -> None:
    early = Clock()
    early.ahead = 365 * 86400.0
    async with running_lab(tmp_path, clock=early) as bench:
        run = await bench.booted(A, policy=Policy(retries=0, limits={"report": 60}))
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.resumption.resume("w", Policy(retries=0), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session == run.session
        assert bench.now(run).outcome is None
        await another_passes(bench)
        await time_passes(bench, 3601, run)
        assert bench.now(run).reason.startswith("no report")
        now = bench.clock.now()
        assert all(moment.at <= now for moment in bench.attempt(run).history)


# Crowds


@contextmanager
def flood(what: str, port: int) -> Iterator[None]:
    """A machine that floods the lab, in a process of its own."""
    command = [sys.executable, str(SUPPORT / "flood.py"), what, str(port), HOSTILE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            "requests",
            marks=fault(
                "Machines",
                "it sends requests as fast as it can",
                outcome="above 2,000 a second they are held back, then refused with 429; the others boot and report",
                told="nothing",
            ),
        ),
        pytest.param(
            "connections",
            marks=fault(
                "Machines",
                "it opens connections as fast as it can",
                outcome="above half of all that there may be they get 503; the others boot and report",
                told="nothing",
            ),
        ),
    ],
)
@pytest.mark.draw(1)
async def test_a_machine_floods(bench: LabBench, what: str) -> None:
    await bench.one(name="bait.efi")
    await bench.call("HEAD", source=HOSTILE)  # whoever asks is given something, and no more than that
    with flood(what, bench.port):
        await until(lambda: len(bench.server.connections) >= 8)
        for _ in range(5):
            await another_passes(bench)


@fault(
    "Machines",
    "2,000 connections are open on which nothing is asked",
    outcome="they are closed after 75 s, and before that if there is no room; the others boot and report",
    told="nothing",
)
async def test_two_thousand_idle_connections(bench: LabBench) -> None:
    many = min(2000, bench.server.connections.most - 50)  # fewer only where the system has no room for so many
    wires = [await bench.wire(f"127.0.{1 + n // 200}.{1 + n % 200}") for n in range(many)]
    await another_passes(bench)
    await until(lambda: len(bench.server.connections) >= len(wires))
    assert bench.server.connections.in_use == 0
    await another_passes(bench)
    await wires[0].send(GET)
    assert (await wires[0].head()).status == 200


@fault(
    "Machines",
    "it vanishes without a goodbye before or within a request (half-open connection)",
    outcome="the connection is closed after 75 s, within a report after 5 min; nothing else changes",
    told="nothing",
)
async def test_machines_that_vanish_within_a_request(bench: LabBench) -> None:
    run = await bench.booted(A)
    before = bench.attempt(run)
    for sent in ("", "HEAD /disp", "PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"):
        wire = await bench.wire(A)
        await wire.send(sent)
        await another_passes(bench)
    assert replace(bench.attempt(run), refused=()) == before  # what broke off may be told of
    assert (await bench.report(A)).status == 200


@fault(
    "Machines",
    "The lab itself breaks down over a machine's request",
    outcome="an error of the lab, never a failure; tried again as often as `--dispatch-retries` says",
    told="`the lab broke down over it`, with what was raised; the machine gets 500",
)
async def test_a_defect_of_ours_is_the_lab_s_fault(bench: LabBench, caplog: pytest.LogCaptureFixture) -> None:
    run = await bench.one(policy=ONCE)
    assert (await bench.call("HEAD", source=A)).status == 200
    del bench.boot.assets[run.id]
    assert (await bench.call("GET", source=A)).status == 500
    outcome, why = ended(bench, run)
    assert outcome is Outcome.ERROR
    assert why.startswith(f"{A}: the lab broke down over it: KeyError: {run.id!r} (")
    assert any(record.exc_info for record in caplog.records)  # for whoever mends it
    await another_passes(bench)
