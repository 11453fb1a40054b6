"""What machines say of runs that an earlier lab left in the middle, and where a lab is killed while it hears that."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from disk import killed, needs_shim, preloaded
from faults import fault
from labs import LabBench, running_lab
from past_runs import ALL, MACHINE, GitHub, Past, Story, close, forgotten, later, runs_through, slow_reads
from project import SUPPORT
from torture import TORTURE, drawn
from waiting import until

from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.model import Outcome, Policy, Report, Run
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.store.journal import Journal, session_row
from pytest_dispatch.workloads.boot.protocol import Taken

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]


@asynccontextmanager
async def cut_off(folder: Path, *, booted: bool = True) -> AsyncIterator[Story]:
    """A lab after one that ended while its machine had something, and that nobody has resumed yet."""
    github = GitHub()
    async with running_lab(folder) as bench:
        run = await bench.one()
        await bench.download(run)
        if booted:
            assert (await bench.call("POST")).status == 200
        await bench.lab.lab_state.on_disk()
    async with running_lab(folder, filers={"o/r": github}.get) as bench:
        yield Story(bench, [run], github)


async def resumed(bench: LabBench, run: Run) -> Run:
    """The run, of a session that somebody takes up and asks for once more."""
    record = await bench.lab.resumption.resume("w", Policy(), IssueRule())
    assert record is not None
    (again,) = await bench.lab.session_service.submit(record.id, [(run.key, run.workload)])
    assert again.id == run.id
    return again


async def test_what_was_missed_meanwhile_counts_when_the_session_is_resumed(tmp_path: Path) -> None:
    async with cut_off(tmp_path, booted=False) as story:
        for _ in range(2):
            assert (await story.bench.call("POST")).status == 200
        assert story.attempt.state == "booting"
        for title in ("first", "second", "first"):
            assert (await story.bench.report(title=title)).status == 200
        assert story.attempt.state == "reported"
        assert story.said == [("first", False), ("second", False)]
        assert (story.attempt.counts["report"], story.kept[0].outcome) == (2, None)
        run = await resumed(story.bench, story.runs[0])
        assert (await story.bench.report(title="third")).status == 200
        await story.bench.call("HEAD")
        assert story.bench.now(run).outcome is Outcome.PASSED
        assert [report.title for report in story.bench.attempt(run).reports] == ["first", "second", "third"]


async def test_a_workload_that_did_not_boot_has_nothing_to_report(tmp_path: Path) -> None:
    async with cut_off(tmp_path, booted=False) as story:
        assert (await story.bench.report()).status == 417
        assert story.unknown.endswith("sent a report")
        assert story.said == []


async def test_a_report_and_the_session_come_back_at_the_same_time(tmp_path: Path) -> None:
    """Whichever is first, the report is there once, in the journal and here."""
    async with cut_off(tmp_path) as story:
        bench = story.bench
        with slow_reads() as (there, go):
            reporting = asyncio.create_task(bench.report(title="in between"))
            await until(there.is_set)
            resuming = asyncio.create_task(resumed(bench, story.runs[0]))
            again = asyncio.create_task(bench.report(title="in between"))
            await asyncio.sleep(0)
            go.set()
            run = await resuming
            assert [(await each).status for each in (reporting, again)] == [200, 200]
        await bench.lab.lab_state.on_disk()
        assert [report.title for report in bench.attempt(run).reports] == ["in between"]
        assert story.said == [("in between", False)]
        await bench.call("HEAD")
        assert bench.now(run).outcome is Outcome.PASSED


async def test_a_run_that_was_cancelled_is_not_taken_back_and_still_heard(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        await bench.lab.session_service.close(run.session, kept=True)
        assert bench.now(run).cancelled
        await bench.lab.lab_state.on_disk()
    async with running_lab(tmp_path) as bench:
        record = await bench.lab.resumption.resume("w", Policy(), IssueRule())
        assert record is not None
        assert not bench.lab.queue.runs
        assert (await bench.report(title="after all")).status == 200
        (kept,) = bench.journal.reader.runs(run.session)
        assert [(report.title, report.late) for report in kept.attempt.reports] == [("after all", True)]
        assert kept.outcome is Outcome.ERROR


async def test_the_machine_ran_something_of_another_session_since(tmp_path: Path) -> None:
    """Only the older session is resumed: what its machine says is of the newer one all the same."""
    async with running_lab(tmp_path, private=False) as bench:
        (older,) = await runs_through(bench, "a.efi", lease=Lease(owner="ada"))
        (newer,) = await runs_through(bench, "b.efi", lease=Lease(owner="bob"))
    async with running_lab(tmp_path, private=False) as bench:
        assert await bench.lab.resumption.resume("w", Policy(), IssueRule(), Lease(owner="ada")) is not None
        assert [*bench.lab.queue.runs] == [older.id]
        assert (await bench.report(title="one more")).status == 200
        assert (await bench.call("POST")).status == 200
        reports = bench.journal.reader.runs(newer.session)[0].attempt.reports
        assert [report.title for report in reports] == ["b.efi", "one more"]
        assert len(bench.attempt(older).reports) == 1
        taken = await bench.boot.beacons.report(MACHINE, Report(title="slow"), bench.attempt(older).began)
        assert taken is Taken.LATE
        assert [report.title for report in bench.attempt(older).reports] == ["a.efi", "slow"]


async def test_its_order_is_that_of_what_ran_also_where_the_older_is_taken_back_last(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        (older,) = await runs_through(bench, "a.efi", lease=Lease(owner="ada"))
    async with running_lab(tmp_path, private=False) as bench:
        (newer,) = await runs_through(bench, "b.efi", lease=Lease(owner="bob"))
        assert await bench.lab.resumption.resume("w", Policy(), IssueRule(), Lease(owner="ada")) is not None
        assert bench.lab.queue.machines[MACHINE].ran == [older.id, newer.id]
        assert (await bench.report(title="one more")).status == 200
        assert [report.title for report in bench.attempt(newer).reports] == ["b.efi", "one more"]


async def test_an_issue_for_another_github_waits_for_a_lab_of_that(tmp_path: Path) -> None:
    """What was said within a company is not for the whole world."""
    async with running_lab(tmp_path, private=False) as bench:
        (run,) = await runs_through(bench, "a.efi")
        record = bench.lab.lab_state.live_session(run.session).record
        elsewhere = replace(record, issues=ALL, api="https://github.example/api")
        bench.lab.lab_state.write([session_row(elsewhere)])
        await bench.lab.lab_state.on_disk()
    github = GitHub()
    async with running_lab(tmp_path, filers={"o/r": github}.get) as bench:
        assert (await bench.report(title="one more")).status == 200
        (pending,) = bench.journal.reader.pending_issues()
        assert (pending.issue.title, pending.api) == ("one more", "https://github.example/api")
        status = bench.lab.issues.status()
        assert status.pending == 0
        assert status.unfiled == ("kept for a session with --dispatch-api-url https://github.example/api: one more",)
        assert not github.issues


async def test_nobody_reviews_what_a_session_that_is_gone_would_have(tmp_path: Path) -> None:
    github = GitHub()
    async with running_lab(tmp_path, private=False, filers={"o/r": github}.get) as bench:
        (run,) = await runs_through(
            bench, "a.efi", rule=replace(ALL, outcomes=frozenset({Outcome.PASSED}), reviewed=True)
        )
        assert bench.lab.issues.amend(
            run.id, dict.fromkeys(each.marker for each in bench.lab.issues.drafts(bench.now(run)))
        )
        await close(bench, run.session)
        later(bench)
        assert not bench.lab.queue.runs
        assert (await bench.report(title="one more")).status == 200
        later(bench, 600.0)
        bench.lab.issues.expire(bench.clock.now())
        await until(lambda: github.titles == ["one more"])
        assert bench.lab.issues.status().filed == 0, "nothing is kept of it here"


# The lab is killed over it

SAYS = """
import asyncio, sys
from pathlib import Path
from labs import running_lab
from test_cut_off_runs import says

