"""The journal's tables, for SQLite and PostgreSQL alike.

Everything that may be queried has its own column; small values that are used as a whole only (limits, labels, counts)
are JSON text. There are no foreign keys: one writer writes related rows in one transaction, and rows have the number of
their related rows, so that a reader notices rows lost to a damaged disk.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
    true,
)

VERSION = 3  # of these tables; an older journal is upgraded, a newer one is refused

#: Marks an SQLite file as a journal, even if the rest is unreadable: "dsp" and a number.
APPLICATION = int.from_bytes(b"dsp1")

metadata = MetaData()


def _text(name: str, **more: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **more)


def _ordered_text(name: str) -> Column[str]:
    """Return a text whose order is that of its characters, so that an index finds what begins with something."""
    return Column(name, Text().with_variant(Text(collation="C"), "postgresql"), nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _flag(name: str, **more: Any) -> Column[bool]:
    return Column(name, Boolean, nullable=False, **more)


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

#: The latest batch on a server: tells whether a commit went through whose answer was lost, and that no other lab wrote.
writer = Table("dispatch_writer", metadata, Column("batch", String(64), primary_key=True))

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
    _text("lease", server_default="attached"),  # the kind of its lease
    _text("user_name", server_default="lab"),  # who opened it
    Column("issues_updates", Boolean, nullable=False, server_default=false()),
    Column("issues_close_after", Integer, nullable=False, server_default="0"),
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
    # its group: the one that it names, and the one in which it is
    _text("asked_group", server_default=""),
    _text("in_group", server_default="lab"),
    # where a person has put it in the queue
    Column("moved_priority", Integer),
    Column("moved_number", Float),
    Column("moved_line", Text),
    # the machines that may have it, and the run that it repeats
    _text("only_machine", server_default=""),
    _text("avoids_machine", server_default=""),
    _text("again_of", server_default=""),
    # how often it is queued again
    Column("requeue_most", Integer),
    Column("requeue_done", Integer),
    Column("requeue_faults", Integer),
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
    _flag("excused", server_default=false()),
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

#: A row has the lines that came within one write, separated by newlines, and the time of the first.
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
    # what it does to the issue that is kept for a failure; an empty `act` makes an issue of its own
    _text("act", server_default=""),
    _text("failure", server_default=""),
    _text("known_url", server_default=""),
    Column("at", Float, nullable=False, server_default="0"),
)

#: Failures of a series on a class of machines (`machines`) that the next run may have again. One that is over stays as
#: a row that is not `remembered`. `digest` is of the failing cases; `links` is what the next such failure is linked to.
failures = Table(
    "dispatch_failures",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("machines", Text, primary_key=True),
    Column("digest", String(32), primary_key=True),
    _flag("remembered"),
    _text("outcome"),
    _text("cases"),
    _run(),
    _time("first"),
    _time("last"),
    _number("times"),
    _flag("current"),
    _number("passes"),
    _text("links"),
    _text("repo"),
    _text("api"),
    _text("url"),
)

#: Links of runs to issues. One that was taken away stays as a row that is not `active`.
links = Table(
    "dispatch_links",
    metadata,
    _run(primary_key=True),
    Column("url", Text, primary_key=True),
    _time("since"),
    _text("by_whom"),
    _text("carried"),
    _flag("active"),
)

machines = Table(
    "dispatch_machines",
    metadata,
    Column("id", Text, primary_key=True),
    _flag("driven"),
    _text("labels"),
    _flag("approved", server_default=true()),
)

identities = Table(
    "dispatch_identities",
    metadata,
    Column("known_by", String(16), primary_key=True),
    Column("value", Text, primary_key=True),
    _text("machine", index=True),
    _flag("joined", server_default=false()),  # by a person, and so not taken away by a new configuration
)

#: The health of machines: faults in a row (JSON), the check under way, and the last one.
health = Table(
    "dispatch_health",
    metadata,
    Column("machine", Text, primary_key=True),
    _text("faults"),
    _flag("holding"),
    _text("held_for"),
    _number("tries"),
    Column("due", Float),
    _text("run"),
    _time("checked"),
    _text("last"),
    Column("outcome", Text),
    _text("reason"),
)

#: `what` and `name` identify what is held; a `suspect` is a workload whose faults count against no machine. A hold that
#: has ended stays as a row that is not `active`.
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

#: Notifications on their way, one row for each target. `url` is a secret: that of a target which only a session has
#: named, until the delivery is done.
notifications = Table(
    "dispatch_notifications",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("target", String(128), primary_key=True),
    _text("kind"),
    _text("severity"),
    _text("title"),
    _text("body"),
    _time("at"),
    _time("since"),
    _time("due"),
    _flag("held"),
    _number("tries"),
    _text("failed"),
    _text("state"),
    Column("done", Float),
    _text("session"),
    _text("url"),
)

#: What is known of each cycle beside its configuration; `started`, `hold` and `now` are JSON, or null.
cycles = Table(
    "dispatch_cycles",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started", Text),
    Column("hold", Text),
    Column("due", Float),
    Column("now", Text),
    _number("rounds"),
)

#: The rounds of cycles. `missed` is how many times of the schedule a row stands for that passed without a round.
rounds = Table(
    "dispatch_rounds",
    metadata,
    Column("cycle", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("who"),
    _text("chosen"),
    _time("began"),
    _number("tries"),
    _text("stopped"),
    _number("missed"),
    Column("ended", Float),
    Column("outcome", Text),
    _text("reason"),
    _text("session"),
    _text("counts"),
    _text("change"),
)
Index("dispatch_rounds_ended", rounds.c.ended)

#: The files of rounds: `name` is `junit` or `output`.
round_files = Table(
    "dispatch_round_files",
    metadata,
    Column("cycle", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(16), primary_key=True),
    _time("at"),
    _text("content"),
)
Index("dispatch_round_files_at", round_files.c.at)

#: Statistics of runs by series, kept as long as the journal: number of runs by outcome and duration. An empty
#: `machine` counts runs on all machines; `bucket` is -1 if there is no duration.
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

#: Runs that have ended, one row for each, written when it ends and when a person adds something. `id` orders them: the
#: microseconds since 1970 at the run's end, and more than that of the run before. An index for each field by which
#: people search has the outcome too, and then the order, so that a page is read from it without sorting.
history = Table(
    "dispatch_history",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    _run(unique=True),
    Column("session", String(32), nullable=False),
    _text("kind"),
    _ordered_text("origin"),
    _ordered_text("name"),
    _text("digest"),
    _text("in_group"),
    _ordered_text("machine"),
    _text("who"),
    _text("labels"),
    _text("outcome"),
    _text("original"),
    _text("reason"),
    _time("ended"),
    Column("seconds", Float),
    _number("attempts"),
    _flag("flaky"),
    _flag("cancelled"),
    _text("firmware"),
    _text("words"),
    # what people added
    _flag("overridden"),
    _text("override_reason"),
    _text("override_who"),
    Column("override_at", Float),
    _number("notes"),
    _text("noted"),
)
Index("dispatch_history_session", history.c.session, history.c.id)
Index("dispatch_history_outcome", history.c.outcome, history.c.id)
for _column in (history.c.name, history.c.machine, history.c.who, history.c.in_group, history.c.origin, history.c.kind):
    Index(f"dispatch_history_{_column.name}", _column, history.c.outcome, history.c.id)

#: The columns of history that are searched for words.
SEARCHED = ("name", "reason", "labels", "words", "override_reason", "noted")
#: Those in whose index of words SQLite looks for values, too, so that the index alone tells which runs fit.
_ALSO_INDEXED = ("outcome", "machine", "in_group")

#: Indexes of the few runs for which a flag is true; an index of SQLAlchemy's would load both databases' dialects.
_RARE = "CREATE INDEX dispatch_history_{0} ON dispatch_history (id) WHERE {0}{1}"
_SQLITE_RARE, _POSTGRESQL_RARE = (
    (*(_RARE.format(name, is_true) for name in ("flaky", "cancelled", "overridden")), _RARE.format("notes", " > 0"))
    for is_true in (" = 1", "")
)

#: The index of words of SQLite: https://www.sqlite.org/fts5.html, 4.4.3.
WORDS_INDEX = "dispatch_history_words"
_INDEXED = ", ".join((*SEARCHED, *_ALSO_INDEXED))
_NEW, _OLD = (", ".join(f"{side}.{name}" for name in (*SEARCHED, *_ALSO_INDEXED)) for side in ("new", "old"))
_PUT = f"INSERT INTO {WORDS_INDEX}(rowid, {_INDEXED}) VALUES (new.id, {_NEW});"  # noqa: S608 - made of constants
_TAKE = f"INSERT INTO {WORDS_INDEX}({WORDS_INDEX}, rowid, {_INDEXED}) VALUES ('delete', old.id, {_OLD});"  # noqa: S608
_WITH = f"content='{history.name}', content_rowid='id', columnsize=0"
_SQLITE_WORDS = (
    f"CREATE VIRTUAL TABLE {WORDS_INDEX} USING fts5({_INDEXED}, {_WITH})",
    f"CREATE TRIGGER {WORDS_INDEX}_put AFTER INSERT ON {history.name} BEGIN {_PUT} END",
    f"CREATE TRIGGER {WORDS_INDEX}_take AFTER DELETE ON {history.name} BEGIN {_TAKE} END",
    f"CREATE TRIGGER {WORDS_INDEX}_change AFTER UPDATE ON {history.name} BEGIN {_TAKE} {_PUT} END",
)
#: That of PostgreSQL: a column that only it has. ASCII punctuation is made blank, else its parser takes `b.efi` as one.
DOCUMENT = "document"
_JOINED = " || ' ' || ".join(SEARCHED)
_TEXTS = f"to_tsvector('simple', regexp_replace({_JOINED}, '[!-/:-@[-`{{-~]+', ' ', 'g'))"
_POSTGRESQL_WORDS = (
    f"ALTER TABLE {history.name} ADD COLUMN {DOCUMENT} tsvector GENERATED ALWAYS AS ({_TEXTS}) STORED",
    f"CREATE INDEX {history.name}_{DOCUMENT} ON {history.name} USING gin ({DOCUMENT})",
)
for _dialect, _statements in (
    ("sqlite", (*_SQLITE_WORDS, *_SQLITE_RARE)),
    ("postgresql", (*_POSTGRESQL_WORDS, *_POSTGRESQL_RARE)),
):
    for _statement in _statements:
        _only: Any = DDL(_statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
        event.listen(history, "after_create", _only.execute_if(dialect=_dialect))

#: What people wrote about runs that have ended.
notes = Table(
    "dispatch_notes",
    metadata,
    Column("id", String(32), primary_key=True),
    _run(index=True),
    _text("who"),
    _time("at"),
    _text("text"),
)

#: People and programs that may use a lab. A removed user stays as a row, so that the audit log's names mean something.
users = Table(
    "dispatch_users",
    metadata,
    Column("name", String(128), primary_key=True),
    _text("role"),
    _text("password"),
    _text("subject"),
    _time("made"),
    _time("seen"),
    Column("removed", Float),
)

#: `digest` is of the secret, which only its user has.
api_tokens = Table(
    "dispatch_api_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    _text("user_name"),
    _text("label"),
    _text("role"),
    Column("groups", Text),
    _time("made"),
    Column("expires", Float),
    _time("used"),
    Column("revoked", Float),
)

browser_sessions = Table(
    "dispatch_browser_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    _text("user_name"),
    _text("address"),
    _time("made"),
    _time("expires"),
    Column("ended", Float),
)

audit = Table(
    "dispatch_audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    _text("who"),
    _text("signed_in"),
    _text("address"),
    _text("action"),
    _text("target"),
    _text("before"),
    _text("after"),
)

#: Tables with the parts of a run, besides its own row.
PARTS = (attempts, moments, placements, refusals, reports, cases)

#: Tables whose rows are deleted together with their run.
OF_RUNS = (*PARTS, console, served, history, notes, links)
