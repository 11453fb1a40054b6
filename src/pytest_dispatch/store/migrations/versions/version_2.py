"""Version 2 of the journal: columns instead of JSON records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from alembic import op

from pytest_dispatch.store.column_text import as_json, stored
from pytest_dispatch.store.migrations import version_1_shapes as old
from pytest_dispatch.store.migrations import version_2_tables as new
from pytest_dispatch.store.migrations.version_1_boots import as_last_makes

revision = "2"
down_revision = "1"

T = TypeVar("T")

#: Tables of JSON records, which are renamed while their rows are converted, and their indexes.
_RECORDS = {
    "dispatch_sessions": (),
    "dispatch_runs": ("ix_dispatch_runs_session",),
    "dispatch_reports": ("ix_dispatch_reports_run",),
    "dispatch_outbox": (),
}
_ASIDE = "{}_1"
_TOGETHER = 500  # rows in a statement


def upgrade() -> None:
    """Convert JSON records to columns; tables without such records stay as they are."""
    db = op.get_bind()
    for table, indexes in _RECORDS.items():
        for index in indexes:
            op.drop_index(index, table)
        op.rename_table(table, _ASIDE.format(table))
    new.metadata.create_all(db)
    sessions = db.execute(sa.text("SELECT record, closed FROM dispatch_sessions_1"))
    _write(db, ((new.sessions, _session(_read(row[0], old.Session), row[1])) for row in sessions))
    runs = db.execute(sa.text("SELECT record FROM dispatch_runs_1"))
    _write(db, (row for record in runs for row in _run(as_last_makes(_read(record[0], old.Run)))))
    reports = db.execute(sa.text("SELECT run, attempt, record FROM dispatch_reports_1 ORDER BY id"))
    _write(db, _once(row for run, number, record in reports for row in _report(run, number, _read(record, old.Report))))
    letters = db.execute(sa.text("SELECT record FROM dispatch_outbox_1"))
    _write(db, ((new.issues, _letter(_read(record[0], old.Letter))) for record in letters))
    for table in _RECORDS:
        op.drop_table(_ASIDE.format(table))


_Row = tuple[sa.Table, dict[str, Any]]


def _read(record: bytes, shape: type[T]) -> T:
    return msgspec.json.decode(record, type=shape)


def _write(db: sa.Connection, rows: Iterable[_Row]) -> None:
    waiting: dict[sa.Table, list[dict[str, Any]]] = {}
    for table, row in rows:
        mine = waiting.setdefault(table, [])
        mine.append(row)
        if len(mine) == _TOGETHER:
            db.execute(sa.insert(table), waiting.pop(table))
    for table, left in waiting.items():
        db.execute(sa.insert(table), left)


def _once(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Yield the rows without repeated reports and their cases."""
    seen = set()
    for table, row in rows:
        keys = ("run", "attempt", "digest") if table is new.reports else ("run", "attempt", "report", "number")
        key = (table.name, *(row[name] for name in keys))
        if key not in seen:
            seen.add(key)
            yield table, row


def _session(session: old.Session, closed: float | None) -> dict[str, Any]:
    policy = session.policy
    return {
        "id": session.id,
        "source": stored(session.source),
        "owner": stored(session.owner),
        "epoch": session.epoch,
        "port": session.port,
        "opened": session.opened,
        "closed": closed,
        "limits": as_json(policy.limits),
        "expect": policy.expect,
        "retries": policy.retries,
        "retry_failures": policy.retry_failures,
        "idle": policy.idle,
        "judged": policy.judged,
        "fail_labels": as_json(policy.fail_labels),
        "skip_labels": as_json(policy.skip_labels),
        # version 1 did not keep these
        "issues_repo": "",
        "issues_api": "",
        "issues_outcomes": "[]",
        "issues_raw": False,
        "issues_reviewed": False,
    }


