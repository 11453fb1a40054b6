"""The issues that the lab proposes, and what their session's holder makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from faults import fault
from filers import FilesEach
from labs import TOKEN, LabBench, running_lab
from told_runs import attempt, report, run
from waiting import until

from pytest_dispatch.core.deadlines import JUDGING
from pytest_dispatch.core.leases import CONNECTIONS_GONE, Lease
from pytest_dispatch.core.model import Issue, Outcome, Policy, Run
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.plugin.items import note_facts
from pytest_dispatch.plugin.session_end import summary_lines
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.schemas import OpenSession, RunView
from pytest_dispatch.server.api.session_schemas import Review, SessionView

pytestmark = pytest.mark.anyio

SESSION = OpenSession(source="w", policy=Policy(), issues=tuple(Outcome), issues_repo="o/r")


class Refuses(FilesEach):
    """A GitHub that takes nothing."""

    def file(self, issue: Issue, again: bool) -> Filed:
        raise FilingError("GitHub says no", permanent=True, refused=True)


REVIEWED = IssueRule(repo="o/r", outcomes=frozenset(Outcome), reviewed=True)


async def passed(bench: LabBench) -> tuple[Run, list[Issue]]:
    """Let a workload pass; returns the issues that the lab proposes."""
    (run,) = await bench.submit(bench.workload(), rule=REVIEWED, lease=Lease())
    await bench.download(run)
    await bench.call("POST")
    await bench.report()
    await bench.call("HEAD")
    assert bench.now(run).outcome is Outcome.PASSED  # it waits for no review
    return run, list(bench.lab.issues.drafts(run))


async def filed(bench: LabBench) -> list[tuple[str, bool, tuple[str, ...]]]:
    """What the journal has to file: title, whether it is to be reviewed, comments."""
    await bench.lab.lab_state.on_disk()
    return [(each.issue.title, each.review, each.issue.comments) for each in bench.journal.reader.pending_issues()]


@pytest.mark.parametrize(
    ("makes_of_it", "left"),
    [
        (lambda issue: issue, [("a report", False, ())]),
        (lambda _issue: None, []),
        (lambda _issue: Issue(title="ours", body="b", marker="of another"), [("ours", False, ())]),
    ],
    ids=["as it is", "none", "another"],
)
async def test_a_session_reviews_the_issues_that_the_lab_proposes(
    bench: LabBench, makes_of_it: Callable[[Issue], Issue | None], left: list[tuple[str, bool, tuple[str, ...]]]
) -> None:
    run, [draft] = await passed(bench)
    assert await filed(bench) == [("a report", True, ())]
    assert bench.lab.issues.status().pending == 1
    review = Review(issues={draft.marker: makes_of_it(draft)})
    assert (await bench.api("POST", f"/runs/{run.id}/issues", review)).json == {"in_time": True}
    assert await filed(bench) == left
    assert (await bench.api("POST", f"/runs/{run.id}/issues", review)).json == {"in_time": False}


async def test_an_issue_is_told_to_its_sessions_reader(bench: LabBench) -> None:
    run, [draft] = await passed(bench)
    wire = await bench.wire("127.0.0.1")
    await wire.send(f"GET {PREFIX}/sessions/{run.session}/events HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
    told = b""
    while b'"outcome":"passed"' not in told.rpartition(b"event: change")[2] or not told.endswith(b"\n\n"):
        told += await wire.receive()
    change = msgspec.json.decode(told.rpartition(b"data: ")[2])
    assert [each["title"] for each in change["drafts"]] == [draft.title]


NOBODY = ("Filed as the lab proposed it: nobody answered for `pytest_dispatch_issue`.",)


@fault(
    "pytest",
    "`pytest_dispatch_issue` does not answer within 5 minutes, or its session is gone",
    outcome="the issue is filed as the lab proposed it; no item and no machine waits for that",
    told="a comment on the issue; a hook that answers later, at the end of the session",
)
@pytest.mark.parametrize("gone", [False, True], ids=["silent", "gone"])
async def test_what_nobody_reviews_is_filed_as_proposed_and_marked(tmp_path: Path, gone: bool) -> None:
    async with running_lab(tmp_path, private=not gone) as bench:
        await passed(bench)
        bench.clock.ahead += CONNECTIONS_GONE if gone else JUDGING - 5
        if not gone:
            assert await filed(bench) == [("a report", True, ())]
            bench.clock.ahead += 5
        await until(lambda: not bench.lab.issues.status().pending)
        assert await filed(bench) == [("a report", False, NOBODY)]


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_review_outlives_the_lab(tmp_path: Path, resumed: bool) -> None:
    async with running_lab(tmp_path, filers=lambda _repo: Refuses()) as bench:
        run, [draft] = await passed(bench)
    async with running_lab(tmp_path, filers=lambda _repo: Refuses()) as bench:
        assert bench.lab.issues.status().pending == 1
        opened = (await bench.api("POST", "/sessions", replace(SESSION, resume=resumed, issues_reviewed=True))).json
        if resumed:
            assert (opened["id"], list(bench.lab.issues.drafts(run))) == (run.session, [draft])
            review = Review(issues={draft.marker: replace(draft, title="ours")})
            assert (await bench.api("POST", f"/runs/{run.id}/issues", review)).json == {"in_time": True}
        await until(lambda: not bench.lab.issues.status().pending)
        [line] = bench.lab.issues.status().unfiled
        assert line == f"given up: {'ours' if resumed else 'a report'}: GitHub says no"


def test_a_verdict_that_nobody_reviewed_is_marked(request: pytest.FixtureRequest) -> None:
    told = replace(run(attempt(1, report("done"), outcome=Outcome.PASSED)), outcome=Outcome.PASSED, unreviewed=True)
    view, before = RunView(run=told, version=1), list(request.node.user_properties)
    lines = summary_lines([view], SessionView(id="s"), [])
    name = told.workload.name
    assert lines == [f"unreviewed: {name} passed, as the lab proposed: nobody was there for pytest_dispatch_verdict"]
    try:
        note_facts(request.node, view)
        assert ("dispatch_unreviewed", "true") in request.node.user_properties
    finally:
        request.node.user_properties[:] = before


async def test_a_later_report_has_a_deadline_of_its_own(bench: LabBench) -> None:
    run, _ = await passed(bench)
    bench.clock.ahead += JUDGING - 5
    await bench.report(title="late")
    assert [draft.title for draft in bench.lab.issues.drafts(run)] == ["a report", "late"]
    bench.clock.ahead += 10
    await until(lambda: len(bench.lab.issues.drafts(run)) == 1)
    assert sorted(await filed(bench)) == [("a report", False, NOBODY), ("late", True, ())]


async def test_what_comes_after_the_outcome_and_is_no_report_makes_no_further_issue(bench: LabBench) -> None:
    run, _ = await passed(bench)
    assert (await bench.call("PUT", body=b"no report")).status == 400
    assert len(bench.attempt(run).refused) == 1
    assert await filed(bench) == [("a report", True, ())]


async def test_a_review_that_is_answered_is_on_disk(bench: LabBench) -> None:
    run, [draft] = await passed(bench)
    await bench.api("POST", f"/runs/{run.id}/issues", Review(issues={draft.marker: None}))
    assert bench.journal.reader.pending_issues() == []
