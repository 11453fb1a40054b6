"""What a lab may drop because it is old: the deletions of runs, consoles and texts, a few at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import stored
from pytest_dispatch.store.inserts import Deletion, Emptied, Expired, Gone

# written out, since the conditions of deletions have no parameters
_RUN: sa.ColumnElement[str] = sa.literal_column("'run'")
_NOTHING: sa.ColumnElement[str] = sa.literal_column("''")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRuns:
    """Some runs of a session that is to be dropped.

    Attributes:
        session: The session.
        runs: Ids of some of its runs; of all that are left, if there are no more.
        last: Whether these are all that are left.
    """

    session: str
    runs: tuple[str, ...]
    last: bool


def old_session(before: float, alive: Collection[str]) -> sa.Select[Any]:
    """Return the query for the session that has been over for longest.

    A session is over when it was closed. One whose holder went away and that nobody resumed is over when its machines
    were heard last. One of a person goes on until it is closed.

    Args:
        before: It was over before this time.
        alive: Sessions that the lab still has in memory.
    """
    own, run, attempt = schema.sessions.c, schema.runs.c, schema.attempts.c
    heard = (
        sa.select(sa.literal(1))
        .select_from(schema.runs.join(schema.attempts, attempt.run == run.id))
        .where(run.session == own.id, attempt.heard >= before)
    )
    left_alone = sa.and_(
        own.closed.is_(None), own.lease != str(LeaseKind.DETACHED), own.opened < before, sa.not_(heard.exists())
    )
    query = sa.select(own.id).where(sa.or_(own.closed < before, left_alone), own.id.not_in(alive))
    return query.order_by(own.opened, own.id).limit(1)


def runs_of(session: str, most: int) -> sa.Select[Any]:
    """Return the query for the ids of the first runs of a session."""
    own = schema.runs.c
    return sa.select(own.id).where(own.session == session).order_by(own.position, own.id).limit(most)


def deletions(old: OldRuns) -> list[Gone]:
    """Return what deletes these runs with all that belongs to them, and the session with its last run.

    Issues that are still to be filed stay, since they need nothing else. Statistics by series stay.
    """
    if old.runs:
        found = [Gone(table.c.run, old.runs) for table in schema.OF_RUNS]
        found += [Gone(schema.holds.c.name, old.runs, schema.holds.c.what == _RUN), Gone(schema.runs.c.id, old.runs)]
    else:
        found = []
    if old.last:
        box = schema.issues.c
        through = sa.or_(box.url != _NOTHING, box.given_up.is_(True))
        found += [Gone(box.session, (old.session,), through), Gone(schema.sessions.c.id, (old.session,))]
    return found


def console_deletion(last: int) -> Deletion:
    """Return what deletes the console pieces up to a place."""
    return Expired(schema.console.c.id, last + 1)


def emptied(runs: Collection[str]) -> list[Deletion]:
    """Return what empties the long texts of reports of these runs; titles, cases and outcomes stay."""
    said, cases = schema.reports.c, schema.cases.c
    return [
        Emptied(said.run, tuple(runs), (said.body, said.junit, said.tap)),
        Emptied(cases.run, tuple(runs), (cases.message,)),
    ]


def machine_gone(machine: str) -> list[Deletion]:
    """Return what deletes all that is kept of a machine, besides its runs."""
    names, of_machine = (stored(machine),), schema.holds.c.what == sa.literal_column("'machine'")
    return [
        Gone(schema.machines.c.id, names),
        Gone(schema.identities.c.machine, names),
        Gone(schema.health.c.machine, names),
        Gone(schema.holds.c.name, names, of_machine),
    ]
