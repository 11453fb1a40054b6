"""Machines that break are held by the lab, are checked, and return; also after the lab was killed or started again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from boots import boots
from labs import Clock, LabBench, running_lab, workload
from libraries import Library
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.health import CHECKS, HealthRules
from pytest_dispatch.core.health_schedule import DAY, HealthPlan
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.machines.base import DrivenMachine
from pytest_dispatch.machines.sim.driver import SimMachine
from pytest_dispatch.machines.sim.scenarios import SCENARIOS, Scenario, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

OTHER = "127.0.0.3"
PERSONS = Lease(kind=LeaseKind.DETACHED, owner="ada")


class Breakable:
    """A simulated machine that boots nothing while it is broken."""

    def __init__(self) -> None:
        self.broken = True
        self.lender: Library | None = None
        self.played: list[str] = []
        scenarios = {**SCENARIOS, "pass": Scenario(play=self._play)}
        self._machine = SimMachine(pace=0.002, scenarios=scenarios)

    async def _play(self, stage: Stage) -> None:
        self.played.append(stage.workload)
        await SCENARIOS["no-boot" if self.broken else "pass"].play(stage)

    def driven(self, name: str) -> DrivenMachine:
        return replace(self._machine.driven(), name=name, lender=self.lender)


def health_of(folder: Path, *, every: float = 1000 * DAY) -> dict[str, Any]:
    """A group whose machines are checked, so seldom that none is unless it is to be."""
    (folder / "check.efi").write_bytes(b"C" * 100)
    check = boots("check.efi", location="folder:w/check.efi", size=100)
    return {
        "private": False,
        "health": HealthRules(again=600.0),
        "groups": [Group(id="all", health=HealthPlan(template="check", every=every))],
        "templates": [Template(id="check", group="all", workload=check)],
    }


@asynccontextmanager
async def a_lab(folder: Path, *machines: Breakable, every: float = 1000 * DAY, **more: Any) -> AsyncIterator[LabBench]:
    own = [machine.driven(f"sim-{number}") for number, machine in enumerate(machines, 1)]
    async with running_lab(folder, machines=own, **{**health_of(folder, every=every), **more}) as bench:
        yield bench


async def breaks(bench: LabBench, count: int = 3) -> None:
    """So many workloads in a row have a fault of the lab, each once."""
    wanted = [workload(bench.folder / f"{number}.efi", location=f"folder:w/{number}.efi") for number in range(count)]
    runs = await bench.submit(*wanted, policy=Policy(retries=0), lease=PERSONS, ready=False)
    await until(lambda: all(bench.now(run).outcome for run in runs))
    assert {bench.now(run).outcome for run in runs} == {Outcome.ERROR}


async def check_over(bench: LabBench, name: str = "sim-1", *, checks: int = 1) -> None:
    def is_over() -> bool:
        health = bench.lab.queue.health.of(name)
        return health.outcome is not None and not health.run and health.tries >= checks - 1

    await until(is_over)


async def test_a_machine_that_breaks_is_held_and_returns_by_its_check(tmp_path: Path) -> None:
    sim = Breakable()
    async with a_lab(tmp_path, sim) as bench:
        await breaks(bench)
        record, health = bench.lab.queue.machines["sim-1"], bench.lab.queue.health
        assert record.hold is not None
        assert record.hold.reason.startswith("3 faults of the lab in a row: 0.efi (run ")
        await until(lambda: health.of("sim-1").tries == 1)
        assert "its health workload check.efi (run " in record.hold.reason
        assert "ended with a fault of the lab: sim-1 never booted it" in record.hold.reason
        sim.broken = False
        bench.clock.ahead += 601.0
        await until(lambda: record.hold is None)
        assert health.of("sim-1").outcome is Outcome.PASSED
        run = await bench.one()
        await until(lambda: bench.now(run).outcome is Outcome.PASSED)


async def test_who_lends_a_machine_is_told_after_each_check_that_fails(tmp_path: Path) -> None:
    sim, library = Breakable(), Library()
    sim.lender = library
    async with a_lab(tmp_path, sim) as bench:
        await breaks(bench)
        for tries in (1, 2):
            await check_over(bench, checks=tries + 1)
            await until(lambda tries=tries: len(library.told) == tries)  # type: ignore[misc]
            sim.broken = tries == 1
            bench.clock.ahead += 601.0 * tries
        assert all(word.startswith("broken: its health workload check.efi (run ") for word in library.told)
        await until(lambda: bench.lab.queue.machines["sim-1"].hold is None)
    assert library.told[2:] == ["released"], "to be checked it was powered on, which takes it back"


async def test_what_is_known_of_health_outlasts_the_lab(tmp_path: Path) -> None:
    sim = Breakable()
    async with a_lab(tmp_path, sim) as bench:
        await breaks(bench, 2)
        await bench.lab.lab_state.on_disk()
        before = bench.lab.queue.health.of("sim-1")
    async with a_lab(tmp_path, sim) as bench:
        assert bench.lab.queue.health.of("sim-1").faults == before.faults
        assert len(before.faults) == 2
        await breaks(bench, 3)
        assert bench.lab.queue.machines["sim-1"].hold is not None
        await until(lambda: bench.lab.queue.health.of("sim-1").tries == 1)
    sim.broken = False
    async with a_lab(tmp_path, sim) as bench:
        health = bench.lab.queue.health.of("sim-1")
        assert (health.holding, health.tries) == (True, 1)
        bench.clock.ahead += 601.0
        await until(lambda: bench.lab.queue.machines["sim-1"].hold is None)


async def test_a_check_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A machine that nobody starts keeps what it holds."""
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        await bench.lab.health_service.check_now("127.0.0.2")
        run = bench.lab.queue.health.of("127.0.0.2").run
        await until(lambda: run in bench.boot.assets)
        await bench.call("HEAD")
        assert (await bench.call("GET")).headers["dispatch-workload"] == "check.efi"
    async with a_lab(tmp_path) as bench:
        assert bench.lab.queue.health.of("127.0.0.2").run == run
        assert (await bench.call("POST")).status == 200
        assert (await bench.report(result="passed")).status == 200
        await bench.call("HEAD")
        await check_over(bench, "127.0.0.2")
        assert bench.lab.queue.health.of("127.0.0.2").outcome is Outcome.PASSED


