"""What a lab that is started again knows of machines, and above all which of them are kept out of scheduling."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from by_hand import ByHand
from labs import LabBench, running_lab, sims
from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.machine import Hold, Identity, Machine, MachineState
from pytest_dispatch.core.model import KnownBy, Phase
from pytest_dispatch.lab.restoration import RETURNING
from pytest_dispatch.lab_program.machine_making import make_machines
from pytest_dispatch.store.journal import hold_row

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
MAC = Identity(KnownBy.MAC, "52:54:00:12:34:56")


@asynccontextmanager
async def a_lab(folder: Path, *, machines: int = 0, **more: Any) -> AsyncIterator[LabBench]:
    """A lab on the one journal, with so many machines of its own."""
    own = make_machines(sims(machines)[0], folder) if machines else []
    async with running_lab(folder, machines=own, **more) as bench:
        yield bench
        bench.lab.queue.expire(bench.clock.now())
        bench.lab.lab_state.commit()
        bench.lab.lab_state.hand_over()
        await bench.lab.lab_state.on_disk()


def standing(bench: LabBench, name: str = MACHINE) -> Machine:
    return bench.lab.queue.machine(name, bench.clock.now())


def held_in(folder: Path) -> list[tuple[str, bool]]:
    """The rows of holds: of which machine, and whether it is on."""
    with closing(sqlite3.connect(folder / "journal.db")) as db:
        return [(name, bool(on)) for name, on in db.execute("SELECT name, active FROM dispatch_holds ORDER BY name")]


async def test_a_machine_that_is_held_is_held_by_the_next_lab_too(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        bench.lab.queue.machines.withhold(MACHINE, Hold(reason="its fan is loud", owner="ada", since=1000.0))
    async with a_lab(tmp_path) as bench:
        machine = standing(bench)
        assert (machine.state, machine.reason, machine.since) == (MachineState.HELD, "its fan is loud", 1000.0)
        assert bench.lab.queue.machines[MACHINE].hold == Hold(reason="its fan is loud", owner="ada", since=1000.0)
        run = await bench.one()
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
        assert bench.attempt(run).phase is Phase.QUEUED
        (view,) = (await bench.api("GET", f"/sessions/{run.session}")).json["machines"]
        assert (view["name"], view["state"], view["reason"]) == (MACHINE, "held", "its fan is loud")
        bench.lab.queue.machines.readmit(MACHINE, bench.clock.now())
        assert "dispatch-workload" in (await bench.call("HEAD")).headers
    assert held_in(tmp_path) == [(MACHINE, False)]
    async with a_lab(tmp_path) as bench:
        assert MACHINE not in bench.lab.queue.machines
        await bench.call("HEAD")
        assert standing(bench).state is MachineState.IDLE


async def test_one_that_was_let_in_again_before_it_came_is_not_held_any_more(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        bench.lab.queue.machines.withhold(MACHINE, Hold(reason="its fan is loud"))
    async with a_lab(tmp_path) as bench:
        bench.lab.queue.machines.readmit(MACHINE, bench.clock.now())
    assert held_in(tmp_path) == [(MACHINE, False)]


async def test_a_hold_ends_when_its_time_has_come(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        now = bench.clock.now()
        hold = Hold(reason="it cools down", since=now - 9.0, until=now + 3600.0)
        bench.lab.queue.machines.withhold(MACHINE, hold)
    assert held_in(tmp_path) == [(MACHINE, True)]
    async with a_lab(tmp_path) as bench:
        assert standing(bench).state is MachineState.HELD
        bench.clock.ahead += 3601.0
        assert standing(bench).state is MachineState.UNKNOWN
    assert held_in(tmp_path) == [(MACHINE, False)]


async def test_a_hold_whose_time_came_while_no_lab_was_there_has_ended(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        hold = Hold(reason="it cools down", since=1000.0, until=bench.clock.now() - 1.0)
        bench.lab.lab_state.write([hold_row(MACHINE, hold)])
    assert held_in(tmp_path) == [(MACHINE, True)]
    async with a_lab(tmp_path) as bench:
        assert standing(bench).state is MachineState.UNKNOWN
    assert held_in(tmp_path) == [(MACHINE, False)]


async def test_a_hold_from_when_the_clock_was_ahead_has_begun(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        bench.lab.queue.machines.withhold(MACHINE, Hold(reason="its fan is loud", since=bench.clock.now() + 1e6))
    async with a_lab(tmp_path) as bench:
        assert standing(bench).since <= bench.clock.now()


async def test_a_machine_of_our_own_is_held_where_a_lab_has_it(tmp_path: Path) -> None:
    async with a_lab(tmp_path, machines=2) as bench:
        bench.lab.queue.machines.withhold("sim-2", Hold(reason="its fan is loud"))
    async with a_lab(tmp_path, machines=1) as bench:
        assert [*bench.lab.queue.machines] == ["sim-1"], "the other went with its lab"
        assert standing(bench, "sim-1").state is MachineState.UNKNOWN
    async with a_lab(tmp_path, machines=2) as bench:
        assert standing(bench, "sim-2").state is MachineState.HELD
        assert standing(bench, "sim-1").state is MachineState.UNKNOWN
    assert held_in(tmp_path) == [("sim-2", True)]


async def test_machines_of_a_lab_that_several_share_are_known_to_the_next(tmp_path: Path) -> None:
    async with a_lab(tmp_path, private=False) as bench:
        await bench.call("HEAD")
        bench.lab.queue.machines.declare("lathe", MAC, labels={"arch": "x86_64"})
    async with a_lab(tmp_path, private=False) as bench:
        machines = bench.lab.queue.machines
        assert sorted(machines) == [MACHINE, "lathe"]
        assert MAC in machines["lathe"].machine.identities
        assert machines["lathe"].machine.labels == {"arch": "x86_64"}
        assert {standing(bench, name).state for name in machines} == {MachineState.UNKNOWN}
        assert not machines.changed, "the journal has them already"
    async with a_lab(tmp_path) as bench:
        assert not bench.lab.queue.machines, "in a lab of one pytest, machines are known when they come"


async def test_a_machine_that_was_not_seen_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Where no machine of the lab's own is left, one that an earlier lab knew is no reason to wait."""
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        bench.lab.queue.machines.withhold(MACHINE, Hold(reason="its fan is loud"))
    async with running_lab(tmp_path, machines=[ByHand("one", faults=[MachineError("no KVM")] * 9)]) as bench:
        (run,) = await bench.submit(bench.workload(), ready=False)
        await until(lambda: bench.now(run).outcome is not None)
        assert bench.now(run).reason == "no machine is left: one: no KVM"
        assert standing(bench).state is MachineState.HELD


async def test_a_machine_waits_for_sessions_that_may_come_back(tmp_path: Path) -> None:
    async with a_lab(tmp_path, private=False) as bench:
        assert (await bench.call("HEAD")).headers["dispatch-idle"] == "poweroff"
        await bench.one()
    async with a_lab(tmp_path, private=False) as bench:
        assert (await bench.call("HEAD")).headers["dispatch-idle"] == "wait"
        bench.clock.ahead += RETURNING
        assert (await bench.call("HEAD")).headers["dispatch-idle"] == "poweroff"