async def main(folder: Path) -> None:
    async with running_lab(folder) as bench:
        async for title in says(bench):
            print(title, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


async def says(bench: LabBench) -> AsyncIterator[str]:
    """Let the machine speak; yields what is acknowledged."""
    assert (await bench.call("POST")).status == 200
    for title in ("first", "second", "first"):
        assert (await bench.report(title=title)).status == 200
        yield title


def killed_at(folder: Path, step: int) -> tuple[int, list[str]]:
    """Let a lab be killed at this step, while its machine speaks; returns its exit code, and what it acknowledged."""
    environ = {
        **preloaded(),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(SUPPORT)]),
        **killed(folder / "journal.db", step, commits=True),
    }
    command = [sys.executable, "-c", SAYS, str(folder)]
    ran = subprocess.run(command, check=False, env=environ, stdout=subprocess.PIPE, text=True)
    return ran.returncode, ran.stdout.split()


SURE = 6  # steps to which such a lab comes at least


@fault(
    "Crashes",
    "a lab is killed (SIGKILL) at any commit of what a machine says of an earlier lab's run",
    outcome="what was acknowledged is in the journal; what is sent again is there once, as is its issue",
    told="nothing",
)
@needs_shim
@pytest.mark.parametrize(
    ("past", "late"), [(forgotten, True), (partial(cut_off, booted=False), False)], ids=["over", "cut off"]
)
async def test_killed_at_every_commit_of_what_a_machine_says(tmp_path: Path, past: Past, late: bool) -> None:
    before = tmp_path / "before"
    before.mkdir()
    async with past(before) as story:
        run = story.runs[-1]
        asked = {each.title for each in story.attempt.reports}
    for step in count(1) if TORTURE else drawn(range(1, SURE + 1), 2):
        shutil.copytree(before, folder := tmp_path / str(step))
        code, acknowledged = killed_at(folder, step)
        said = {report.title for report in in_journal(folder, run).attempt.reports}
        assert {*acknowledged, *asked} <= said, step
        async with running_lab(folder) as bench:
            assert [title async for title in says(bench)] == ["first", "second", "first"]
        attempt = in_journal(folder, run).attempt
        told = [(report.title, report.late) for report in attempt.reports if report.title not in asked]
        assert told == [("first", late), ("second", late)], step
        with closing(Journal(folder / "journal.db")) as journal:
            titles = sorted(pending.issue.title for pending in journal.reader.pending_issues())
            assert titles == ["first", "second"] * late, step
        if code == 0 and step > SURE:
            break
        assert code == -signal.SIGKILL, step


def in_journal(folder: Path, run: Run) -> Run:
    with closing(Journal(folder / "journal.db")) as journal:
        journal.open()
        return next(each for each in journal.reader.runs(run.session) if each.id == run.id)