async def test_a_check_that_waits_does_so_for_its_machine_after_a_restart(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.call("HEAD")
        await bench.lab.health_service.check_now("127.0.0.2")
        run = bench.lab.queue.health.of("127.0.0.2").run
    async with a_lab(tmp_path) as bench:
        await until(lambda: run in bench.boot.assets)
        assert "dispatch-workload" not in (await bench.call("HEAD", source=OTHER)).headers
        assert (await bench.call("HEAD")).headers["dispatch-workload"] == "check.efi"


async def test_checks_are_runs_like_any_other(tmp_path: Path) -> None:
    sim = Breakable()
    sim.broken = False
    async with a_lab(tmp_path, sim) as bench:
        await bench.lab.health_service.check_now("sim-1")
        first = bench.lab.queue.health.of("sim-1").run
        await bench.lab.health_service.check_now("sim-1")
        assert bench.lab.queue.health.of("sim-1").run == first, "one at a time"
        await check_over(bench)
        session = bench.lab.queue.runs[first].session
        record = bench.lab.lab_state.live_session(session).record
        assert (record.source, record.owner, record.user) == (CHECKS, "lab", "lab")
        await until(lambda: bench.lab.queue.table.is_over(session))
        kept = await bench.journal.background.kept_run(first)
        assert kept is not None
        assert (kept.run.outcome, kept.run.attempt.machine) == (Outcome.PASSED, "sim-1")


async def test_a_held_machine_of_a_person_is_checked_on_demand_alone(tmp_path: Path) -> None:
    sim = Breakable()
    sim.broken = False
    async with a_lab(tmp_path, sim, every=DAY) as bench:
        await bench.lab.group_service.hold_machine("sim-1", Hold(reason="its fan is loud", owner="ada"))
        bench.clock.ahead += 3 * DAY
        run = await bench.one()
        assert bench.lab.queue.health.of("sim-1").run == ""
        await bench.lab.health_service.check_now("sim-1")
        await check_over(bench)
        assert bench.lab.queue.health.of("sim-1").outcome is Outcome.PASSED
        assert bench.lab.queue.machines["sim-1"].hold is not None
        assert bench.now(run).outcome is None
        assert sim.played == ["check.efi"]


async def test_machines_are_checked_once_a_day(tmp_path: Path) -> None:
    sim = Breakable()
    sim.broken = False
    async with a_lab(tmp_path, sim, every=DAY) as bench:
        health = bench.lab.queue.health
        await until(lambda: health.of("sim-1").due is not None)
        for checks in (1, 2):
            bench.clock.ahead += (health.of("sim-1").due or 0.0) - bench.clock.now() + 1.0
            await until(lambda: len(sim.played) == checks)  # noqa: B023 - it is over before the next
            await until(lambda: health.of("sim-1").outcome is Outcome.PASSED and not health.of("sim-1").run)
            await until(lambda: (health.of("sim-1").due or 0.0) > bench.clock.now())
            assert (health.of("sim-1").due or 0.0) <= bench.clock.now() + 1.5 * DAY


async def test_a_check_waits_for_an_idle_machine_until_it_is_overdue(tmp_path: Path) -> None:
    """A stranger that runs something, while more waits that it can take."""
    async with a_lab(tmp_path, every=DAY) as bench:
        await bench.call("HEAD")
        health = bench.lab.queue.health
        await until(lambda: health.of("127.0.0.2").due is not None)
        runs = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), lease=PERSONS)
        bench.clock.ahead += (health.of("127.0.0.2").due or 0.0) - bench.clock.now() + 1.0
        await bench.download(runs[0])
        assert health.of("127.0.0.2").run == ""
        bench.clock.ahead += DAY / 4
        await bench.call("HEAD")
        await until(lambda: health.of("127.0.0.2").run != "")
        await until(lambda: health.of("127.0.0.2").run in bench.boot.assets)
        assert bench.now(runs[1]).outcome is None


