"""Reads the latest runs of many workloads, by one query for each: as many of each outcome, and the latest of these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.regression import project_of
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import without_index
from pytest_dispatch.store.history_rows import ended_of

_own = schema.history.c

_NAME: sa.BindParameter[str] = sa.bindparam("name", type_=sa.String)
_KIND: sa.BindParameter[str] = sa.bindparam("kind", type_=sa.String)
_GROUP: sa.BindParameter[str] = sa.bindparam("group", type_=sa.String)
_PROJECT: sa.BindParameter[str] = sa.bindparam("project", type_=sa.String)
_RELEASE: sa.BindParameter[str] = sa.bindparam("release", type_=sa.String)  # how the sources of its releases begin


class LatestRuns:
    """Queries of history for many workloads at once. Each method may raise a JournalError.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_sources(self, wanted: Sequence[Series], most: int) -> dict[Series, list[EndedRun]]:
        """Return the latest runs of each workload in all releases of its source, newest first."""
        found = self._read(_of_source(self._dialect, most), [_of(each) for each in wanted])
        return dict(zip(wanted, found, strict=True))

    def of_groups(self, wanted: Sequence[tuple[str, str, str]]) -> list[EndedRun | None]:
        """Return the latest run of each workload, of any source, by kind, group and name; None if it has none."""
        values = [{"kind": kind, "group": stored(group), "name": stored(name)} for kind, group, name in wanted]
        return [next(iter(found), None) for found in self._read(_of_group(self._dialect), values)]

    @property
    def _dialect(self) -> str:
        return self._database.engine.dialect.name

    def _read(self, query: sa.Select[Any], asked: Sequence[dict[str, str]]) -> list[list[EndedRun]]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return [[ended_of(row) for row in db.execute(query, values).mappings()] for values in asked]


def _of(series: Series) -> dict[str, str]:
    project = stored(project_of(series.origin))
    return {"kind": series.kind, "name": stored(series.name), "project": project, "release": f"{project}@"}


# Queries are made once: to make one takes longer than to run it.


@cache
def _of_source(dialect: str, most: int) -> sa.Select[Any]:
    release = sa.func.substr(_own.origin, 1, sa.func.length(_RELEASE)) == _RELEASE
    return _latest(dialect, most, sa.or_(_own.origin == _PROJECT, release))


@cache
def _of_group(dialect: str) -> sa.Select[Any]:
    return _latest(dialect, 1, without_index(_own.in_group, dialect) == _GROUP)


def _latest(dialect: str, most: int, where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    mine = (_own.name == _NAME, without_index(_own.kind, dialect) == _KIND, where)  # the index of names has fewer runs
    parts = (
        sa.select(schema.history)
        .where(_own.outcome == str(outcome), *mine)
        .order_by(_own.id.desc())
        .limit(most)
        .subquery()
        for outcome in Outcome
    )
    every = sa.union_all(*map(sa.select, parts)).subquery()
    return sa.select(every).order_by(every.c.id.desc()).limit(most)
