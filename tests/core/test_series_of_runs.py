"""What a lab keeps of the runs of a series as they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from labs import running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.core.run_series import Series

pytestmark = pytest.mark.anyio


async def test_each_end_of_a_run_is_counted_once_for_all_machines_and_for_its_own(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        runs = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), policy=Policy())
        for run, result in zip(runs, ("passed", "failed"), strict=True):
            await bench.download(run)
            assert (await bench.call("POST")).status == 200
            assert (await bench.report(result=result)).status == 200
        await bench.call("HEAD")
        await until(lambda: all(bench.now(run).outcome for run in runs))
        assert (await bench.report(title="late")).status == 200  # which ends nothing once more
        await bench.lab.lab_state.on_disk()
        for name, outcome in (("a.efi", Outcome.PASSED), ("b.efi", Outcome.FAILED)):
            told = await bench.journal.background.sketches(Series("boot", "w", name))
            assert {machine: dict(sketch.outcomes) for machine, sketch in told.items()} == {
                "": {outcome: 1},
                "127.0.0.2": {outcome: 1},
            }
            assert told[""].quantile(1.0) is not None


async def test_what_nobody_waited_for_is_not_counted(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.one()
        bench.lab.session_service.cancel(run.id)
        await bench.lab.lab_state.on_disk()
        assert await bench.journal.background.sketches(Series("boot", "w", run.workload.name)) == {}
