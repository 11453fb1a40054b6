"""A lab whose journal's database server is away for a while: it takes nothing, loses nothing, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from databases import Place, PostgresServer
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab.history import Keep
from pytest_dispatch.lab.history_sweep import CONSOLES, HistorySweep
from pytest_dispatch.lab.journal_batches import OUTPUT
from pytest_dispatch.store.journal import Journal, console_row

pytestmark = pytest.mark.anyio

HOUR = 3600.0


@asynccontextmanager
async def a_lab(
    folder: Path, server: PostgresServer, *, away: float = 60.0, patience: float = 30.0
) -> AsyncIterator[LabBench]:
    async with running_lab(folder, journal=lambda _: Journal(server.url, away=away, patience=patience)) as bench:
        yield bench


def kept(server: PostgresServer, sql: str) -> list[object]:
    found = Place(server.url)
    try:
        return [row[0] for row in found.all(sql)]
    finally:
        found.engine.dispose()


async def is_missed(bench: LabBench) -> None:
    """Have the lab notice that its server is away, by what it could not keep."""
    assert (await bench.report()).status == 503
    assert bench.lab.lab_state.away is not None


async def test_it_takes_nothing_and_goes_on_where_it_was(tmp_path: Path, own_postgres: PostgresServer) -> None:
    async with a_lab(tmp_path, own_postgres) as bench:
        run = await bench.booted()
        own_postgres.stop()
        refused = await bench.report()
        assert refused.status == 503
        assert "its server does not answer" in refused.text
        assert "s3cret" not in refused.text
        for method in ("HEAD", "GET", "POST", "PUT"):
            assert (await bench.call(method)).status == 503
        assert (await bench.api("POST", f"/runs/{run.id}/cancel")).status == 503
        assert (await bench.api("GET", f"/runs/{run.id}")).status == 503
        before = bench.lab.lab_state.clock.now()
        bench.clock.ahead += HOUR  # more than any deadline
        await asyncio.sleep(0.3)  # some looks at deadlines
        assert bench.lab.lab_state.clock.now() == before
        assert bench.lab.lab_state.batches.behind() > HOUR
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: bench.lab.lab_state.away is None)
        assert (await bench.report()).status == 200
        bench.clock.ahead += 61  # what has reported is over
        await until(lambda: bench.now(run).outcome is not None)
        assert bench.now(run).outcome is Outcome.PASSED
        assert len(bench.now(run).attempts) == 1
        await bench.lab.lab_state.on_disk()
    assert kept(own_postgres, "SELECT title FROM dispatch_reports") == ["a report"]
    assert kept(own_postgres, "SELECT outcome FROM dispatch_runs") == ["passed"]


async def test_a_server_that_hangs_counts_as_away(tmp_path: Path, own_postgres: PostgresServer) -> None:
    async with a_lab(tmp_path, own_postgres, patience=3.0) as bench:
        await bench.booted()
        own_postgres.suspend()
        try:
            reply = await bench.report()
            assert reply.status == 503
            assert "it took longer than 3 s for a few rows" in reply.text
            assert (await bench.call("HEAD")).status == 503
        finally:
            own_postgres.resume()
        await until(lambda: bench.lab.lab_state.away is None)
        assert (await bench.report()).status == 200
    assert kept(own_postgres, "SELECT title FROM dispatch_reports") == ["a report"]


async def test_what_machines_show_meanwhile_is_kept_up_to_a_bound(tmp_path: Path, own_postgres: PostgresServer) -> None:
    async with a_lab(tmp_path, own_postgres) as bench:
        await bench.booted()
        own_postgres.stop()
        await is_missed(bench)
        line, times = "x" * 999, 2 * OUTPUT // 1000
        for _ in range(times):
            bench.lab.lab_state.batches.show([("r", 1, 0.0, line)])
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: bench.lab.lab_state.away is None)
        bench.lab.lab_state.batches.show([("r", 1, 0.0, "after")])
        bench.lab.lab_state.hand_over()
        await bench.lab.lab_state.on_disk()
    shown = "\n".join(map(str, kept(own_postgres, "SELECT text FROM dispatch_console ORDER BY id"))).split("\n")
    assert shown == [line] * (times // 2) + ["after"]


async def test_a_server_that_does_not_come_back_ends_the_lab(tmp_path: Path, own_postgres: PostgresServer) -> None:
    async with a_lab(tmp_path, own_postgres, away=0.5) as bench:
        await bench.booted()
        own_postgres.stop()
        assert (await bench.report()).status == 503
        await until(lambda: bench.lab.broken is not None)
        assert "and did not come back in time" in str(bench.lab.broken)
        assert (await bench.report()).status == 503
    await asyncio.to_thread(own_postgres.start)


async def test_the_sweep_of_history_goes_on_when_its_server_is_back(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    async with a_lab(tmp_path, own_postgres) as bench:
        run = await bench.booted()
        bench.lab.lab_state.write([console_row(run.id, 1, 1.0, "an old line")])
        await bench.lab.lab_state.on_disk()
        own_postgres.stop()
        keep = Keep(consoles=1.0, texts=1.0, runs=1.0)
        sweep = HistorySweep(bench.lab.lab_state, bench.lab.history, keep)
        working = asyncio.create_task(sweep.work())
        await asyncio.sleep(0.3)  # a try
        assert not working.done()
        await asyncio.to_thread(own_postgres.start)
        sweep.keep(keep)  # look at once
        await until(lambda: bench.lab.history.removed == {CONSOLES: 1})
        working.cancel()
