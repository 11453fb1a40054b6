"""What a service drops from its journal, and what it keeps, as `retention.runs` says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from filers import FilesEach
from labs import LabBench, running_lab
from past_runs import ALL, GitHub, close, later, runs_through
from rounds import PASSED, PlayedRounds
from waiting import until

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.leases import CONNECTIONS_GONE, Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Issue
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.lab.cycle_service import CycleService
from pytest_dispatch.lab.history import Keep
from pytest_dispatch.lab.history_sweep import BATCH, CONSOLES, PIECES, ROUNDS, RUNS, TEXTS, HistorySweep
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.store.journal import console_row, hold_row
from pytest_dispatch.store.schema import OF_RUNS, holds, issues, reports, round_files, runs

pytestmark = pytest.mark.anyio

KEEP = 7 * 86400.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with running_lab(tmp_path, private=False, filers={"o/r": GitHub()}.get) as running:
        yield running


def sweep(bench: LabBench) -> HistorySweep:
    return HistorySweep(bench.lab.lab_state, bench.lab.history, Keep(runs=KEEP))


async def swept(bench: LabBench) -> int:
    """How many runs a sweep drops."""
    return (await sweep(bench).sweep())["runs"]


def left_of(bench: LabBench, run: str) -> set[str]:
    """Tables that have something of a run."""
    of = {table: table.c.run for table in (*OF_RUNS, issues)} | {holds: holds.c.name, runs: runs.c.id}
    with bench.journal._database.engine.connect() as db:
        return {table.name for table, column in of.items() if db.execute(sa.select(table).where(column == run)).all()}


async def test_runs_are_dropped_with_all_that_is_theirs(bench: LabBench) -> None:
    old = await runs_through(bench, "a.efi", "b.efi", rule=ALL)
    await close(bench, old[0].session)
    await until(lambda: not bench.lab.issues.status().pending)
    bench.lab.lab_state.write([console_row(old[0].id, 1, 0.0, "a word"), hold_row(old[0].id, None, "run")])
    bench.lab.lab_state.write([hold_row(old[0].id, Hold(reason="its fan is loud"))])  # a machine of the same name
    later(bench, KEEP - 1)
    new = await runs_through(bench, "a.efi")
    await close(bench, new[0].session)
    later(bench)
    had, others = left_of(bench, old[0].id), left_of(bench, new[0].id)
    assert {"dispatch_reports", "dispatch_console", "dispatch_issues", "dispatch_holds", "dispatch_served"} <= had
    assert await swept(bench) == 2
    assert left_of(bench, old[0].id) == {"dispatch_holds"}
    assert left_of(bench, old[1].id) == set()
    assert left_of(bench, new[0].id) == others
    assert bench.journal.reader.unfinished(old[0].session) is None
    assert await swept(bench) == 0


async def test_statistics_of_series_stay(bench: LabBench) -> None:
    [old] = await runs_through(bench, "a.efi")
    await close(bench, old.session)
    later(bench, 2 * KEEP)
    series = Series(old.workload.kind, "w", "a.efi")
    before = bench.journal.reader.sketches(series)
    assert before
    assert await swept(bench) == 1
    assert bench.journal.reader.sketches(series) == before


class Down(FilesEach):
    """A GitHub that takes nothing."""

    def file(self, issue: Issue, again: bool) -> Filed:
        raise FilingError("GitHub is down", retry_after=1e9)


async def test_what_is_still_to_be_filed_stays(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False, filers={"o/r": Down()}.get) as bench:
        [old] = await runs_through(bench, "a.efi", rule=ALL)
        await close(bench, old.session)
        later(bench, 2 * KEEP)
        assert await swept(bench) == 1
        [pending] = bench.journal.reader.pending_issues()
        assert (pending.run, pending.failed) == (old.id, "GitHub is down")


async def test_sessions_that_go_on_keep_their_runs(bench: LabBench) -> None:
    persons = await runs_through(bench, "a.efi", lease=Lease(kind=LeaseKind.DETACHED))
    left = await runs_through(bench, "b.efi", lease=Lease(owner="ada"))
    later(bench, CONNECTIONS_GONE + 1)
    later(bench)
    assert left[0].session not in bench.lab.lab_state.live_sessions
    assert await swept(bench) == 0
    later(bench, KEEP)
    assert await swept(bench) == 1
    assert bench.journal.reader.runs(left[0].session) == []
    assert bench.journal.reader.runs(persons[0].session)


async def test_what_is_dropped_waits_for_no_more_than_a_batch(bench: LabBench) -> None:
    names = [f"{number}.efi" for number in range(BATCH + 1)]
    old = await runs_through(bench, *names)
    await close(bench, old[0].session)
    later(bench, 2 * KEEP)
    begun = asyncio.create_task(sweep(bench).sweep())
    await until(lambda: len(bench.journal.reader.runs(old[0].session)) == 1)
    assert not begun.done()
    [other] = await runs_through(bench, "other.efi")  # in the pause between two batches
    assert (await begun)["runs"] == BATCH + 1
    assert bench.journal.reader.runs(other.session)


async def test_consoles_and_texts_are_dropped_sooner_than_runs(bench: LabBench) -> None:
    [old] = await runs_through(bench, "a.efi")
    await close(bench, old.session)
    now = bench.clock.now()
    lines = [console_row(old.id, 1, now, f"line {number}") for number in range(PIECES + 1)]
    bench.lab.lab_state.write(lines)
    later(bench, 2 * KEEP)
    [new] = await runs_through(bench, "b.efi")
    bench.lab.lab_state.write([console_row(new.id, 1, bench.clock.now(), "stays")])
    await bench.lab.lab_state.on_disk()
    with bench.journal._database.engine.begin() as db:
        db.execute(sa.update(reports).values(body="a long story", junit="<testsuite/>"))
    keep = Keep(consoles=KEEP, texts=KEEP)
    janitor = HistorySweep(bench.lab.lab_state, bench.lab.history, keep)
    assert await janitor.sweep() == {RUNS: 0, ROUNDS: 0, CONSOLES: PIECES + 1, TEXTS: 1}
    assert await janitor.sweep() == {RUNS: 0, ROUNDS: 0, CONSOLES: 0, TEXTS: 0}
    assert bench.lab.history.removed == {CONSOLES: PIECES + 1, TEXTS: 1}
    assert [text for *_, text in bench.journal.reader.console(new.session, 10)] == ["stays"]
    assert bench.journal.reader.console(old.session, 10) == []
    said = {run.id: run.attempt.reports[0] for each in (old, new) for run in bench.journal.reader.runs(each.session)}
    assert (said[old.id].title, said[old.id].body, said[old.id].junit) == ("a.efi", "", "")
    assert (said[new.id].title, said[new.id].body) == ("b.efi", "a long story")
    anew = HistorySweep(bench.lab.lab_state, bench.lab.history, keep)  # as after a restart
    assert await anew.sweep() == {RUNS: 0, ROUNDS: 0, CONSOLES: 0, TEXTS: 0}


async def test_it_is_told_anew_how_long_to_keep_runs(bench: LabBench) -> None:
    [old] = await runs_through(bench, "a.efi")
    await close(bench, old.session)
    later(bench, 2 * KEEP)
    found = HistorySweep(bench.lab.lab_state, bench.lab.history, Keep())
    assert await found.sweep() == {RUNS: 0, ROUNDS: 0, CONSOLES: 0, TEXTS: 0}
    work = asyncio.create_task(found.work())
    found.keep(Keep(runs=KEEP))
    await until(lambda: left_of(bench, old.id) == set())
    work.cancel()


async def test_rounds_of_cycles_are_dropped_with_their_files(tmp_path: Path) -> None:
    plan = CyclePlan(name="rack", folder=str(tmp_path), schedule=Schedule(every=3600.0))
    roster = Roster(cycles=(plan,))
    async with running_lab(tmp_path, private=False, roster=roster, launcher=PlayedRounds([PASSED] * 2)) as bench:
        service = bench.lab.cycle_service
        assert service is not None

        async def over(number: int) -> None:
            await service.run_now("rack", "ada", {})
            while await _ended(service) != number:
                await bench.lab.lab_state.moved(0.05)

        await over(1)
        later(bench, KEEP - 1)
        await over(2)
        later(bench)
        assert (await sweep(bench).sweep())[ROUNDS] == 1
        assert [each.number for each in await service.rounds("rack", None, 10)] == [2]
        with bench.journal._database.engine.connect() as db:
            assert {(row.number, row.name) for row in db.execute(sa.select(round_files))} == {
                (2, "output"),
                (2, "junit"),
            }
        assert (await sweep(bench).sweep())[ROUNDS] == 0
        assert service.cycles.state("rack").rounds == 2, "numbers go on"


async def _ended(service: CycleService) -> int:
    """The number of the last round that is over."""
    return max((each.number for each in await service.rounds("rack", None, 10) if each.ended is not None), default=0)
