"""How long runs take, as a lab keeps it: read once for each series, counted on as runs end, told by explanations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from databases import Place
from labs import TOKEN, LabBench, running_lab
from waiting import until

from pytest_dispatch.core.explanation import Explanation
from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.model import Policy, Run
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.lab.durations import MOST_READ
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.support.codec import decode

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
TAKES = 100.0  # seconds


@asynccontextmanager
async def a_lab(folder: Path, where: Place) -> AsyncIterator[LabBench]:
    async with running_lab(folder, private=False, journal=lambda _: Journal(where.where)) as bench:
        yield bench


async def submit(bench: LabBench, name: str) -> Run:
    runs = await bench.submit(bench.workload(name, limits={"assign": 1e6}), policy=Policy(), lease=Lease(lasts=1e6))
    await until(lambda: runs[0].id in bench.boot.assets)
    return runs[0]


async def begins(bench: LabBench, run: Run) -> None:
    await bench.call("HEAD", source=MACHINE)
    await bench.download(run, source=MACHINE)
    assert (await bench.call("POST", source=MACHINE)).status == 200


async def goes_through(bench: LabBench, run: Run) -> None:
    await begins(bench, run)
    bench.clock.ahead += TAKES
    assert (await bench.report(source=MACHINE)).status == 200
    await bench.call("HEAD", source=MACHINE)


async def explained(bench: LabBench, run: Run) -> Explanation:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = await bench.call("GET", f"/api/v1/runs/{run.id}/explanation", source="127.0.0.1", headers=headers)
    assert reply.status == 200, reply.text
    return decode(reply.body, Explanation)


async def test_a_start_is_told_as_soon_as_earlier_runs_are_known(tmp_path: Path, where: Place) -> None:
    async with a_lab(tmp_path, where) as bench:
        await goes_through(bench, await submit(bench, "a.efi"))
    async with a_lab(tmp_path, where) as bench:
        first = await submit(bench, "a.efi")
        await begins(bench, first)
        second = await submit(bench, "a.efi")
        assert (await explained(bench, second)).starts is None  # no request waits for the journal
        await until(lambda: bench.lab.durations.takes(bench.now(first), MACHINE, 0.5) is not None)
        starts = (await explained(bench, second)).starts
        assert starts is not None
        assert starts.latest - bench.clock.now() == pytest.approx(TAKES, rel=0.1)


async def test_what_ends_counts(tmp_path: Path, where: Place) -> None:
    async with a_lab(tmp_path, where) as bench:
        run = await submit(bench, "a.efi")
        series = bench.lab.durations.series_of(run)
        await bench.lab.durations.read([series])
        assert bench.lab.durations.of(series, MACHINE, 0.5) is None
        await goes_through(bench, run)
        assert bench.lab.durations.of(series, MACHINE, 0.5) == pytest.approx(TAKES, rel=0.1)
        assert bench.lab.durations.of(series, "another", 0.9) == pytest.approx(TAKES, rel=0.1)


async def test_few_series_are_read_at_a_time(tmp_path: Path, where: Place) -> None:
    async with a_lab(tmp_path, where) as bench:
        durations = bench.lab.durations
        unknown = [Series("boot", "w", f"w{number}") for number in range(40)]
        assert [durations.of(each, "", 0.5) for each in unknown] == [None] * 40
        reading = [task for task in asyncio.all_tasks() if "series" in task.get_name()]
        assert len(reading) == MOST_READ
        await until(lambda: all(task.done() for task in reading))
        assert durations.of(unknown[0], "", 0.5) is None  # known to have never run
        assert not [task for task in asyncio.all_tasks() if "series" in task.get_name()]
