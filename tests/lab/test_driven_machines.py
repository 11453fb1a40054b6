"""A lab whose machines lack power or boot control, or have to be told beforehand what they boot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from by_hand import Ahead, ByHand
from faults import fault
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Run
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_options import RunOptions
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = pytest.mark.anyio

HERE = "127.0.0.31"
NEEDED = "power it on, or off and on: it has no power control"


def hands(bench: LabBench) -> list[tuple[str, str]]:
    return [(notice.machine, notice.why) for notice in bench.lab.notices.all() if notice.what == "by hand"]


def asked_for(bench: LabBench, times: int) -> bool:
    return len(hands(bench)) == times


async def runs_on(bench: LabBench, run: Run, target: str, source: str = "127.0.0.2") -> None:
    """A machine takes it, runs it, and reports that it passed."""
    assert (await bench.call("GET", target, source=source)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)
    assert (await bench.call("POST", target, source=source)).status == 200
    report = b'{"title": "done", "result": "passed"}'
    assert (await bench.call("PUT", target, source=source, body=report)).status == 200


# Without power control


@fault(
    "Machines",
    "a machine that the plugin is to bring up has no power control, and is off or hangs",
    outcome="it is waited for as for any machine; nobody waits for it in the end if it never came",
    told=f"the terminal, each time anew: `by hand: NAME at …: {NEEDED}`",
)
async def test_a_machine_without_power_control_is_asked_for_at_the_terminal(tmp_path: Path) -> None:
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine.driven(power=None)]) as bench:
        run = await bench.one(policy=Policy(retries=1))
        await until(lambda: hands(bench) == [("one", NEEDED)])
        assert not bench.lab.machines.is_awaited("one")
        machine.boot()  # somebody did
        assert (await bench.call("GET", machine.target())).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", machine.target())).status == 200
        machine.signs.put_nowait(Sign(text="smoke", fault="its fan stands still", lab=True))
        await until(lambda: len(bench.now(run).attempts) == 2)
        await until(lambda: hands(bench) == [("one", NEEDED)] * 2)
        assert bench.lab.machines.is_awaited("one")
        machine.boot()
        await runs_on(bench, run, machine.target())
        machine.boot()
        assert (await bench.call("GET", machine.target())).headers["dispatch-idle"] == "poweroff"
        await until(lambda: not bench.lab.machines.is_awaited("one"))
        assert bench.now(run).outcome is Outcome.PASSED
        assert machine.starts == 0


async def test_one_without_power_control_is_waited_for_no_longer_once_it_is_given_up(tmp_path: Path) -> None:
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine.driven(power=None)]) as bench:
        run = await bench.one(limits={"assign": 86400.0})
        for asked in (1, 2, 3):
            await until(partial(asked_for, bench, asked))
            bench.clock.ahead += 901
        await until(lambda: bench.now(run).outcome is not None)
        assert bench.now(run).outcome is Outcome.ERROR
        assert bench.now(run).reason.endswith("15m, 3 times in a row; it has no power control")


# Without boot control


async def test_a_machine_without_boot_control_is_known_by_its_address(tmp_path: Path) -> None:
    """Though no address is allowed but those of the lab's own; what else asks is no machine."""
    machine = ByHand("one")
    driven = machine.driven(boot=None, console=None, address=HERE)
    machine.signs.put_nowait(Sign(text="BdsDxe"))  # nobody looks
    async with running_lab(tmp_path, machines=[driven], allow=()) as bench:
        run = await bench.one(expect=Expect.RETURN)
        await until(lambda: machine.alive)
        assert (await bench.call("HEAD", source="127.0.0.32")).status == 403
        assert (await bench.call("GET", source=HERE)).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        [placed] = bench.attempt(run).placements
        assert (placed.machine, placed.known_by) == ("one", KnownBy.ADDRESS)
        assert [*bench.lab.queue.machines] == ["one"]
        known = bench.lab.queue.machines["one"].machine
        assert (known.identities, known.driven) == (frozenset({Identity(KnownBy.ADDRESS, HERE)}), True)
        assert (await bench.call("GET", source=HERE)).headers["dispatch-idle"] == "poweroff"
        assert bench.now(run).outcome is Outcome.PASSED
        assert bench.lab.queue.machine("one", bench.clock.now()).state is MachineState.OFF
        assert (await bench.api("GET", f"/runs/{run.id}")).json["console"] == []


