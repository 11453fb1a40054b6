"""What a lab remembers when sessions are over, and what it still knows to do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from filers import FilesEach
from labs import LabBench, running_lab
from past_runs import close, later, runs_through

from pytest_dispatch.core.leases import CONNECTIONS_GONE, Lease, LeaseKind
from pytest_dispatch.core.machine_record import LATELY
from pytest_dispatch.core.model import Issue, Outcome, Policy
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.lab.memory_eviction import EVERY, KEPT
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.store.journal import SessionRecord

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with running_lab(tmp_path, private=False) as running:
        yield running


def remembered(bench: LabBench) -> set[str]:
    """Return the names of the workloads whose runs are here, after a check that all parts agree on that."""
    lab, runs = bench.lab, bench.lab.queue.runs
    assert bench.boot.assets.keys() <= runs.keys()
    assert lab.lab_state.digests.keys() <= runs.keys()
    assert all(len({*seen.ran} - runs.keys()) <= LATELY for seen in lab.queue.machines.values())
    assert lab.lab_state.live_sessions.keys() == {run.session for run in runs.values()}
    assert all(session in lab.queue.table for session in lab.lab_state.live_sessions)
    return {run.workload.name for run in runs.values()}


async def test_what_is_over_is_forgotten(bench: LabBench) -> None:
    runs = await runs_through(bench, "a.efi", "b.efi", "c.efi")
    await close(bench, runs[0].session)
    later(bench, KEPT - EVERY)
    assert remembered(bench) == {"a.efi", "b.efi", "c.efi"}
    later(bench)
    assert remembered(bench) == set()
    others = await runs_through(bench, "d.efi", "e.efi", lease=Lease(kind=LeaseKind.DETACHED))
    later(bench)
    assert remembered(bench) == {"d.efi", "e.efi"}  # of a session that goes on
    await close(bench, others[0].session)
    third = await runs_through(bench, "f.efi", "g.efi")
    later(bench)
    assert remembered(bench) == {"f.efi", "g.efi"}
    assert [run.outcome for run in bench.journal.reader.runs(runs[0].session)] == [Outcome.PASSED] * 3
    assert bench.lab.session_service.runs(third[0].session)


async def test_what_is_to_be_written_still_is_not_kept_for_it(bench: LabBench) -> None:
    (run,) = await runs_through(bench, "a.efi")
    await close(bench, run.session)
    bench.lab.lab_state.batches.keep([bench.lab.queue.runs[run.id]])
    later(bench)
    assert remembered(bench) == set()
    await bench.lab.lab_state.on_disk()
    assert bench.lab.lab_state.batches.as_written(run.id) is None


Taking = Callable[[LabBench, str, Lease], Awaitable[SessionRecord | None]]

TAKING: Mapping[str, Taking] = {
    "by its source": lambda bench, _, lease: bench.lab.resumption.resume("w", Policy(), IssueRule(), lease),
    "by its id": lambda bench, session, lease: bench.lab.resumption.take_over(session, lease, Policy(), IssueRule()),
}


@pytest.mark.parametrize("takes_up", TAKING.values(), ids=TAKING)
async def test_one_whose_holder_is_gone_is_forgotten_and_taken_up_from_the_journal(
    bench: LabBench, takes_up: Taking
) -> None:
    lease = Lease(owner="ada")
    runs = await runs_through(bench, "a.efi", "b.efi", "c.efi", lease=lease)
    session = runs[0].session
    wanted = [("d.efi", bench.workload("d.efi"))]
    [waits] = await bench.lab.session_service.submit(session, wanted)
    later(bench, CONNECTIONS_GONE + 1)
    assert bench.lab.session_service.run(waits.id).cancelled
    await bench.lab.lab_state.on_disk()
    later(bench)
    assert remembered(bench) == set()
    record = await takes_up(bench, session, lease)
    assert record is not None
    assert (record.id, record.epoch) == (session, 2)
    assert remembered(bench) == {"a.efi", "b.efi", "c.efi"}
    assert bench.lab.lab_state.batches.as_written(waits.id) is None
    [again] = await bench.lab.session_service.submit(session, wanted)
    assert again.id != waits.id
    later(bench, CONNECTIONS_GONE - 1)
    assert bench.lab.session_service.run(again.id).outcome is None


async def test_what_still_runs_is_remembered_with_its_whole_session(bench: LabBench) -> None:
    run, _ = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), lease=Lease())
    await bench.download(run)
    await bench.call("POST")
    later(bench, CONNECTIONS_GONE + 1)
    later(bench)
    assert remembered(bench) == {"a.efi", "b.efi"}
    assert (await bench.report()).status == 200
    assert bench.attempt(run).reports


class Stumbles(FilesEach):
    """A GitHub that is down for now."""

    def file(self, issue: Issue, again: bool) -> Filed:
        raise FilingError("GitHub is down", retry_after=1e6)


async def test_what_has_an_issue_to_be_filed_is_remembered(tmp_path: Path) -> None:
    filers = {"o/r": Stumbles()}
    async with running_lab(tmp_path, private=False, filers=filers.get) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome), reviewed=True)
        [run] = await runs_through(bench, "a.efi", rule=rule)
        assert bench.lab.issues.drafts(bench.now(run))
        await close(bench, run.session)
        later(bench)
        assert remembered(bench) == {"a.efi"}


async def test_deadlines_that_do_not_count_any_more_are_dropped(bench: LabBench) -> None:
    runs = await runs_through(bench, *(f"{n}.efi" for n in range(9)))
    deadlines = bench.lab.queue.transitions.deadlines
    assert len(deadlines) > len(runs)
    await close(bench, runs[0].session)
    later(bench)
    assert len(deadlines) == 0
