"""Reads what the journal has about issues: those that were filed, links of runs, and failures that may come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.row_reading import failure_of, link_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pytest_dispatch.core.known_issues import Failure, IssueLink

FAILURES = 100_000  # most that a lab remembers; of older ones, links are not carried over


class IssueReader:
    """Queries of a journal. Each method may raise a JournalError.

    Args:
        database: Where the journal is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def filed(self, session: str) -> dict[str, list[str]]:
        """Return the URLs of the issues filed for each run of a session."""
        box = schema.issues.c
        query = sa.select(box.run, box.url).where(box.session == session, box.url != "").order_by(box.marker)
        urls: dict[str, list[str]] = {}
        for row in self._all(query):
            urls.setdefault(row["run"], []).append(row["url"])
        return urls

    def links(self, session: str) -> dict[str, tuple[IssueLink, ...]]:
        """Return the links of a session's runs to issues."""
        of = sa.select(schema.runs.c.id).where(schema.runs.c.session == session)
        return self._links(schema.links.c.run.in_(of))

    def links_of(self, run: str) -> tuple[IssueLink, ...]:
        """Return the links of a run to issues."""
        return self._links(schema.links.c.run == run).get(run, ())

    def failures(self) -> list[Failure]:
        """Return the failures that runs may have again, the latest `FAILURES` of them."""
        own = schema.failures.c
        query = sa.select(schema.failures).where(own.remembered.is_(True)).order_by(own.last.desc()).limit(FAILURES)
        rows = self._all(query)
        with self._database.errors("read"):
            return [failure_of(row) for row in rows]

    def _links(self, which: sa.ColumnElement[bool]) -> dict[str, tuple[IssueLink, ...]]:
        own = schema.links.c
        rows = self._all(sa.select(schema.links).where(which, own.active.is_(True)).order_by(own.since, own.url))
        found: dict[str, tuple[IssueLink, ...]] = {}
        with self._database.errors("read"):
            for row in rows:
                found[row["run"]] = (*found.get(row["run"], ()), link_of(row))
        return found

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return db.execute(query).mappings().all()
