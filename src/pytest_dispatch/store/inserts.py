"""Rows on their way into the database: statements made once, one connection that is kept, one transaction at a time.

Theory of operation: SQLAlchemy makes the statements and the connection, and nothing more: rows go to the driver by its
own cursor (PEP 249, the same for every driver). What SQLAlchemy does to execute, to commit, and to lend a connection
takes several times as long as SQLite needs for a handful of rows, and the lab, in the same process, waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from pytest_dispatch.store import schema
from pytest_dispatch.store.rows import Row

#: Tables that only grow; in all others a row that is written again replaces the one of the same key.
_GROWING = {schema.events, schema.console, schema.served}

#: Tables whose rows count something: what comes again is added.
_COUNTING = {schema.series}

#: Tables in which the first row of a key stays: a report that comes again changes nothing.
_ONCE = {schema.reports: ["run", "attempt", "digest"], schema.cases: ["run", "attempt", "report", "number"]}


class Inserts:
    """Writes rows into one database, from one thread. `close` after.

    Args:
        engine: Of SQLite or PostgreSQL.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._inserts: dict[sa.Table, _Insert] = {}
        self._connection: sa.PoolProxiedConnection | None = None

    def commit(self, rows: Iterable[Row]) -> None:
        """Write all of them, or none.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: There is no connection to be had, or no statement for this database.
            Exception: The driver's, for all else.
        """
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        tables: dict[sa.Table, list[dict[str, Any]]] = {}
        for table, row in rows:
            tables.setdefault(table, []).append(row)
        try:
            with closing(self._connection.cursor()) as cursor:
                for table, values in tables.items():
                    self._into(table).run(cursor, values)
            self._connection.commit()
        except BaseException:
            self._take_back(self._connection)
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _into(self, table: sa.Table) -> _Insert:
        if table not in self._inserts:
            self._inserts[table] = _insert(table, self._engine.dialect)  # dear to make
        return self._inserts[table]

    def _take_back(self, connection: sa.PoolProxiedConnection) -> None:
        """Leave nothing half-written, and nothing locked."""
        try:
            connection.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            connection.invalidate()  # it is lost, and with it what was begun


@dataclass(frozen=True, slots=True)
class _Insert:
    """How a row gets into a table.

    Attributes:
        sql: With places for its values, as the driver has them.
        order: Of the columns whose values go there; None if the driver knows them by name.
    """

    sql: str
    order: tuple[str, ...] | None

    def run(self, cursor: DBAPICursor, rows: list[dict[str, Any]]) -> None:
        """Write these rows. All that is in them is of types that every driver takes as they are."""
        values = rows if self.order is None else [[row[name] for name in self.order] for row in rows]
        if len(values) == 1:
            cursor.execute(self.sql, values[0])  # which costs some drivers less
        else:
            cursor.executemany(self.sql, values)


def _insert(table: sa.Table, dialect: sa.Dialect) -> _Insert:
    given = [column.name for column in table.columns if column is not table.autoincrement_column]
    statement: Any = sa.insert(table) if table in _GROWING else _keyed(table, dialect)
    compiled = statement.inline().compile(dialect=dialect, column_keys=given)  # inline: asks for no ids back
    order = compiled.positiontup
    return _Insert(str(compiled), None if order is None else tuple(order))


def _keyed(table: sa.Table, dialect: sa.Dialect) -> Any:
    insert: Any
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # dear to import, and most journals are files
    else:
        from sqlalchemy.dialects.sqlite import insert
    statement = insert(table)
    if table in _ONCE:
        return statement.on_conflict_do_nothing(index_elements=_ONCE[table])
    keys = [column.name for column in table.primary_key]
    fresh = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    if table in _COUNTING:
        fresh = {name: table.c[name] + value for name, value in fresh.items()}
    return statement.on_conflict_do_update(index_elements=keys, set_=fresh)