def _run(run: old.Run) -> Iterator[_Row]:
    workload = run.workload
    yield (
        new.runs,
        {
            "id": run.id,
            "session": run.session,
            "key": stored(run.key),
            "position": run.position,
            "kind": workload.kind,
            "name": stored(workload.name),
            "digest": workload.digest,
            "payload": as_json(workload.payload),
            "labels": as_json(workload.labels),
            "requires": as_json(workload.requires),
            "asked_expect": workload.expect,
            "asked_limits": as_json(workload.limits),
            "priority": workload.priority,
            "chain": stored(workload.chain),
            "after": as_json(workload.after),
            "limits": as_json(run.limits),
            "expect": run.expect,
            "attempts": len(run.attempts),
            "outcome": run.outcome,
            "reason": stored(run.reason),
            "cancelled": run.cancelled,
            "unreviewed": run.unreviewed,
        },
    )
    for attempt in run.attempts:
        yield from _attempt(run.id, attempt)


def _attempt(run: str, attempt: old.Attempt) -> Iterator[_Row]:
    yield (
        new.attempts,
        {
            "run": run,
            "number": attempt.number,
            "state": attempt.history[-1].state if attempt.history else "",
            "moments": len(attempt.history),
            "placements": len(attempt.placements),
            "heard": attempt.heard,
            "counts": as_json(attempt.counts),
            "outcome": attempt.outcome,
            "reason": stored(attempt.reason),
            "proposed": attempt.proposed,
            "outside": stored(attempt.outside),
        },
    )
    of = {"run": run, "attempt": attempt.number}
    for number, moment in enumerate(attempt.history, 1):
        yield new.moments, {**of, "number": number, "state": moment.state, "phase": moment.phase, "at": moment.at}
    for number, each in enumerate(attempt.placements, 1):
        where = {"machine": stored(each.machine), "known_by": each.known_by, "at": each.at}
        yield new.placements, {**of, "number": number, **where}
    for number, refusal in enumerate(attempt.refused, 1):
        why = {"why": stored(refusal.why), "begins": stored(refusal.begins), "whole": refusal.whole, "at": refusal.at}
        yield new.refusals, {**of, "number": number, **why}


def _report(run: str, attempt: int, report: old.Report) -> Iterator[_Row]:
    of, digest = {"run": run, "attempt": attempt}, _digest(report)
    said = {
        "title": stored(report.title),
        "body": stored(report.body),
        "labels": as_json(report.labels),
        "assignees": as_json(report.assignees),
        "milestone": stored(report.milestone),
        "result": report.result,
        "junit": stored(report.junit),
        "tap": stored(report.tap),
        "cases": len(report.cases),
        "at": report.at,
        "late": report.late,
        "size": report.size,
    }
    yield new.reports, {**of, "digest": digest, **said}
    for number, case in enumerate(report.cases, 1):
        told = {"name": stored(case.name), "outcome": case.outcome, "duration": case.duration}
        yield new.cases, {**of, "report": digest, "number": number, **told, "message": stored(case.message)}


def _digest(report: old.Report) -> str:
    said = (
        report.title,
        report.body,
        report.labels,
        report.assignees,
        report.milestone,
        report.result,
        report.cases,
        report.junit,
        report.tap,
    )
    return hashlib.blake2b(msgspec.json.encode(said), digest_size=16).hexdigest()


def _letter(letter: old.Letter) -> dict[str, Any]:
    issue = letter.issue
    return {
        "marker": issue.marker,
        "session": letter.session,
        "run": letter.run,
        "api": letter.api,
        "repo": letter.repo,
        "title": stored(issue.title),
        "body": stored(issue.body),
        "labels": as_json(issue.labels),
        "assignees": as_json(issue.assignees),
        "milestone": stored(issue.milestone),
        "comments": as_json(issue.comments),
        "review": letter.review,
        "tries": letter.tries,
        "failed": stored(letter.failed),
        "given_up": letter.given_up,
        "url": letter.url,
    }
