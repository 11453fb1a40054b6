"""Reads from the journal what a machine did. Each read blocks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.machine_past import Ended, MachinePast, Visit
from pytest_dispatch.core.model import Outcome, Phase
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import without_index

VISITS = 300  # latest attempts of a machine that are read
ENDED = 2000  # latest runs of a machine that are read

_own, _placed, _run = schema.history.c, schema.placements.c, schema.runs.c
_attempt, _moment = schema.attempts.c, schema.moments.c


class MachineReader:
    """Queries of what a machine did. Each method may raise a JournalError.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def past(self, machine: str, visited: float, ended: float, groups: frozenset[str] | None) -> MachinePast:
        """Return what a machine did.

        Args:
            machine: Its id.
            visited: Attempts that were over before this time are left out.
            ended: Runs that ended before this time are left out.
            groups: Only runs of these groups count; None for all.
        """
        with self._database.errors("read"):
            visits = [each for row in self._visits(machine, groups) if _overlaps(each := _visit(row), visited)]
            rows = self._ended(machine, ended, groups)
            return MachinePast(visits=visits, ended=[_ended(row) for row in rows[:ENDED]], whole=len(rows) <= ENDED)

    def _visits(self, machine: str, groups: frozenset[str] | None) -> list[Any]:
        """Return the latest placements on a machine, with the last moment of their attempts."""
        within = [] if groups is None else [_run.in_group.in_(sorted(map(stored, groups)))]
        last = (_moment.run == _placed.run, _moment.attempt == _placed.attempt, _moment.number == _attempt.moments)
        query = (
            sa.select(
                _placed.run,
                _placed.attempt,
                _placed.at.label("began"),
                _run.name,
                _attempt.outcome,
                _moment.phase,
                _moment.at.label("last"),
            )
            .join(schema.runs, _run.id == _placed.run)
            .join(schema.attempts, sa.and_(_attempt.run == _placed.run, _attempt.number == _placed.attempt))
            .join(schema.moments, sa.and_(*last))
            .where(_placed.machine == stored(machine), *within)
            .order_by(_placed.at.desc())
            .limit(VISITS)
        )
        return self._all(query)

    def _ended(self, machine: str, since: float, groups: frozenset[str] | None) -> list[Any]:
        """Return the latest runs that ended on a machine; its index has their outcome before their place."""
        group = without_index(_own.in_group, self._database.engine.dialect.name)
        within = [] if groups is None else [group.in_(sorted(map(stored, groups)))]
        query = (
            sa.select(_own.name, _own.outcome, _own.ended, _own.seconds)
            .where(_own.machine == stored(machine), _own.outcome.in_(list(map(str, Outcome))))
            .where(_own.id >= int(since * 1_000_000), *within)
            .order_by(_own.id.desc())
            .limit(ENDED + 1)
        )
        return self._all(query)

    def _all(self, query: sa.Select[Any]) -> list[Any]:
        with self._database.engine.connect() as db:
            return list(db.execute(query).mappings().all())


def _visit(row: Any) -> Visit:
    return Visit(
        run=row["run"],
        name=restored(row["name"]),
        attempt=row["attempt"],
        began=row["began"],
        ended=row["last"] if row["phase"] == str(Phase.OVER) else None,
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )


def _overlaps(visit: Visit, since: float) -> bool:
    return visit.ended is None or visit.ended >= since


def _ended(row: Any) -> Ended:
    return Ended(
        name=restored(row["name"]), outcome=Outcome(row["outcome"]), ended=row["ended"], seconds=row["seconds"]
    )
