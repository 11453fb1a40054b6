"""Machines that ask, or workloads that report, before the lab's session is open or has asked for anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boots import but
from faults import fault
from labs import Reply, call, client_of, embedded, plan, workload
from waiting import PATIENCE

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest

EARLY = 0.3  # seconds that a machine is ahead
LONG_TO_READ = 2**25  # bytes: far longer than the other, and far less than the lab lets others wait for it

pytestmark = pytest.mark.anyio


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[InProcessLab]:
    """One without a session; that of an interrupted one where there was one."""
    made = patient(tmp_path)
    made.start("w")
    yield made
    made.stop()


class Still(SteadyClock):
    """No time passes by it, so that whoever waits does so until there is what it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._always = super().now()

    def now(self) -> float:
        return self._always


def patient(folder: Path) -> InProcessLab:
    """A lab that lets machines wait, however long a busy computer takes to open a session."""
    return InProcessLab(plan(folder, resume=True), clock=Still())


def port_of(lab: InProcessLab) -> int:
    return int(lab.url.rpartition(":")[2])


def opened(client: LabClient) -> str:
    return client.open(OpenSession(source="w", policy=Policy(), resume=True)).id


async def early(lab: InProcessLab, method: str, body: bytes = b"") -> asyncio.Task[Reply]:
    """A machine's request that is on its way."""
    task = asyncio.create_task(call(port_of(lab), method, body=body))
    await asyncio.sleep(EARLY)
    return task


@fault(
    "Machines",
    "a machine asks while pytest still starts or collects",
    outcome="it is not powered off, but waits for a workload; after 3 s by the wait program",
    told="nothing",
)
@pytest.mark.parametrize("open_first", [False, True])
async def test_it_gets_what_is_then_asked_for(lab: InProcessLab, tmp_path: Path, open_first: bool) -> None:
    with client_of(lab) as client:
        session = opened(client) if open_first else ""
        machine = await early(lab, "HEAD")
        session = session or opened(client)
        client.submit(session, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
        answer = await asyncio.wait_for(machine, PATIENCE)
    assert answer.headers["dispatch-workload"] == "a.efi"


async def test_it_gets_the_first_though_others_are_found_sooner(lab: InProcessLab, tmp_path: Path) -> None:
    """It waits already when they are asked for, and the first takes longest to look up."""
    first, second = workload(tmp_path / "a.efi"), workload(tmp_path / "b.efi")
    os.truncate(first.payload["location"], LONG_TO_READ)
    wanted = [RunRequest(key="a", workload=but(first, size=LONG_TO_READ)), RunRequest(key="b", workload=second)]
    with client_of(lab) as client:
        session = opened(client)
        machine = await early(lab, "HEAD")
        client.submit(session, wanted)
        answer = await asyncio.wait_for(machine, PATIENCE)
    assert answer.headers["dispatch-workload"] == "a.efi"


async def test_it_is_powered_off_when_nothing_was_asked_for(lab: InProcessLab) -> None:
    with client_of(lab) as client:
        session = opened(client)
        machine = await early(lab, "HEAD")
        client.end(session)
        answer = await asyncio.wait_for(machine, PATIENCE)
    assert answer.headers["dispatch-idle"] == "poweroff"


@fault(
    "Crashes",
    "a workload reports while the resumed session is still being opened",
    outcome="the report waits for it, and is taken",
    told="nothing",
)
async def test_a_report_waits_for_its_session(tmp_path: Path) -> None:
    first = embedded(tmp_path)
    first.start("w")
    with client_of(first) as client:
        client.submit(opened(client), [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
        assert (await call(port_of(first), "GET")).status == 200
        assert (await call(port_of(first), "POST")).status == 200
    first.stop()
    second = patient(tmp_path)
    second.start("w")
    try:
        report = await early(second, "PUT", b'{"title": "said early"}')
        assert not report.done()
        with client_of(second) as client:
            (run,) = client.runs(opened(client))
            assert (await asyncio.wait_for(report, PATIENCE)).status == 200
            assert [said.title for said in client.run(run.run.id).run.attempt.reports] == ["said early"]
    finally:
        second.stop()
