"""Chains on machines that the lab brings up: what happens between two stages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from by_hand import ByHand
from faults import fault
from labs import running_lab
from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.machines.sim.driver import SimMachine
from pytest_dispatch.machines.sim.scenarios import Scenario, Stage
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio


class Counted(SimMachine):
    """One whose first stage hangs when it has reported, and which counts how often it is powered on."""

    def __init__(self) -> None:
        super().__init__(pace=0.001, scenarios={"pass": Scenario(play=_play)})
        self.starts = 0

    async def on(self) -> None:
        self.starts += 1
        await super().on()


async def _play(stage: Stage) -> None:
    await stage.boot()
    await stage.report(result="passed")
    if stage.workload == "a.efi":
        await asyncio.Event().wait()


async def test_a_machine_that_hangs_after_a_stage_is_cycled_once_and_goes_on_with_the_next(tmp_path: Path) -> None:
    machines = {name: Counted() for name in ("one", "two")}
    async with running_lab(tmp_path, machines=[each.driven(name) for name, each in machines.items()]) as bench:
        stages = [bench.workload(f"{name}.efi", chain="c") for name in "abc"]
        runs = await bench.submit(*stages, policy=Policy(retries=0))
        where = (await bench.enters(runs[0], State.REPORTED)).machine
        [other] = machines.keys() - {where}
        await until(lambda: machines[other].starts == 1 and bench.lab.machines.is_off(other))
        bench.clock.ahead += 61
        await until(lambda: bench.now(runs[2]).outcome is not None)
        assert [bench.now(run).outcome for run in runs] == [Outcome.PASSED] * 3
        assert [bench.attempt(run).machine for run in runs] == [where] * 3
        assert {name: machine.starts for name, machine in machines.items()} == {where: 2, other: 1}


@fault(
    "Machines",
    "a machine does not come back between two stages of a chain",
    outcome="the next stage is an error after `--dispatch-assign-timeout`, no other machine gets it",
    told="`was given it and did not begin to download it within`, `no machine but MACHINE will do`, and what ran there",
)
async def test_a_stage_whose_machine_does_not_come_back_says_so(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        stages = [bench.workload(f"{name}.efi", chain="c") for name in "ab"]
        first, second = await bench.submit(*stages, policy=Policy(retries=0))
        await bench.download(first)
        assert (await bench.call("POST")).status == 200
        assert (await bench.report(result="passed")).status == 200
        bench.clock.ahead += 61
        await bench.enters(second, State.ASSIGNED)
        bench.clock.ahead += 301
        assert (await bench.call("HEAD", source="127.0.0.9")).headers["dispatch-idle"] == "poweroff"
        bench.clock.ahead += 1800
        await until(lambda: bench.now(second).outcome is not None)
        assert bench.now(second).outcome is Outcome.ERROR
        reason = "127.0.0.2 was given it and did not begin to download it within 30m; no machine but 127.0.0.2 will do"
        assert bench.now(second).reason == f"{reason}: a.efi ran there"


class Breaks(Counted):
    """One that cannot be powered on a second time."""

    async def on(self) -> None:
        if self.starts:
            raise MachineError("its power supply does not answer")
        await super().on()


@fault(
    "Machines",
    "a machine of ours cannot be powered on any more between two stages of a chain",
    outcome="the next stage is an error at once, the rest is skipped; other machines go on",
    told="why it cannot, `no machine but MACHINE will do`; each stage behind it names the first cause",
)
@pytest.mark.parametrize("retries", [0, 3])
async def test_a_stage_whose_machine_is_out_of_order_waits_for_no_deadline(tmp_path: Path, retries: int) -> None:
    async with running_lab(tmp_path, machines=[Breaks().driven("one")]) as bench:
        stages = [bench.workload(f"{name}.efi", chain="c") for name in "abc"]
        runs = await bench.submit(*stages, policy=Policy(retries=retries))
        await bench.enters(runs[0], State.REPORTED)
        bench.clock.ahead += 61
        await until(lambda: bench.now(runs[2]).outcome is not None)
        passed, error, skipped = [bench.now(run) for run in runs]
        assert [passed.outcome, error.outcome, skipped.outcome] == [Outcome.PASSED, Outcome.ERROR, Outcome.SKIPPED]
        assert "its power supply does not answer" in error.reason
        assert skipped.reason == f"skipped: b.efi error: {error.reason}"
        machine = bench.lab.queue.machine("one", bench.clock.now())
        assert (machine.state, "power supply" in machine.reason) == (MachineState.BROKEN, True)


async def test_a_machine_that_goes_off_when_its_chain_goes_on_there_is_powered_on(tmp_path: Path) -> None:
    """The next stage was asked for when it had been told to power off, and was still at it."""
    machine = ByHand()
    async with running_lab(tmp_path, machines=[machine]) as bench:
        first, second = (bench.workload(f"{name}.efi", chain="c") for name in "ab")
        [run] = await bench.submit(first)
        await until(lambda: machine.alive)
        path = machine.target()
        assert (await bench.call("GET", path)).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", path)).status == 200
        report = b'{"title": "done", "result": "passed"}'
        assert (await bench.call("PUT", path, body=report)).status == 200
        machine.boot()
        assert (await bench.call("HEAD", machine.target())).headers["dispatch-idle"] == "poweroff"
        [after] = await bench.lab.session_service.submit(run.session, [("b", second)])
        await bench.enters(after, State.ASSIGNED)
        machine.alive = False
        await until(lambda: machine.starts == 2)
        path = machine.target()
        assert (await bench.call("HEAD", path)).headers["dispatch-workload"] == "b.efi"
        assert (await bench.call("GET", path)).body == bench.bytes_of(after)
