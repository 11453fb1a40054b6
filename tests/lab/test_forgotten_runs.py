"""What machines say of runs that only the journal has: they are over and forgotten, or an earlier lab had them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from faults import fault
from labs import gathered, running_lab
from past_runs import MACHINE, Past, Story, close, forgotten, later, runs_through, slow_reads
from waiting import until

from pytest_dispatch.core.attempts import REPORTS
from pytest_dispatch.core.history_search import read_search
from pytest_dispatch.core.model import Outcome, Report
from pytest_dispatch.store.journal import run_rows
from pytest_dispatch.workloads.boot.protocol import Taken

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

ELSEWHERE = "127.0.0.9"  # a machine that ran nothing here


@asynccontextmanager
async def earlier(folder: Path) -> AsyncIterator[Story]:
    """An earlier lab had it, and ended."""
    async with forgotten(folder) as before:
        pass
    async with running_lab(folder, filers={"o/r": before.github}.get) as bench:
        yield replace(before, bench=bench)
        assert not bench.lab.queue.runs


@pytest.fixture(params=[forgotten, earlier], ids=["forgotten", "of an earlier lab"])
async def story(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Story]:
    past: Past = request.param
    async with past(tmp_path) as told:
        yield told


# Of runs that are over


async def test_a_late_report_is_kept_and_filed_and_changes_no_outcome(story: Story) -> None:
    before = story.kept
    assert (await story.bench.report(title="one more", result="failed")).status == 200
    assert story.said == [("b.efi", False), ("one more", True)]
    assert [(run.outcome, run.reason) for run in story.kept] == [(run.outcome, run.reason) for run in before]
    assert story.attempt.history == before[-1].attempt.history
    found = await story.bench.lab.history.page(read_search('"one more"', story.bench.clock.now()), None, 5)
    assert [each.run for each in found.runs] == [story.runs[-1].id]
    await until(lambda: len(story.github.issues) == 3)
    issue = story.github.issues[-1]
    assert issue.title == "one more"
    assert "after the attempt had ended. The outcome stays as it was." in issue.body
    assert story.runs[-1].workload.name in issue.body
    urls = story.bench.journal.reader.issues.filed
    await until(lambda: len(urls(story.runs[0].session)[story.runs[-1].id]) == 2)
    assert story.unknown == ""


async def test_one_that_came_before_is_known(story: Story) -> None:
    """The answer to the first was lost, long ago."""
    before = {table: story.count(table) for table in ("dispatch_reports", "dispatch_moments", "dispatch_issues")}
    assert (await story.bench.report(title="b.efi")).status == 200
    assert {table: story.count(table) for table in before} == before


async def test_of_two_at_the_same_moment_one_is_kept(story: Story) -> None:
    answers = await gathered(*(story.bench.report(title="one more") for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    assert story.said == [("b.efi", False), ("one more", True)]
    assert story.count("dispatch_issues") == 3


async def test_several_late_reports_are_several_issues(story: Story) -> None:
    for title in ("first", "second", "first"):
        assert (await story.bench.report(title=title)).status == 200
    assert story.said == [("b.efi", False), ("first", True), ("second", True)]
    await until(lambda: len(story.github.issues) == 4)
    assert story.github.titles[2:] == ["first", "second"]


async def test_a_boot_beacon_that_comes_again_changes_nothing(story: Story) -> None:
    before = story.count("dispatch_moments"), story.kept
    assert (await story.bench.call("POST")).status == 200
    assert (story.count("dispatch_moments"), story.kept) == before
    assert story.unknown == ""


async def test_what_is_no_report_is_refused_and_told(story: Story) -> None:
    for _ in range(2):
        assert (await story.bench.call("PUT", body=b"{")).status == 400
    (refusal,) = story.attempt.refused
    assert refusal.begins == "{"
    assert story.kept[-1].outcome is Outcome.PASSED


async def test_there_is_no_room_for_more_than_an_attempt_may_have(story: Story) -> None:
    last = story.kept[-1]
    many = tuple(Report(title=str(number)) for number in range(REPORTS))
    full = replace(last, attempts=(replace(last.attempt, reports=many),))
    story.bench.lab.lab_state.write(run_rows(full))
    await story.bench.lab.lab_state.on_disk()
    answer = await story.bench.report(title="one more")
    assert (answer.status, str(REPORTS) in answer.text) == (413, True)
    assert [refusal.why for refusal in story.attempt.refused] == [answer.text.strip()]


async def test_who_is_in_no_journal_is_unknown_as_ever(story: Story) -> None:
    before = story.count("dispatch_moments")
    answer = await story.bench.call("POST", source=ELSEWHERE)
    assert (answer.status, "has no workload here that was downloading" in answer.text) == (417, True)
    assert story.unknown == f"{ELSEWHERE}, which runs nothing here, said that it booted"
    for body in (b'{"title": "t"}', b"{"):
        answer = await story.bench.call("PUT", source=ELSEWHERE, body=body)
        assert (answer.status, "has no workload here that has booted" in answer.text) == (417, True)
        assert story.unknown == f"{ELSEWHERE}, which runs nothing here, sent a report"
    assert story.count("dispatch_moments") == before


async def test_a_report_belongs_to_what_ran_when_it_began(story: Story) -> None:
    """As with a token that was replaced since, by which a report may cross one boot."""
    between = sum(run.attempt.began for run in story.kept) / 2
    taken = await story.bench.boot.beacons.report(MACHINE, Report(title="slow"), between)
    assert taken is Taken.LATE
    assert [report.title for report in story.kept[0].attempt.reports] == ["a.efi", "slow"]
    assert await story.bench.boot.beacons.report(MACHINE, Report(title="older"), 0.0) is Taken.REFUSED


async def test_what_two_boots_lie_behind_is_not_meant_any_more(story: Story) -> None:
    """The same as of runs that are here."""
    taken = await story.bench.boot.beacons.report(MACHINE, Report(title="a.efi"), story.kept[0].attempt.began)
    assert taken is Taken.REPEATED
    await runs_through(story.bench, "c.efi")
    taken = await story.bench.boot.beacons.report(MACHINE, Report(title="a.efi"), story.kept[0].attempt.began)
    assert taken is Taken.REFUSED
    for session in [*story.bench.lab.lab_state.live_sessions]:
        await close(story.bench, session)
    later(story.bench)


# While its machine goes on


async def test_the_machine_has_been_given_something_else(story: Story) -> None:
    run = await story.bench.one(name="c.efi")
    await story.bench.call("HEAD")
    assert (await story.bench.report(title="one more")).status == 200
    assert story.said[-1] == ("one more", True)
    assert (await story.bench.call("POST")).status == 417, "what it holds was not downloaded yet"
    await story.bench.download(run)
    assert (await story.bench.report(title="another")).status == 417, "what it ran before cannot be speaking"
    assert (await story.bench.report(title="one more")).status == 200, "but may have lost an answer"
    assert story.said[-1] == ("one more", True)
    assert (await story.bench.call("POST")).status == 200
    assert (await story.bench.report(title="the next")).status == 200
    assert [report.title for report in story.bench.attempt(run).reports] == ["the next"]
    assert story.said[-1] == ("one more", True)
    await story.bench.call("HEAD")
    await close(story.bench, run.session)
    later(story.bench)


async def test_nothing_is_read_of_runs_that_are_here(story: Story) -> None:
    run = await story.bench.one(name="c.efi")
    await story.bench.download(run)
    with slow_reads() as (there, _):
        assert (await story.bench.call("POST")).status == 200
        assert (await story.bench.call("POST")).status == 200
        for title in ("first", "second", "first"):
            assert (await story.bench.report(title=title)).status == 200
        assert (await story.bench.call("PUT", body=b"{")).status == 400
        await story.bench.call("HEAD")
        assert story.bench.now(run).outcome is Outcome.FAILED
        assert (await story.bench.report(title="late")).status == 200
        assert (await story.bench.report(title="late")).status == 200
        assert (await story.bench.call("POST")).status == 200
        assert not there.is_set()
    assert [report.title for report in story.bench.attempt(run).reports] == ["first", "second", "late"]
    await close(story.bench, run.session)
    later(story.bench)


# The journal cannot be asked


@pytest.fixture
def impatient(story: Story) -> Story:
    story.bench.boot.beacons.patience = 0.1
    return story


@fault(
    "The disk",
    "the journal does not answer when a machine speaks of a run that the lab does not remember",
    outcome="503, after 10 s; nothing is acknowledged that is not on disk, and `beacon` tries again for a minute",
    told="nothing, if a later try is taken",
)
async def test_a_journal_that_does_not_answer(impatient: Story) -> None:
    story, others = impatient, [impatient.bench.report(title="one more") for _ in range(3)]
    run = await story.bench.one(name="c.efi")
    await story.bench.download(run, "127.0.0.3")
    with slow_reads() as (_, go):
        answers = await gathered(story.bench.call("POST"), *others, story.bench.call("PUT", body=b"{"))
        assert [answer.status for answer in answers] == [503] * 5
        why = "the journal did not tell within 0.1s what this machine ran; send it again"
        assert {answer.text.strip() for answer in answers} == {why}
        assert (await story.bench.call("POST", source="127.0.0.3")).status == 200
        assert (await story.bench.report("127.0.0.3", title="of a run that is here")).status == 200
        go.set()
    story.bench.boot.beacons.patience = 60.0
    assert story.said == [("b.efi", False)]
    assert (await story.bench.report(title="one more")).status == 200
    assert story.said == [("b.efi", False), ("one more", True)]
    await story.bench.call("HEAD", source="127.0.0.3")
    await close(story.bench, run.session)
    later(story.bench)


def spoil(story: Story, sql: str) -> None:
    with closing(sqlite3.connect(story.bench.folder / "journal.db")) as db, db:
        db.execute(sql)


@fault(
    "The disk",
    "the journal cannot be read when a machine speaks of a run that the lab does not remember",
    outcome="503; nothing is acknowledged that is not on disk, what the lab remembers goes on",
    told="the workload: `cannot read it`, and why",
)
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE dispatch_moments SET at = 'garbage'",
        "DELETE FROM dispatch_moments WHERE number = 1",
        "UPDATE dispatch_attempts SET counts = 'garbage'",
        "UPDATE dispatch_sessions SET issues_outcomes = '[\"splendid\"]'",
    ],
    ids=["when it began is garbage", "a part is missing", "a part is garbage", "its session is garbage"],
)
async def test_a_journal_that_cannot_be_read(story: Story, sql: str) -> None:
    spoil(story, sql)
    answer = await story.bench.report(title="one more")
    assert (answer.status, "cannot read it" in answer.text) == (503, True)
    assert story.count("dispatch_reports") == 2
    assert story.bench.lab.broken is None
    run = await story.bench.one(name="c.efi")
    await story.bench.download(run, "127.0.0.3")
    assert (await story.bench.call("POST", source="127.0.0.3")).status == 200
    assert (await story.bench.report("127.0.0.3", title="fine")).status == 200
    await story.bench.call("HEAD", source="127.0.0.3")
    await close(story.bench, run.session)
    later(story.bench)


async def test_a_report_that_cannot_be_written_is_not_acknowledged(story: Story) -> None:
    spoil(
        story,
        "CREATE TRIGGER full BEFORE INSERT ON dispatch_reports BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    answer = await story.bench.report(title="one more")
    assert (answer.status, "cannot write it" in answer.text) == (503, True)
    assert story.said == [("b.efi", False)]
