"""The outbox: tried again, never filed twice, kept when all fails. The filer is scripted, the journal is real."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import Place
from filers import FilesEach
from labs import embedded

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Issue, Policy
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.lab.outbox import LONGEST_PAUSE, Filer, Outbox, OutboxStatus, kept_in
from pytest_dispatch.server.api.schemas import OpenSession
from pytest_dispatch.store.journal import Journal, PendingIssue, issue_row
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.anyio

SOON = 60.0  # seconds that anything here may take; nothing takes as long


class GitHub(FilesEach):
    """Has issues by marker; what each call meets on its way is scripted, the rest go well."""

    def __init__(self, *script: BaseException | None) -> None:
        self.script = list(script)
        self.issues: dict[str, str] = {}
        self.calls: list[tuple[str, bool]] = []
        self.on_call: Callable[[], None] = lambda: None
        self.filed_twice = 0
        self.lacks: tuple[Any, ...] = ()

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        self.calls.append((issue.title, may_exist))
        self.on_call()
        trouble = self.script.pop(0) if self.script else None
        if trouble is not None:
            raise trouble
        return self.create(issue, may_exist)

    def create(self, issue: Issue, may_exist: bool) -> Filed:
        if not (may_exist and issue.marker in self.issues):
            self.filed_twice += issue.marker in self.issues
            self.issues[issue.marker] = f"https://gh/{len(self.issues) + 1}"
        return Filed(self.issues[issue.marker], *self.lacks)


class LabSession:
    """An outbox, what it told, and how long it paused."""

    def __init__(self, journal: Journal, filer: Filer | None) -> None:
        self.journal = journal
        self.filer = filer
        self.told: list[PendingIssue] = []
        self.moved = asyncio.Event()
        self.pauses: list[float] = []
        self.outbox = Outbox(kept_in(journal), lambda _repo: self.filer, self.tell, self.pause)

    def tell(self, tried: PendingIssue) -> None:
        self.told.append(tried)
        self.moved.set()

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def start(self) -> asyncio.Task[None]:
        return self.outbox.start(self.journal.reader.pending_issues())

    async def put(self, *titles: str) -> None:
        """A run becomes an issue: written down, then handed over, as the lab does."""
        for title in titles:
            await asyncio.wrap_future(self.journal.write([issue_row(pending(title))]))
            self.outbox.put(pending(title))

    async def until(self, reached: Callable[[OutboxStatus], bool]) -> OutboxStatus:
        async with asyncio.timeout(SOON):
            while not reached(self.outbox.status()):
                self.moved.clear()
                await self.moved.wait()
        return self.outbox.status()

    async def done(self) -> OutboxStatus:
        return await self.until(lambda status: not status.pending)


def pending(title: str, **fields: Any) -> PendingIssue:
    issue = Issue(title=title, body="b", marker=f"dispatch-{title}")
    return replace(PendingIssue(session="s", run=f"s.{title}", repo="o/r", issue=issue), **fields)


def stumble(retry_after: float | None = None) -> FilingError:
    return FilingError("GitHub answered 502", retry_after=retry_after)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    found = Journal(path)
    found.open()
    yield found
    found.close()


@asynccontextmanager
async def lab_session(journal: Journal, filer: Filer | None) -> AsyncIterator[LabSession]:
    found = LabSession(journal, filer)
    found.start()
    try:
        yield found
    finally:
        await found.outbox.stop()


async def test_files_in_order_and_remembers_where(journal: Journal) -> None:
    github = GitHub()
    async with lab_session(journal, github) as it:
        await it.put("a", "b")
        assert await it.done() == OutboxStatus(pending=0, filed=2)
        await it.put("c")
        assert await it.done() == OutboxStatus(pending=0, filed=3)
    assert github.calls == [("a", False), ("b", False), ("c", False)]
    assert [(told.issue.title, told.url, told.tries) for told in it.told] == [
        ("a", "https://gh/1", 1),
        ("b", "https://gh/2", 1),
        ("c", "https://gh/3", 1),
    ]
    assert journal.reader.pending_issues() == []
    assert journal.reader.issues.filed("s") == {
        "s.a": ["https://gh/1"],
        "s.b": ["https://gh/2"],
        "s.c": ["https://gh/3"],
    }


async def test_what_earlier_sessions_left_comes_first(journal: Journal) -> None:
    journal.write([issue_row(pending("old")), issue_row(pending("older", tries=2, failed="502"))]).result(SOON)
    github = GitHub()
    async with lab_session(journal, github) as it:
        await it.put("new")
        await it.done()
    assert github.calls == [("old", False), ("older", True), ("new", False)]


async def test_tries_again_later_and_looks_whether_the_first_try_got_through(journal: Journal) -> None:
    github = GitHub(stumble(), stumble(), stumble())
    async with lab_session(journal, github) as it:
        await it.put("a")
        assert await it.done() == OutboxStatus(pending=0, filed=1)
    assert github.calls == [("a", False), ("a", True), ("a", True), ("a", True)]
    assert it.pauses == [1.0, 2.0, 4.0]
    assert [(told.failed, told.url) for told in it.told] == [("GitHub answered 502", "")] * 3 + [("", "https://gh/1")]


async def test_a_try_that_got_through_unseen_is_not_repeated(journal: Journal) -> None:
    class LostAnswer(GitHub):
        def file(self, issue: Issue, may_exist: bool) -> Filed:
            super().file(issue, may_exist)
            if len(self.calls) == 1:
                raise stumble()
            return self.create(issue, may_exist)

    github = LostAnswer()
    async with lab_session(journal, github) as it:
        await it.put("a")
        await it.done()
    assert (github.issues, github.filed_twice) == ({"dispatch-a": "https://gh/1"}, 0)
    assert it.told[-1].url == "https://gh/1"


async def test_pauses_grow_to_a_limit_and_begin_anew_after_a_success(journal: Journal) -> None:
    github = GitHub(*[stumble()] * 11, None, stumble())
    async with lab_session(journal, github) as it:
        await it.put("a")
        await it.until(lambda status: status.filed == 1)
        await it.put("b")
        await it.until(lambda status: status.filed == 2)
    assert it.pauses == [*(2.0**n for n in range(9)), LONGEST_PAUSE, LONGEST_PAUSE, 1.0]


async def test_waits_as_long_as_github_asks(journal: Journal) -> None:
    async with lab_session(journal, GitHub(stumble(3600.0), stumble(0.0), stumble())) as it:
        await it.put("a")
        await it.until(lambda status: status.filed == 1)
    assert it.pauses == [3600.0, 0.0, 4.0]


async def test_what_was_dropped_in_silence_is_said_once(journal: Journal) -> None:
    github = GitHub()
    github.lacks = (("labels", "milestone"), "o/r took the issue and dropped them")
    async with lab_session(journal, github) as it:
        await it.put("a", "b")
        status = await it.done()
    line = "labels, milestone of a, b: o/r took the issue and dropped them"
    assert status == OutboxStatus(pending=0, filed=2, unfiled=(line,))
    assert journal.reader.pending_issues() == []


async def test_what_cannot_be_filed_at_all_is_given_up_and_said(journal: Journal) -> None:
    github = GitHub(FilingError("o/r: GitHub does not take it", refused=True))
    async with lab_session(journal, github) as it:
        await it.put("a", "b")
        status = await it.done()
    assert status == OutboxStatus(pending=0, filed=1, unfiled=("given up: a: o/r: GitHub does not take it",))
    assert github.calls == [("a", False), ("b", False)]
    assert it.pauses == []
    assert [(told.issue.title, told.given_up) for told in it.told] == [("a", True), ("b", False)]
    assert journal.reader.pending_issues() == []


async def test_what_somebody_has_to_change_first_is_left_to_the_next_session(journal: Journal) -> None:
    stumble = FilingError("o/r: issues are switched off there", permanent=True)
    github = GitHub(*[stumble] * 5)
    async with lab_session(journal, github) as it:
        await it.put(*"abcde")
        status = await it.done()
    line = "kept for the next session: a, b, c and 2 more: o/r: issues are switched off there"
    assert status == OutboxStatus(pending=0, filed=0, unfiled=(line,))
    assert [title for title, _ in github.calls] == [*"abcde"]
    assert it.pauses == []
    async with lab_session(journal, github) as it:
        assert (await it.done()).filed == 5
    assert github.calls[5:] == [(title, True) for title in "abcde"]


async def test_nobody_waits_for_a_limit_that_lasts(journal: Journal) -> None:
    lifted = asyncio.Event()

    class Limited(LabSession):
        async def pause(self, seconds: float) -> None:
            await super().pause(seconds)
            await lifted.wait()

    it = Limited(journal, GitHub(stumble(3600.0)))
    it.start()
    try:
        await it.put("a", "b")
        status = await it.until(lambda status: bool(status.unfiled))
        assert status == OutboxStatus(
            pending=0, filed=0, unfiled=("kept for the next session: b, a: GitHub answered 502",)
        )
        assert it.pauses == [3600.0]
        lifted.set()
        assert await it.until(lambda status: status.filed == 2) == OutboxStatus(pending=0, filed=2)
    finally:
        await it.outbox.stop()


async def test_one_that_fails_does_not_hold_up_the_others(journal: Journal) -> None:
    class Stumbles(GitHub):
        def file(self, issue: Issue, may_exist: bool) -> Filed:
            if issue.title == "bad":
                raise stumble()
            return super().file(issue, may_exist)

    async with lab_session(journal, Stumbles()) as it:
        await it.put("bad", "a", "b")
        status = await it.until(lambda status: status.filed == 2)
    line = "kept for the next session: bad: GitHub answered 502"
    assert status == OutboxStatus(pending=1, filed=2, unfiled=(line,))
    assert [(kept.issue.title, kept.failed, kept.given_up) for kept in journal.reader.pending_issues()] == [
        ("bad", "GitHub answered 502", False)
    ]


async def test_that_a_try_begins_is_on_disk_before_it_does(journal: Journal, path: Path) -> None:
    github = GitHub()
    seen: list[tuple[object, ...]] = []
    place = Place(str(path))
    github.on_call = lambda: seen.extend(place.all("SELECT tries FROM dispatch_issues"))
    async with lab_session(journal, github) as it:
        await it.put("a")
        await it.done()
    place.engine.dispose()
    assert seen == [(1,)]


async def test_stopped_in_the_middle_it_stays_for_the_next_session(journal: Journal) -> None:
    github = GitHub()
    reached, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow(GitHub):
        def file(self, issue: Issue, may_exist: bool) -> Filed:
            reached.set()
            assert go_on.wait(SOON)
            github.create(issue, may_exist)
            ended.set()
            return Filed("nobody hears this")

    async with lab_session(journal, Slow()) as it:
        await it.put("a", "b")
        assert await asyncio.to_thread(reached.wait, SOON)
    assert not ended.is_set(), "to stop does not take as long as GitHub"
    assert (it.told, it.outbox.status()) == ([], OutboxStatus(pending=2, filed=0))
    go_on.set()
    assert ended.wait(SOON)
    assert [(kept.issue.title, kept.tries, kept.url) for kept in journal.reader.pending_issues()] == [
        ("a", 1, ""),
        ("b", 0, ""),
    ]
    async with lab_session(journal, github) as it:
        await it.done()
    assert github.calls == [("a", True), ("b", False)]
    assert (len(github.issues), github.filed_twice) == (2, 0)
    assert it.told[0].url == "https://gh/1"


async def test_without_a_token_it_is_kept_and_said(journal: Journal) -> None:
    async with lab_session(journal, None) as it:
        await it.put("a")
        status = await it.done()
    assert status == OutboxStatus(
        pending=0, filed=0, unfiled=("kept for the next session: a: there is no GitHub token",)
    )
    assert [told.failed for told in it.told] == ["there is no GitHub token"]
    assert [(kept.tries, kept.failed) for kept in journal.reader.pending_issues()] == [(0, "")]


async def test_without_a_token_what_earlier_sessions_left_is_left_alone(journal: Journal) -> None:
    journal.write([issue_row(pending("old"))]).result(SOON)
    async with lab_session(journal, None) as it:
        assert it.outbox.status() == OutboxStatus(pending=0, filed=0)
    assert len(journal.reader.pending_issues()) == 1


async def test_what_is_for_another_github_is_kept_and_said(journal: Journal) -> None:
    pending_issues = [pending("mine", api="https://a"), pending("theirs", api="https://b"), pending("nobody's")]
    journal.write([issue_row(each) for each in pending_issues]).result(SOON)
    github = GitHub()
    it = LabSession(journal, github)
    it.outbox = Outbox(kept_in(journal), lambda _repo: github, it.tell, it.pause, api="https://a")
    it.start()
    status = await it.done()
    await it.outbox.stop()
    assert github.calls == [("mine", False)]
    assert status.unfiled == (
        "kept for a session with --dispatch-issues-repo o/r: nobody's",
        "kept for a session with --dispatch-api-url https://b: theirs",
    )
    assert {kept.issue.title for kept in journal.reader.pending_issues()} == {"theirs", "nobody's"}


@pytest.mark.parametrize(("repo", "titles"), [("o/r", ["old"]), ("o/other", [])])
def test_an_issue_without_an_address_is_for_the_very_repository_alone(
    path: Path, journal: Journal, repo: str, titles: list[str]
) -> None:
    journal.write([issue_row(pending("old"))]).result(SOON)
    journal.close()
    with FakeGitHub() as github:
        github.add_repo("o/r")
        token = Token(github.token, "a test", github.url)
        lab = embedded(path.parent, token=token, api_url=github.url, issues_repo=repo, db=str(path))
        lab.start("w")
        client = LabClient(lab.url, lab.token)
        try:
            session = client.open(OpenSession(source="w", policy=Policy())).id
            while client.session(session).issues_pending:
                threading.Event().wait(0.01)
        finally:
            client.close()
            lab.stop()
        assert [issue.title for issue in github.issues("o/r")] == titles


async def test_it_ends_with_the_journal(journal: Journal, path: Path) -> None:
    place = Place(str(path))
    github = GitHub()
    it = LabSession(journal, github)
    task = it.start()
    await it.put("a")
    await it.done()
    place.do("DROP TABLE dispatch_issues")
    place.engine.dispose()
    it.outbox.put(pending("b"))
    async with asyncio.timeout(SOON):
        with pytest.raises(JournalError, match="cannot write it"):
            await task
    assert github.calls == [("a", False)]
    await it.outbox.stop()


async def test_what_a_filer_should_never_raise_is_not_swallowed(journal: Journal) -> None:
    it = LabSession(journal, GitHub(ZeroDivisionError("a defect")))
    task = it.start()
    await it.put("a")
    async with asyncio.timeout(SOON):
        with pytest.raises(ZeroDivisionError, match="a defect"):
            await task
    await it.outbox.stop()


async def test_stopping_what_never_started(journal: Journal) -> None:
    await Outbox(kept_in(journal), lambda _repo: None, lambda _pending: None).stop()
