"""What earlier sessions left in a journal: read before the lab starts, or when a session is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa

from pytest_dispatch.core.model import Report, Run
from pytest_dispatch.shapes import decode
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.rows import Letter, SessionRecord, Upgrade, read_run

T = TypeVar("T")


class Reader:
    """A journal as far as it can be read. Each of its methods may raise a JournalError."""

    def __init__(self, database: Database, upgrade: Upgrade) -> None:
        self._database = database
        self._upgrade = upgrade

    def last_unfinished(self, source: str, owner: str = "") -> SessionRecord | None:
        """The owner's newest session of this source, if it was not closed; one without any run does not count."""
        own = schema.sessions.c
        query = (
            sa.select(own.record, own.closed)
            .where(own.source == source, sa.exists().where(schema.runs.c.session == own.id))
            .order_by(own.opened.desc(), own.id)
        )
        found = ((self._decoded(record, SessionRecord), closed) for record, closed in self._all(query))
        newest = next(((record, closed) for record, closed in found if record.owner == owner), (None, None))
        return None if newest[1] else newest[0]

    def runs(self, session: str) -> list[Run]:
        """The session's runs with their reports, in the order in which they were asked for."""
        own, said = schema.runs.c, schema.reports.c
        reports: dict[tuple[str, int], list[Report]] = {}
        of_session = sa.select(said.run, said.attempt, said.record).join(schema.runs, own.id == said.run)
        for run, attempt, record in self._all(of_session.where(own.session == session).order_by(said.id)):
            reports.setdefault((run, attempt), []).append(self._decoded(record, Report))
        rows = self._all(sa.select(own.record).where(own.session == session))
        runs = [_with_reports(self._run(row[0]), reports) for row in rows]
        return sorted(runs, key=lambda run: run.position)

    def served(self, session: str) -> dict[str, str]:
        """The digest of the bytes that were served last, for each run of a session."""
        rows = schema.served.c
        query = sa.select(rows.run, rows.digest).join(schema.runs, schema.runs.c.id == rows.run)
        found = self._all(query.where(schema.runs.c.session == session).order_by(rows.id))
        return {row.run: row.digest for row in found}

    def console(self, session: str, most: int) -> list[tuple[str, int, float, str]]:
        """What machines showed during a session: run, attempt, time and text, the last so many lines, in order."""
        rows = schema.console.c
        query = sa.select(rows.run, rows.attempt, rows.at, rows.text).join(schema.runs, schema.runs.c.id == rows.run)
        newest = query.where(schema.runs.c.session == session).order_by(rows.id.desc()).limit(most)
        return [tuple(row) for row in reversed(self._all(newest))]

    def letters(self) -> list[Letter]:
        """Issues that are still to be filed, of this session or an earlier one."""
        box = schema.outbox.c
        kept = sa.and_(box.url == "", box.given_up.is_(False))
        rows = self._all(sa.select(box.record).where(kept).order_by(box.marker))
        return [self._decoded(row[0], Letter) for row in rows]

    def filed(self, session: str) -> dict[str, list[str]]:
        """URLs of the issues filed for each run of a session."""
        box = schema.outbox.c
        query = sa.select(box.run, box.url).where(box.session == session, box.url != "").order_by(box.marker)
        urls: dict[str, list[str]] = {}
        for run, url in self._all(query):
            urls.setdefault(run, []).append(url)
        return urls

    def _all(self, query: Any) -> Sequence[Any]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return db.execute(query).all()

    def _run(self, record: bytes) -> Run:
        with self._database.errors("read"):
            return read_run(record, self._upgrade)

    def _decoded(self, record: bytes, shape: type[T]) -> T:
        with self._database.errors("read"):
            return decode(record, shape)


def _with_reports(run: Run, reports: dict[tuple[str, int], list[Report]]) -> Run:
    attempts = tuple(replace(a, reports=tuple(reports.get((run.id, a.number), ()))) for a in run.attempts)
    return replace(run, attempts=attempts)
