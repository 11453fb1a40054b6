"""What a session may expect of a lab that others use too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Policy, Run
from pytest_dispatch.core.outlook import Outlook
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.lab.outlook import outlook
from pytest_dispatch.lab.session_feed import IssueRule

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
TAKES = 100.0  # seconds


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with running_lab(tmp_path, private=False) as running:
        yield running


async def submit(bench: LabBench, name: str) -> Run:
    patient = {"assign": 1e6}
    runs = await bench.submit(bench.workload(name, limits=patient), policy=Policy(), lease=Lease(lasts=1e6))
    await until(lambda: runs[0].id in bench.boot.assets)
    return runs[0]


async def begin(bench: LabBench, run: Run) -> None:
    await bench.call("HEAD", source=MACHINE)
    await bench.download(run, source=MACHINE)
    assert (await bench.call("POST", source=MACHINE)).status == 200


async def end(bench: LabBench) -> None:
    assert (await bench.report(source=MACHINE)).status == 200
    await bench.call("HEAD", source=MACHINE)


async def expected(bench: LabBench, group: str = "") -> Outlook:
    """What a session that has asked for nothing yet may expect."""
    session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port, Lease())
    return await outlook(bench.lab.lab_state, bench.lab.durations, session, [((), group)])


async def test_a_lab_that_nobody_uses(bench: LabBench) -> None:
    assert await expected(bench) == Outlook(machines=0, ahead=0, starts_in=None)
    await bench.call("HEAD", source=MACHINE)
    assert await expected(bench) == Outlook(machines=1, ahead=0, starts_in=0.0)


async def test_a_first_run_waits_for_those_that_go_first(bench: LabBench) -> None:
    first = await submit(bench, "a.efi")
    await begin(bench, first)
    assert await expected(bench) == Outlook(machines=1, ahead=0, starts_in=None)  # nobody knows how long it takes
    bench.clock.ahead += TAKES
    await end(bench)
    assert (await expected(bench)).starts_in == 0.0
    again = await submit(bench, "a.efi")
    await begin(bench, again)
    bench.clock.ahead += TAKES / 4
    found = await expected(bench)
    assert (found.machines, found.ahead) == (1, 0)
    assert found.starts_in == pytest.approx(0.75 * TAKES, rel=0.1)
    waits = await submit(bench, "a.efi")
    found = await expected(bench)
    assert (found.machines, found.ahead) == (1, 1)
    assert found.starts_in == pytest.approx(1.75 * TAKES, rel=0.1)
    assert bench.now(waits).attempt.machine == ""


async def test_only_machines_that_fit_count(bench: LabBench) -> None:
    await bench.call("HEAD", source=MACHINE)
    session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port, Lease())
    wanted = [(read_requirements(["arch=riscv"], "requires"), "")]
    assert await outlook(bench.lab.lab_state, bench.lab.durations, session, wanted) == Outlook(
        machines=0, ahead=0, starts_in=None
    )


async def test_only_machines_of_the_group_count_and_none_that_is_held_promises_a_start(bench: LabBench) -> None:
    queue = bench.lab.queue
    for name, labels in (("rpi", {"pi": ""}), ("big", {"server": ""})):
        queue.machines.declare(name, labels=labels, driven=True)
    groups = [Group(id="pis", labels={"pi": ""}), Group(id="servers", labels={"server": ""})]
    queue.group_queue.set(groups, bench.clock.now())
    assert await expected(bench, "servers") == Outlook(machines=1, ahead=0, starts_in=0.0)
    queue.machines.withhold("big", Hold(reason="its fan"))
    assert await expected(bench, "servers") == Outlook(machines=1, held=1, ahead=0, starts_in=None)
    assert await expected(bench, "pis") == Outlook(machines=1, ahead=0, starts_in=0.0)
    queue.groups.pause("pis", Hold(reason="power cut"), bench.clock.now())
    assert (await expected(bench, "pis")).starts_in is None