async def test_one_whose_driver_cannot_see_it_go_off_is_powered_on_again_for_more(tmp_path: Path) -> None:
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine.driven(boot=None, address=HERE)]) as bench:
        first = await bench.one()
        await until(lambda: machine.alive)
        await runs_on(bench, first, "/dispatch", HERE)
        assert (await bench.call("GET", source=HERE)).headers["dispatch-idle"] == "poweroff"
        second = await bench.one(name="b.efi")
        await until(lambda: machine.starts == 2)
        await runs_on(bench, second, "/dispatch", HERE)
        assert machine.alive, "the outlet is as it was"


async def test_without_boot_control_one_that_goes_off_is_not_booted_into_its_run_again(
    tmp_path: Path,
) -> None:
    """As little as one with a token: it asked, and what it runs has deadlines of its own."""
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine.driven(boot=None, address=HERE)]) as bench:
        run = await bench.one()
        await until(lambda: machine.alive)
        await bench.download(run, HERE)
        assert (await bench.call("POST", source=HERE)).status == 200
        machine.alive = False
        await until(lambda: bench.lab.machines.is_off("one"))
        assert (await bench.call("HEAD", "/dispatch/look", source=HERE)).status == 200
        assert (machine.starts, bench.attempt(run).state) == (1, State.BOOTING)


# Told beforehand what they boot


async def test_a_machine_whose_boot_url_is_set_beforehand_runs_one_after_the_other(tmp_path: Path) -> None:
    machine = Ahead()
    async with running_lab(tmp_path, machines=[machine.driven("one")]) as bench:
        workloads = [bench.workload(f"{name}.efi", plays=name) for name in ("pass", "fail", "come-back", "duplicate")]
        runs = await bench.submit(*workloads, policy=Policy(retries=0))
        await until(lambda: all(bench.now(run).outcome is not None for run in runs))
        outcomes = [bench.now(run).outcome for run in runs]
        assert outcomes == [Outcome.PASSED, Outcome.FAILED, Outcome.FAILED, Outcome.PASSED]
        assert [bench.attempt(run).machine for run in runs] == ["one"] * 4
        await until(lambda: bench.lab.machines.is_off("one"))
        assert len(set(machine.booted)) == len(machine.booted) == 5
        assert not bench.lab.notices.all()


async def test_the_url_of_an_earlier_boot_is_refused_once_the_next_one_asks(
    tmp_path: Path,
) -> None:
    """It is over when the next one asks, and not before: what runs may speak until then."""
    machine = ByHand("one")

    class Said:
        urls: tuple[str, ...] = ()

        async def boot_from(self, new_url: Callable[[], str]) -> None:
            self.urls = (*self.urls, new_url().partition("//")[2].partition("/")[2])

    said = Said()
    async with running_lab(tmp_path, machines=[machine.driven(boot=said)]) as bench:
        first, second = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
        await until(lambda: len(said.urls) == 1)
        await runs_on(bench, first, f"/{said.urls[0]}")
        await until(lambda: len(said.urls) == 2)
        assert (await bench.call("GET", f"/{said.urls[1]}")).body == bench.bytes_of(second)
        assert bench.now(first).outcome is Outcome.PASSED
        refused = await bench.call("GET", f"/{said.urls[0]}")
        assert (refused.status, "of an earlier boot" in refused.text) == (403, True)
        await until(lambda: len(said.urls) == 3)


# Chains