async def test_a_machine_without_a_health_workload_is_not_checked(tmp_path: Path) -> None:
    async with a_lab(tmp_path, groups=[], templates=[]) as bench:
        await bench.call("HEAD")
        with pytest.raises(ConfigError, match=r"got one in no group whose health.template suits it"):
            await bench.lab.health_service.check_now("127.0.0.2")
        with pytest.raises(UnknownError, match="no machine 'nobody'"):
            await bench.lab.health_service.check_now("nobody")


async def test_a_group_whose_health_workload_is_no_template_of_it_is_refused(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        groups = [Group(id="all", health=HealthPlan(template="chek"))]
        with pytest.raises(ConfigError, match="group all has no template 'chek': did you mean check"):
            await bench.lab.group_service.configure(groups, [*bench.lab.group_service.templates.values()])


async def test_a_machine_that_a_person_returns_starts_anew(tmp_path: Path) -> None:
    sim = Breakable()
    async with a_lab(tmp_path, sim) as bench:
        await breaks(bench)
        await until(lambda: bench.lab.queue.health.of("sim-1").tries == 1)
        await bench.lab.group_service.release_machine("sim-1")
        health = bench.lab.queue.health.of("sim-1")
        assert (health.holding, health.faults, health.tries) == (False, (), 0)


async def test_a_machine_that_is_held_is_not_powered_on_for_others_work(tmp_path: Path) -> None:
    sim = Breakable()
    sim.broken = False
    async with a_lab(tmp_path, sim) as bench:
        await bench.lab.group_service.hold_machine("sim-1", Hold(reason="its fan is loud", owner="ada"))
        await bench.one()
        clock: Clock = bench.clock
        clock.ahead += 5.0
        await until(lambda: bench.lab.lab_state.batches.behind() == 0.0)
        assert not bench.lab.queue.machines["sim-1"].heard


async def test_a_machine_that_was_held_before_there_was_a_check_is_checked_once_there_is(tmp_path: Path) -> None:
    sim = Breakable()
    planned = health_of(tmp_path)
    async with a_lab(tmp_path, sim, groups=[Group(id="all")]) as bench:
        await breaks(bench)
        hold = bench.lab.queue.machines["sim-1"].hold
        assert hold is not None
        assert hold.reason.endswith("return it by hand: dispatch machines return sim-1")
        sim.broken = False
        await bench.lab.group_service.configure(planned["groups"], planned["templates"])
        await until(lambda: bench.lab.queue.machines["sim-1"].hold is None)


async def test_a_session_takes_so_many_checks_and_is_closed_once_they_are_over(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        bench.lab.health_service.most_checks = 2
        health, runs = bench.lab.queue.health, []
        for number in range(2, 5):
            await bench.call("HEAD", source=f"127.0.0.{number}")
            await bench.lab.health_service.check_now(f"127.0.0.{number}")
            runs.append(health.of(f"127.0.0.{number}").run)
        first, second, third = (bench.lab.queue.runs[run].session for run in runs)
        assert first == second != third
        for run in runs[:2]:
            await bench.api("DELETE", f"/runs/{run}")
        await until(lambda: bench.lab.queue.table.is_over(first))
        assert not bench.lab.queue.table.is_over(third)
