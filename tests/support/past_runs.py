"""Runs that a lab has forgotten, or that an earlier one had: how tests bring them about."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filers import FilesEach
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.leases import Lease
from pytest_dispatch.core.model import Attempt, Issue, Outcome, Policy, Run
from pytest_dispatch.github.filer_interface import Filed
from pytest_dispatch.lab.memory_eviction import EVERY, KEPT
from pytest_dispatch.lab.session_feed import IssueRule

SOON = 60.0  # seconds that a read may take to begin; none takes as long


@contextmanager
def slow_reads() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Inside, the reader's thread stands still before it reads: the first event says so, the second lets it go on."""
    there, go = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        if threading.current_thread().name == "dispatch-reader":
            there.set()
            assert go.wait(SOON)

    sa.event.listen(sa.Engine, "before_cursor_execute", wait)
    try:
        yield there, go
    finally:
        go.set()
        sa.event.remove(sa.Engine, "before_cursor_execute", wait)


MACHINE = "127.0.0.2"


async def runs_through(
    bench: LabBench, *names: str, lease: Lease | None = None, rule: IssueRule | None = None
) -> list[Run]:
    """Let a machine run a session of these, one after the other."""
    workloads = [bench.workload(name) for name in names]
    runs = await bench.submit(*workloads, policy=Policy(), rule=rule, lease=lease or Lease())
    for run in runs:
        await bench.call("HEAD")
        await bench.download(run)
        assert (await bench.call("POST")).status == 200
        assert (await bench.report(title=run.workload.name)).status == 200
    await bench.call("HEAD")
    await until(lambda: all(bench.now(run).outcome for run in runs))
    return runs


async def close(bench: LabBench, session: str) -> None:
    for _ in range(2):  # cancel what is left, then for good
        assert (await bench.api("DELETE", f"/sessions/{session}")).status == 204
    await bench.lab.lab_state.on_disk()


def later(bench: LabBench, seconds: float = KEPT + EVERY) -> None:
    """Let time pass, and the lab tidy up."""
    bench.clock.ahead += seconds
    now = bench.clock.now()
    bench.lab.queue.expire(now)
    bench.lab.lab_state.commit()
    bench.lab._memory.tidy(now)


ALL = IssueRule(repo="o/r", outcomes=frozenset(Outcome))


@dataclass
class GitHub(FilesEach):
    """Takes every issue, and says where it is."""

    issues: list[Issue] = field(default_factory=list)

    def file(self, issue: Issue, again: bool) -> Filed:
        self.issues.append(issue)
        return Filed(f"https://github.example/o/r/issues/{len(self.issues)}")

    @property
    def titles(self) -> list[str]:
        return [issue.title for issue in self.issues]


@dataclass
class Story:
    """A lab that does not know what its machine ran, and what is in its journal."""

    bench: LabBench
    runs: list[Run]
    github: GitHub

    @property
    def kept(self) -> list[Run]:
        """The session's runs, as the journal has them."""
        return self.bench.journal.reader.runs(self.runs[0].session)

    @property
    def attempt(self) -> Attempt:
        """The last one."""
        return self.kept[-1].attempt

    @property
    def said(self) -> list[tuple[str, bool]]:
        """What it reported, and what of that was late."""
        return [(report.title, report.late) for report in self.attempt.reports]

    @property
    def unknown(self) -> str:
        return self.bench.lab.queue.machines.unknown.since(0.0)

    def count(self, table: str) -> int:
        with closing(sqlite3.connect(self.bench.folder / "journal.db")) as db:
            found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


Past = Callable[[Path], AbstractAsyncContextManager[Story]]


@asynccontextmanager
async def forgotten(folder: Path) -> AsyncIterator[Story]:
    """One session is over, and the lab has forgotten it."""
    github = GitHub()
    async with running_lab(folder, private=False, filers={"o/r": github}.get) as bench:
        runs = await runs_through(bench, "a.efi", "b.efi", rule=ALL)
        await until(lambda: len(github.issues) == 2)
        await close(bench, runs[0].session)
        await until(lambda: not bench.lab.issues.status().pending)
        later(bench)
        assert not bench.lab.queue.runs
        yield Story(bench, runs, github)
        assert not bench.lab.queue.runs
        assert not bench.lab.lab_state.live_sessions