async def test_a_machine_that_is_off_when_its_chain_goes_on_there_is_powered_on(tmp_path: Path) -> None:
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine]) as bench:
        first, second = (bench.workload(f"{name}.efi", chain="c") for name in "ab")
        [run] = await bench.submit(first)
        await until(lambda: machine.alive)
        await runs_on(bench, run, machine.target())
        machine.boot()
        assert (await bench.call("GET", machine.target())).headers["dispatch-idle"] == "poweroff"
        machine.alive = False
        await until(lambda: bench.lab.machines.is_off("one"))
        [after] = await bench.lab.session_service.submit(run.session, [("b", second)])
        await until(lambda: machine.starts == 2)
        await runs_on(bench, after, machine.target())


async def test_a_machine_that_went_off_in_a_stage_is_powered_on_for_the_next_one(tmp_path: Path) -> None:
    """What it said last was still under way."""
    machine = ByHand("one")
    async with running_lab(tmp_path, machines=[machine]) as bench:
        stages = [bench.workload(f"{name}.efi", chain="c", expect=Expect.BOOT) for name in "ab"]
        first, second = await bench.submit(*stages)
        await until(lambda: machine.alive)
        assert (await bench.call("GET", machine.target())).body == bench.bytes_of(first)
        await bench.enters(first, State.DOWNLOADED)
        machine.alive = False
        await until(lambda: bench.lab.machines.is_off("one"))
        assert (await bench.call("POST", machine.target())).status == 200
        assert bench.now(first).outcome is Outcome.PASSED
        await until(lambda: machine.starts == 2)
        assert (await bench.call("GET", machine.target())).body == bench.bytes_of(second)


# Work that a machine cannot have


async def waits_for_two(bench: LabBench, options: RunOptions, **fields: Any) -> Run:
    """A run that waits for one machine alone, as a person's that is run again there."""
    session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port, Lease(lasts=1e6))
    wanted = bench.workload(limits={"assign": 1e6}, **fields)
    (run,) = await bench.lab.session_service.submit(session, [("a", wanted)], {"a": options})
    await until(lambda: run.id in bench.boot.assets)
    return run


@pytest.mark.parametrize(
    ("options", "fields"),
    [(RunOptions(only="two"), {}), (RunOptions(), {"requires": tuple(read_requirements(["fast"], "requires"))})],
    ids=["tied", "required"],
)
async def test_no_machine_is_powered_for_work_that_it_cannot_have(
    tmp_path: Path, options: RunOptions, fields: dict[str, Any]
) -> None:
    one, two = ByHand("one"), ByHand("two")
    async with running_lab(tmp_path, machines=[one.driven(), two.driven(labels={"fast": ""})]) as bench:
        bench.lab.queue.machines.withhold("two", Hold(reason="its fan"))
        run = await waits_for_two(bench, options, **fields)
        for _ in range(5):
            bench.clock.ahead += 600.0
            bench.lab.machines.rouse()
            await asyncio.sleep(0)
        assert (one.starts, two.starts) == (0, 0)
        bench.lab.queue.machines.readmit("two", bench.clock.now())
        bench.lab.machines.rouse()
        await until(lambda: two.starts == 1)
        await runs_on(bench, run, two.target())
        assert one.starts == 0


async def test_no_machine_is_powered_for_a_run_that_is_held(tmp_path: Path) -> None:
    one = ByHand("one")
    async with running_lab(tmp_path, machines=[one.driven()]) as bench:
        bench.lab.queue.machines.withhold("one", Hold(reason="its fan"))
        run = await waits_for_two(bench, RunOptions())
        await bench.lab.queue_service.hold(run.id, Hold(reason="not now"))
        bench.lab.queue.machines.readmit("one", bench.clock.now())
        bench.lab.machines.rouse()
        await asyncio.sleep(0)
        assert one.starts == 0
        await bench.lab.queue_service.release(run.id)
        bench.lab.machines.rouse()
        await until(lambda: one.starts == 1)
