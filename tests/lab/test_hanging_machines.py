"""Machines of the lab's own that hang before they ask, and what may run on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import running_lab
from machine_steps import (
    NOTHING,
    ONCE,
    another_passes,
    ended,
    is_refused,
    on,
    reaches,
    says_that_it_runs,
    time_passes,
)
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab.fleet import STARTS
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = pytest.mark.anyio


HANGS = "it did not ask what to boot for 15m"


@fault(
    "Machines",
    "a machine that the plugin brings up is on and never asks (its firmware hangs)",
    outcome="after half of `--dispatch-assign-timeout` in which work waits, it is powered off and on; after the third "
    "time in a row it is given up, and if no other is left, the rest are errors at once",
    told=f"the terminal, and its console: `{HANGS}, so it is powered off and on`; at last `no machine is left: sim-1: "
    f"{HANGS}, 3 times in a row`",
)
async def test_a_machine_of_our_own_hangs_before_it_asks(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one()
        await on(tower)
        bench.clock.ahead += 901
        await until(lambda: len(tower.urls) == 2)
        await says_that_it_runs(bench, tower.target(), run)
        assert [text for _, text in bench.lab.console.of(bench.now(run))] == [f"{HANGS}, so it is powered off and on"]
        assert [(n.machine, n.what, n.why) for n in bench.lab.notices.all()] == [("one", "late", HANGS)]
        await another_passes(bench)


async def test_a_machine_of_our_own_that_never_asks_is_given_up(tmp_path: Path) -> None:
    tower = ByHand("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        run = await bench.one(limits={"assign": 86400.0})
        await on(tower)
        for starts in range(2, STARTS + 1):
            bench.clock.ahead += 901
            await reaches(lambda: len(tower.urls), starts)
        await time_passes(bench, 901, run)
        assert ended(bench, run) == (Outcome.ERROR, f"no machine is left: one: {HANGS}, {STARTS} times in a row")
        assert (len(tower.urls), tower.alive) == (STARTS, False)


async def test_a_machine_that_runs_a_workload_does_not_hang(tmp_path: Path) -> None:
    """What it took has deadlines of its own, also when it resets. Nor does one that waits for work, and asks for it."""
    towers = busy, idle, mute = ByHand("busy"), ByHand("idle"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        first = await bench.one(policy=ONCE)
        await on(*towers)
        await bench.call("GET", busy.target())
        assert (await bench.call("POST", busy.target())).status == 200
        busy.boot()
        bench.clock.ahead += 600
        assert (await bench.call("HEAD", idle.target())).headers["dispatch-idle"] == "poweroff"
        await bench.one(name="second.efi")
        bench.clock.ahead += 301
        await until(lambda: len(mute.urls) == 2)
        assert (len(busy.urls), len(idle.urls)) == (2, 1)
        assert bench.attempt(first).state == State.BOOTING


@pytest.mark.parametrize("resets", [False, True])
async def test_what_was_complete_when_it_booted_may_run_on(tmp_path: Path, resets: bool) -> None:
    """A Python test may be at it. After its reset, the machine has as long to ask as any other."""
    towers = running, mute = ByHand("running"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        first = await bench.one(expect=Expect.BOOT)
        await on(*towers)
        await says_that_it_runs(bench, running.target(), first)
        assert bench.now(first).outcome is Outcome.PASSED
        await bench.one(name="second.efi", limits={"assign": 86400.0})
        bench.clock.ahead += 800
        if resets:
            running.boot()
        bench.clock.ahead += 101
        await until(lambda: len(mute.urls) == 2)
        assert len(running.urls) == 1 + resets
        if resets:
            running.boot()  # before it asked: that does not count
            bench.clock.ahead += 801
            await until(lambda: len(running.urls) == 4)


async def test_a_machine_of_our_own_is_left_alone_while_nothing_waits_for_it(tmp_path: Path) -> None:
    towers = busy, mute = ByHand("busy"), ByHand("mute")
    async with running_lab(tmp_path, machines=towers) as bench:
        run = await bench.one(policy=ONCE)
        await on(*towers)
        await bench.call("GET", busy.target())
        assert (await bench.call("POST", busy.target())).status == 200
        await time_passes(bench, 3601, run)
        assert len(mute.urls) == 1
        await bench.one(name="second.efi")
        await until(lambda: len(mute.urls) == 2)


@dataclass(eq=False)
class SlowTower(ByHand):
    """Its driver says that it is on when a test says so, as one that asks a BMC until that is the case."""

    is_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def on(self) -> None:
        await super().on()
        await self.is_on.wait()


@fault(
    "Machines",
    "what it took is cancelled, or ends, before its driver says that it is on",
    outcome="it is powered off and on once more, and gets the next workload",
    told=NOTHING,
)
async def test_what_a_machine_took_is_cancelled_before_it_counts_as_on(tmp_path: Path) -> None:
    tower = SlowTower("one")
    async with running_lab(tmp_path, machines=[tower]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
        await on(tower)
        assert (await bench.call("HEAD", tower.target())).headers["dispatch-workload"] == "a.efi"
        bench.lab.session_service.cancel(first.id)
        await is_refused(bench, tower.target(), "HEAD")
        tower.is_on.set()
        await until(lambda: len(tower.urls) == 2)
        await says_that_it_runs(bench, tower.target(), second)
        await another_passes(bench)
