"""Issues that follow from what ends: when they are written, filed, and told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filers import FilesEach
from labs import LabBench, running_lab
from waiting import PATIENCE, until

from pytest_dispatch.core.model import Issue, Outcome, Policy, Run
from pytest_dispatch.lab.outbox import Filed, FilingError
from pytest_dispatch.lab.session_feed import IssueRule

pytestmark = pytest.mark.anyio


class Secretary(FilesEach):
    """Files issues, when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.faults: list[FilingError] = []

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        self.may.wait(20)
        if self.faults:
            raise self.faults.pop(0)
        return Filed(f"https://github.com/o/r/issues/{issue.title}")


async def test_an_issue_is_filed_for_a_run_and_its_link_is_told(tmp_path: Path) -> None:
    secretary = Secretary()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset({Outcome.FAILED}))
        bad, good = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), rule=rule)
        ends = (("127.0.0.2", bad, "failed"), ("127.0.0.3", good, "passed"))
        for source, run, _ in ends:
            await bench.download(run, source)
        for source, _, result in ends:
            await bench.call("POST", source=source)
            await bench.report(source=source, result=result)
            await bench.call("HEAD", source=source)
        assert (bench.now(bad).outcome, bench.now(good).outcome) == (Outcome.FAILED, Outcome.PASSED)
        view = (await bench.api("GET", f"/runs/{bad.id}")).json
        assert (view["filing"], view["issues"]) == (True, [])
        assert (await bench.api("GET", f"/sessions/{bad.session}")).json["issues_pending"] == 1
        secretary.may.set()
        await until(lambda: not bench.lab.issues.filing(bad))
        view = (await bench.api("GET", f"/runs/{bad.id}")).json
        assert (view["filing"], view["issues"]) == (False, ["https://github.com/o/r/issues/a report"])
        assert not (await bench.api("GET", f"/runs/{good.id}")).json["issues"]
        seen = (await bench.api("GET", f"/sessions/{bad.session}")).json
        assert (seen["issues_pending"], seen["issues_filed"], seen["unfiled"]) == (0, 1, [])


async def test_issues_of_a_run_are_being_filed_until_github_has_said_something_to_each(tmp_path: Path) -> None:
    turns = threading.Semaphore(0)

    class OneByOne(Secretary):
        def file(self, issue: Issue, may_exist: bool) -> Filed:
            turns.acquire(timeout=PATIENCE)
            return super().file(issue, may_exist)

    secretary = OneByOne()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=IssueRule(repo="o/r", outcomes=frozenset(Outcome)))
        await bench.download(run)
        await bench.call("POST")
        for title in ("first", "second"):
            await bench.report(title=title)
        await bench.call("HEAD")
        turns.release()
        await until(lambda: bench.lab.issues.status().filed == 1)
        assert bench.lab.issues.filing(run)
        turns.release()
        await until(lambda: bench.lab.issues.status().filed == 2)
        assert not bench.lab.issues.filing(run)
        view = (await bench.api("GET", f"/runs/{run.id}")).json
        assert (view["filing"], len(view["issues"])) == (False, 2)


ALL = IssueRule(repo="o/r", outcomes=frozenset(Outcome))


async def filed(bench: LabBench, run: Run) -> list[str]:
    """Titles of its issues, once all that are due are filed."""
    await until(lambda: not bench.lab.issues.status().pending)
    return [url.rpartition("/")[2] for url in bench.lab.lab_state.live_session(run.session).urls(run)]


async def test_a_report_after_its_deadline_is_filed_and_the_outcome_stays(tmp_path: Path) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL, policy=Policy(retries=0))
        await bench.download(run)
        await bench.call("POST")
        bench.clock.ahead += 3601
        await until(lambda: bench.now(run).outcome is Outcome.FAILED)
        assert (await bench.report(title="at last", result="passed", milestone="c1")).status == 200
        assert (await bench.report(title="at last", result="passed", milestone="c1")).status == 200  # repeated
        assert (await bench.report(title="and more")).status == 200
        assert await filed(bench, run) == ["a.efi failed", "at last", "and more"]
        assert bench.now(run).outcome is Outcome.FAILED


async def test_a_report_that_comes_while_its_workload_is_tried_again_is_filed_at_the_end(tmp_path: Path) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL, policy=Policy(retry_failures=1))
        await bench.download(run)
        await bench.call("POST")
        bench.clock.ahead += 3601
        await until(lambda: len(bench.now(run).attempts) == 2)
        assert (await bench.report(title="of the first")).status == 200
        assert await filed(bench, run) == []
        await bench.download(run, "127.0.0.3")
        await bench.call("POST", source="127.0.0.3")
        await bench.report(source="127.0.0.3", title="of the second")
        await bench.call("HEAD", source="127.0.0.3")
        assert await filed(bench, run) == ["of the second", "of the first"]


@pytest.mark.parametrize(("reports", "titles"), [(["one", "two"], ["one", "two"]), ([], [])])
async def test_what_was_reported_before_nobody_waited_any_more_is_filed(
    tmp_path: Path, reports: list[str], titles: list[str]
) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL)
        await bench.download(run)
        await bench.call("POST")
        for title in reports:
            await bench.report(title=title)
        bench.lab.session_service.cancel(run.id)
        assert await filed(bench, run) == titles
        await bench.report(title="late")
        assert await filed(bench, run) == [*titles, "late"]


async def test_a_late_report_of_what_makes_no_issue_makes_none(tmp_path: Path) -> None:
    async with running_lab(tmp_path, filers=lambda _repo: Secretary()) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset({Outcome.FAILED}))
        (run,) = await bench.submit(bench.workload(), rule=rule)
        await bench.download(run)
        await bench.call("POST")
        await bench.report(result="passed")
        await bench.call("HEAD")
        await bench.report(title="late", result="failed")
        assert bench.attempt(run).reports[-1].late
        assert await filed(bench, run) == []


async def test_the_first_goes_first_though_others_are_found_before_it(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        large = bench.workload("a.efi", size=60_000_000)  # takes long to look at
        first, second = await bench.submit(large, bench.workload("b.efi"), ready=False)
        assert (await bench.call("HEAD")).status == 200
        assert bench.now(first).attempt.machine, "though the second was found long before"
        assert not bench.now(second).attempt.machine


async def test_a_kind_that_is_no_longer_installed_is_the_labs_fault_and_named(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.one(name="a.uki")
        assert (await bench.call("HEAD")).status == 500
        first = bench.now(run).attempts[0]
        assert first.outcome is Outcome.ERROR
        assert "kind 'uki': expected an installed package that adds it (pytest_dispatch.media)" in first.reason


async def test_an_issue_of_an_earlier_session_is_filed_too(tmp_path: Path) -> None:
    secretary = Secretary()
    rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
    async with running_lab(tmp_path) as bench:  # without a filer
        (run,) = await bench.submit(bench.workload(), rule=rule)
        await bench.download(run)
        await bench.call("POST")
        await bench.report()
        await bench.call("HEAD")
        await until(lambda: not bench.lab.issues.status().pending)
        assert bench.lab.issues.status().unfiled == ("kept for the next session: a report: there is no GitHub token",)
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        await until(lambda: bench.lab.issues.status().filed)
        assert not bench.lab.issues.filing(run)
