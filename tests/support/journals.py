"""Rows for journals, as a lab would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from queue_bench import QueueBench
from told_errors import one_line

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.model import Issue, Policy, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.store.journal import Journal, PendingIssue, Row, SessionRecord, run_rows, session_row

A, B = "10.0.0.1", "10.0.0.2"
ADVICE = "; check the disk, or use another file with --dispatch-db"  # that every refusal ends with
SOON = 60.0  # seconds that a write may take; none takes as long


def write(journal: Journal, *rows: Row) -> None:
    journal.write(list(rows)).result(SOON)


def session(name: str, opened: float = 1.0, source: str = "dir") -> SessionRecord:
    return SessionRecord(id=name, source=source, opened=opened, policy=Policy(), port=8080)


def pending(run: str, number: int = 0, session: str = "s") -> PendingIssue:
    issue = Issue(title=f"issue {number}", body="b", marker=f"dispatch-{run}-{number}", labels=("x",))
    return PendingIssue(session=session, run=run, repo="o/r", issue=issue)


def changes_of(bench: QueueBench) -> list[Change]:
    return bench.queue.take_changes()


def begin(journal: Journal, record: SessionRecord) -> None:
    """A session that has asked for something."""
    (run,) = QueueBench("a").queue.of_session("s")
    write(journal, session_row(record), *run_rows(replace(run, id=f"{record.id}.0", session=record.id)))


def refusal(act: Callable[[], object]) -> str:
    """Return what a journal is refused with."""
    with pytest.raises(JournalError) as caught:
        act()
    return one_line(caught.value)


def keep(journal: Journal, bench: QueueBench) -> None:
    """Journal what a lab would: the runs as they were asked for, and every change."""
    for change in changes_of(bench):
        journal.write(run_rows(change.run))
    write(journal, *(row for run in bench.queue.of_session("s") for row in run_rows(run)))


def settled(runs: list[Run]) -> list[Run]:
    """Without when an attempt was last moved, which alone is not written each time."""
    return [replace(run, attempts=tuple(replace(a, heard=0.0) for a in run.attempts)) for run in runs]
