"""The journal is read beside the lab's event loop: a read that takes its time keeps nobody waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from journals import begin, session
from labs import gathered, running_lab
from past_runs import slow_reads
from waiting import until

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.store.journal import Journal, session_row

pytestmark = pytest.mark.anyio

SOON = 60.0  # seconds that anything here may take; nothing takes as long


async def left(folder: Path) -> str:
    """A session that a lab leaves interrupted."""
    async with running_lab(folder) as bench:
        return (await bench.one()).session


async def test_a_slow_read_keeps_no_machine_waiting(tmp_path: Path) -> None:
    interrupted = await left(tmp_path)
    async with running_lab(tmp_path) as bench:
        session_service = bench.lab.session_service
        other = await session_service.open("other", Policy(), IssueRule(), bench.port)
        (run,) = await session_service.submit(other, [("b", bench.workload("b.efi"))])
        await until(lambda: run.id in bench.boot.assets)
        await bench.download(run, "127.0.0.3")
        assert (await bench.call("POST", source="127.0.0.3")).status == 200
        with slow_reads() as (there, go):
            resuming = asyncio.create_task(bench.lab.resumption.resume("w", Policy(), IssueRule()))
            await until(there.is_set)
            assert (await bench.call("HEAD", source="127.0.0.4")).status == 200
            assert (await bench.report(source="127.0.0.3", title="fine")).status == 200
            assert not resuming.done()
            go.set()
            resumed = await resuming
            assert resumed is not None
            assert resumed.id == interrupted
        assert [report.title for report in bench.attempt(run).reports] == ["fine"]


async def test_a_session_is_taken_up_once_whoever_else_asks_meanwhile(tmp_path: Path) -> None:
    interrupted = await left(tmp_path)
    async with running_lab(tmp_path) as bench:
        asked = [bench.lab.resumption.resume("w", Policy(), IssueRule()) for _ in range(3)]
        assert [found.id for found in await gathered(*asked) if found is not None] == [interrupted]


async def test_what_cannot_be_read_is_told_to_whoever_asked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    journal.write([session_row(session("s"))]).result(SOON)
    begin(journal, session("s"))
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'journal.db'}")
    with engine.begin() as db:
        db.execute(sa.text("DROP TABLE dispatch_runs"))
    engine.dispose()
    with pytest.raises(JournalError, match="cannot read it"):
        await journal.background.runs("s")
    assert await journal.background.pending_issues() == [], "and the next one is answered"
    journal.close()
    with pytest.raises(JournalError, match="it was closed before this was read"):
        await journal.background.pending_issues()


async def test_a_read_that_nobody_waits_for_any_more_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    with slow_reads() as (there, go):
        first = asyncio.create_task(journal.background.pending_issues())
        await until(there.is_set)
        second = asyncio.create_task(journal.background.runs("s"))
        third = asyncio.create_task(journal.background.latest_on("10.0.0.1", 1))
        await asyncio.sleep(0)
        second.cancel()
        go.set()
        assert await first == []
        assert await third == []
    assert second.cancelled()
    journal.close()
