"""Reads from history what charts show. Each read blocks.

Outcomes are counted in an index alone. What no index has is read of the latest runs only: of so many in each slot, or
of so many in the whole time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.model import Outcome, Phase
from pytest_dispatch.core.trends import Flaky, MachineUse, RunsOf, Span, Stay, Trends, state_times, waits_of
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import without_index

OF_SLOTS = 1200  # runs whose moments are read, of all slots together
USED = 20_000  # latest runs of which the use of machines is counted
FLAKY = 5000  # latest flaky runs that are counted
MOST_FLAKY = 10  # workloads
AT_ONCE = 400  # runs in a query

_own, _moment = schema.history.c, schema.moments.c
Clause = sa.ColumnElement[bool]


class TrendReader:
    """Queries of history for charts. Each method may raise a JournalError.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def trends(self, span: Span, now: float, groups: frozenset[str] | None) -> Trends:
        """Return what charts show of a time.

        Args:
            span: The time.
            now: The time now, in seconds since 1970.
            groups: Only runs of these groups count; None for all.
        """
        within = self._within(groups)
        with self._database.errors("read"), self._database.engine.connect() as db:
            slots = _latest(db, span, within)
            stays = _stays(db, [run for slot in slots for run in slot])
            machines, used_since = _machines(db, span, now, within)
            return Trends(
                span=span,
                outcomes=_outcomes(db, span, groups),
                waits=waits_of(stays, slots),
                looked_at=sum(map(len, slots)),
                machines=machines,
                used_since=used_since,
                states=state_times(stays),
                flaky=_flaky(db, span, within),
            )

    def outcomes(self, span: Span, groups: frozenset[str] | None) -> list[Mapping[Outcome, int]]:
        """Return the number of runs of each slot by outcome."""
        with self._database.errors("read"), self._database.engine.connect() as db:
            return _outcomes(db, span, groups)

    def counted(self, wanted: Sequence[RunsOf], since: float, most: int) -> list[Mapping[Outcome, int]]:
        """Return how many runs ended how since a time, of each of these; at most so many of each outcome."""
        dialect, first = self._database.engine.dialect.name, int(since * 1_000_000)
        with self._database.errors("read"), self._database.engine.connect() as db:
            counts = [{each: _count(db, dialect, one, each, first, most) for each in Outcome} for one in wanted]
        return [{outcome: count for outcome, count in each.items() if count} for each in counts]

    def _within(self, groups: frozenset[str] | None) -> list[Clause]:
        """Return the condition of the groups, for which SQLite looks into no index: the order of history has it."""
        if groups is None:
            return []
        column = without_index(_own.in_group, self._database.engine.dialect.name)
        return [column.in_(sorted(map(stored, groups)))]


def _count(db: sa.Connection, dialect: str, wanted: RunsOf, outcome: Outcome, first: int, most: int) -> int:
    """Count in the index of names, in which the runs of an outcome are in their order."""
    kind, group = (without_index(column, dialect) for column in (_own.kind, _own.in_group))
    found = (
        sa.select(_own.id)
        .where(_own.name == stored(wanted.name), _own.outcome == str(outcome), _own.id >= first)
        .where(kind == wanted.kind, group == stored(wanted.group))
        .limit(most)
        .subquery()
    )
    [row] = _all(db, sa.select(sa.func.count().label("count")).select_from(found))
    return int(row["count"])


def _outcomes(db: sa.Connection, span: Span, groups: frozenset[str] | None) -> list[Mapping[Outcome, int]]:
    within = [] if groups is None else [_own.in_group.in_(sorted(map(stored, groups)))]
    start, width = span.first * 1_000_000, span.width * 1_000_000
    slot = ((_own.id - start) // width).label("slot")
    query = (
        sa.select(slot, _own.outcome, sa.func.count().label("count"))
        .where(_own.outcome.in_(list(map(str, Outcome))), *within, _own.id >= start)
        .group_by("slot", _own.outcome)
    )
    found: list[dict[Outcome, int]] = [{} for _ in range(span.slots)]
    for row in _all(db, query):
        if 0 <= row["slot"] < span.slots:
            found[row["slot"]][Outcome(row["outcome"])] = row["count"]
    return [*found]


def _latest(db: sa.Connection, span: Span, within: Sequence[Clause]) -> list[list[str]]:
    """Return the latest runs of each slot."""
    found, most = [], OF_SLOTS // span.slots
    for begin in span.begins:
        between = (_own.id >= begin * 1_000_000, _own.id < (begin + span.width) * 1_000_000)
        query = sa.select(_own.run).where(*between, *within).order_by(_own.id.desc()).limit(most)
        found.append([row["run"] for row in _all(db, query)])
    return found


def _stays(db: sa.Connection, runs: Sequence[str]) -> dict[str, list[Stay]]:
    """Return the moments of runs, in order."""
    found: dict[str, list[Stay]] = {}
    order = (_moment.run, _moment.attempt, _moment.number)
    columns = (_moment.run, _moment.attempt, _moment.state, _moment.phase, _moment.at)
    for first in range(0, len(runs), AT_ONCE):
        query = sa.select(*columns).where(_moment.run.in_(runs[first : first + AT_ONCE])).order_by(*order)
        for row in _all(db, query):
            stay = Stay(**{**row, "phase": Phase(row["phase"])})
            found.setdefault(stay.run, []).append(stay)
    return found


def _machines(db: sa.Connection, span: Span, now: float, within: Sequence[Clause]) -> tuple[list[MachineUse], float]:
    """Return the use of machines, and from when on it is counted: as far as the latest runs reach."""
    columns = (_own.machine, _own.seconds, _own.ended)
    where = (_own.id >= span.first * 1_000_000, *within)
    latest = sa.select(*columns).where(*where).order_by(_own.id.desc()).limit(USED).subquery().c
    query = sa.select(
        latest.machine,
        sa.func.sum(sa.func.coalesce(latest.seconds, 0.0)).label("busy"),
        sa.func.count().label("runs"),
        sa.func.min(latest.ended).label("first"),
    ).group_by(latest.machine)
    rows = _all(db, query)
    whole = sum(row["runs"] for row in rows) < USED
    since = float(span.first) if whole else min(row["first"] for row in rows)
    seconds = max(now - since, 1.0)
    found = [
        MachineUse(machine=restored(row["machine"]), share=min(1.0, row["busy"] / seconds), runs=row["runs"])
        for row in rows
        if row["machine"]
    ]
    return sorted(found, key=lambda each: (-each.share, each.machine)), since


def _flaky(db: sa.Connection, span: Span, within: Sequence[Clause]) -> list[Flaky]:
    since = _own.id >= span.first * 1_000_000
    where = (_own.flaky, since, *within)
    latest = sa.select(_own.name).where(*where).order_by(_own.id.desc()).limit(FLAKY).subquery().c
    count = sa.func.count().label("count")
    query = sa.select(latest.name, count).group_by(latest.name).order_by(count.desc(), latest.name)
    rows = _all(db, query.limit(MOST_FLAKY))
    return [
        Flaky(name=restored(row["name"]), flaky=row["count"], passed=_passed(db, row["name"], since, within))
        for row in rows
    ]


def _passed(db: sa.Connection, name: str, since: Clause, within: Sequence[Clause]) -> int:
    passed = (_own.name == name, _own.outcome == str(Outcome.PASSED), since, *within)
    [row] = _all(db, sa.select(sa.func.count().label("count")).select_from(schema.history).where(*passed))
    return int(row["count"])


def _all(db: sa.Connection, query: sa.Select[Any]) -> Sequence[Any]:
    return db.execute(query).mappings().all()
