"""Version 3 of the journal: no table of events; runs have groups, sessions users, machines approval and health.

`dispatch_moments` has the states that events led to. New tables are made when the journal is opened.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from pytest_dispatch.core.ended_runs import HistoryEntry, history_entry
from pytest_dispatch.store import schema
from pytest_dispatch.store.history_rows import history_row
from pytest_dispatch.store.row_reading import RunParts, session_of

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Drop the events, and put all runs into the group `lab` and all sessions under its user: there was no other.

    A console row of version 2 has one line, which is also a row of version 3. Runs that have ended get a row in
    history.
    """
    op.drop_table("dispatch_events")
    op.add_column("dispatch_sessions", sa.Column("lease", sa.Text, nullable=False, server_default="attached"))
    op.add_column("dispatch_runs", sa.Column("asked_group", sa.Text, nullable=False, server_default=""))
    op.add_column("dispatch_runs", sa.Column("in_group", sa.Text, nullable=False, server_default="lab"))
    for moved in (
        sa.Column("moved_priority", sa.Integer),
        sa.Column("moved_number", sa.Float),
        sa.Column("moved_line", sa.Text),
        sa.Column("only_machine", sa.Text, nullable=False, server_default=""),
        sa.Column("avoids_machine", sa.Text, nullable=False, server_default=""),
        sa.Column("again_of", sa.Text, nullable=False, server_default=""),
        sa.Column("requeue_most", sa.Integer),
        sa.Column("requeue_done", sa.Integer),
        sa.Column("requeue_faults", sa.Integer),
    ):
        op.add_column("dispatch_runs", moved)
    op.add_column("dispatch_sessions", sa.Column("user_name", sa.Text, nullable=False, server_default="lab"))
    for mode in (
        sa.Column("issues_updates", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("issues_close_after", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("dispatch_sessions", mode)
    for name in ("act", "failure", "known_url"):
        op.add_column("dispatch_issues", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.add_column("dispatch_issues", sa.Column("at", sa.Float, nullable=False, server_default="0"))
    for table, name, default in (
        ("dispatch_attempts", "excused", sa.false()),
        ("dispatch_machines", "approved", sa.true()),
        ("dispatch_identities", "joined", sa.false()),
    ):
        op.add_column(table, sa.Column(name, sa.Boolean, nullable=False, server_default=default))
    _begin_history(op.get_bind())  # last: it reads the tables as they are in version 3


def _begin_history(db: sa.Connection) -> None:
    """Make history, with the runs that have ended in the order in which they did."""
    schema.history.create(db)
    place = 0
    for entry in sorted(_ended(db), key=lambda each: each.run.place):
        place = max(entry.run.place, place + 1)
        table, row = history_row(entry)
        db.execute(sa.insert(table).values({**row, "id": place}))


def _ended(db: sa.Connection) -> Iterator[HistoryEntry]:
    """Yield the runs that have ended, session by session."""
    own, served = schema.runs.c, schema.served.c
    for session in db.execute(sa.select(schema.sessions)).mappings().all():
        record, mine = session_of(session), sa.select(own.id).where(own.session == session["id"])
        parts = {
            table: db.execute(sa.select(table).where(table.c.run.in_(mine))).mappings().all() for table in schema.PARTS
        }
        put_together = RunParts(parts)
        digests = {
            row.run: row.digest
            for row in db.execute(sa.select(schema.served).where(served.run.in_(mine)).order_by(served.id))
        }
        ended = sa.select(schema.runs).where(own.session == session["id"], own.outcome.is_not(None))
        for row in db.execute(ended).mappings():
            run = put_together.run(row)
            if run.outcome is not None:
                digest = digests.get(run.id, run.workload.digest)
                place = int(run.attempt.since * 1e6)
                yield history_entry(run, run.outcome, place, source=record.source, who=record.user, digest=digest)
