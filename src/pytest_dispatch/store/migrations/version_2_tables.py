"""The tables of version 2, as created by the migration to it; do not change them when the journal's tables change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()


def _text(name: str, **more: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **more)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _run(**more: Any) -> Column[str]:
    return Column("run", String(64), nullable=False, **more)


def _of_attempt(name: str, *columns: Column[Any]) -> Table:
    """Return a table with several rows for each attempt, numbered from 1."""
    run, attempt = _run(primary_key=True), Column("attempt", Integer, primary_key=True, autoincrement=False)
    number = Column("number", Integer, primary_key=True, autoincrement=False)
    return Table(name, metadata, run, attempt, number, *columns, sqlite_with_rowid=False)


def _growing(name: str, *columns: Any, index: bool = True) -> Table:
    """Return a table whose rows keep the order in which they were added."""
    place = Column("id", Integer, primary_key=True, autoincrement=True)
    return Table(name, metadata, place, _run(index=index), _number("attempt"), *columns)


meta = Table("dispatch_meta", metadata, Column("version", Integer, primary_key=True))

sessions = Table(
    "dispatch_sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    _text("source"),
    _text("owner"),
    _number("epoch"),
    _number("port"),
    _time("opened"),
    Column("closed", Float),
    # its policy
    _text("limits"),
    _text("expect"),
    _number("retries"),
    _number("retry_failures"),
    _text("idle"),
    _flag("judged"),
    _text("fail_labels"),
    _text("skip_labels"),
    # which of its runs become issues
    _text("issues_repo"),
    _text("issues_api"),
    _text("issues_outcomes"),
    _flag("issues_raw"),
    _flag("issues_reviewed"),
)

runs = Table(
    "dispatch_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("session", String(32), nullable=False, index=True),
    _text("key"),
    _number("position"),
    # the workload as it was submitted
    _text("kind"),
    _text("name"),
    _text("digest"),
    _text("payload"),
    _text("labels"),
    _text("requires"),
    Column("asked_expect", Text),
    _text("asked_limits"),
    _number("priority"),
    _text("chain"),
    _text("after"),
    # how it is run, and the result
    _text("limits"),
    _text("expect"),
    _number("attempts"),
    Column("outcome", Text),
    _text("reason"),
    _flag("cancelled"),
    _flag("unreviewed"),
)

attempts = Table(
    "dispatch_attempts",
    metadata,
    _run(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("state"),
    _number("moments"),
    _number("placements"),
    _time("heard"),
    _text("counts"),
    Column("outcome", Text),
    _text("reason"),
    Column("proposed", Text),
    _text("outside"),
    sqlite_with_rowid=False,
)

moments = _of_attempt("dispatch_moments", _text("state"), _text("phase"), _time("at"))

placements = _of_attempt("dispatch_placements", _text("machine"), _text("known_by"), _time("at"))
Index("dispatch_placements_machine", placements.c.machine, placements.c.at)

refusals = _of_attempt("dispatch_refusals", _text("why"), _text("begins"), _flag("whole"), _time("at"))

#: `digest` is of the content, so that a repeated report is stored once; `cases` is their number.
reports = _growing(
    "dispatch_reports",
    Column("digest", String(32), nullable=False),
    _text("title"),
    _text("body"),
    _text("labels"),
    _text("assignees"),
    _text("milestone"),
    Column("result", Text),
    _text("junit"),
    _text("tap"),
    _number("cases"),
    _time("at"),
    _flag("late"),
    _number("size"),
    UniqueConstraint("run", "attempt", "digest", name="dispatch_reports_said"),
    index=False,
)

cases = Table(
    "dispatch_cases",
    metadata,
    _run(primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("report", String(32), primary_key=True),  # its digest
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    _text("outcome"),
    _time("duration"),
    _text("message"),
    sqlite_with_rowid=False,
)

events = _growing(
    "dispatch_events",
    _time("at"),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    _text("machine"),
)

console = _growing(
    "dispatch_console",
    _time("at"),
    _text("text"),
    Index("dispatch_console_attempt", "run", "attempt"),
    index=False,
)

served = _growing("dispatch_served", Column("digest", String(80), nullable=False))

issues = Table(
    "dispatch_issues",
    metadata,
    Column("marker", String(64), primary_key=True),
    Column("session", String(32), nullable=False),
    _run(),
    _text("api"),
    _text("repo"),
    _text("title"),
    _text("body"),
    _text("labels"),
    _text("assignees"),
    _text("milestone"),
    _text("comments"),
    _flag("review"),
    _number("tries"),
    _text("failed"),
    _flag("given_up"),
    _text("url"),
)

machines = Table(
    "dispatch_machines",
    metadata,
    Column("id", Text, primary_key=True),
    _flag("driven"),
    _text("labels"),
)

identities = Table(
    "dispatch_identities",
    metadata,
    Column("known_by", String(16), primary_key=True),
    Column("value", Text, primary_key=True),
    _text("machine", index=True),
)

#: `what` and `name` identify what is held; a hold that has ended stays as a row that is not `active`.
holds = Table(
    "dispatch_holds",
    metadata,
    Column("what", String(16), primary_key=True),
    Column("name", Text, primary_key=True),
    _text("reason"),
    _text("owner"),
    _time("since"),
    Column("until", Float),
    _flag("active"),
)

series = Table(
    "dispatch_series",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("machine", Text, primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("flaky", Boolean, primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    _number("count"),
)
