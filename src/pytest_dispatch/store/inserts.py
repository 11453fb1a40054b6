"""Writes rows to the database: prepared statements, one connection that is kept, one transaction at a time.

SQLAlchemy makes only the statements and the connection; rows go to the driver by its own cursor (PEP 249, the same for
every driver). SQLAlchemy's execution, commit and connection pool take several times as long as SQLite needs for a few
rows, and the lab, in the same process, waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from pytest_dispatch.store import schema
from pytest_dispatch.store.row_writing import Row

#: Tables that only grow; in all others, writing a row replaces the row with the same key.
_GROWING = {schema.events, schema.console, schema.served}

#: Tables whose values are counts; writing a row adds to the row with the same key.
_COUNTING = {schema.series}

#: Tables in which the first row of a key stays: a repeated report changes nothing.
_ONCE = {schema.reports: ["run", "attempt", "digest"], schema.cases: ["run", "attempt", "report", "number"]}


class Inserts:
    """Writes rows to one database, from one thread. `close` after use.

    Args:
        engine: An engine of SQLite or PostgreSQL.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._inserts: dict[sa.Table, _Insert] = {}
        self._connection: sa.PoolProxiedConnection | None = None

    def commit(self, rows: Iterable[Row]) -> None:
        """Write all rows in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: No connection could be made, or no statement for this database.
            Exception: The driver's error in all other cases.
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
        """Release the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _into(self, table: sa.Table) -> _Insert:
        if table not in self._inserts:
            self._inserts[table] = _insert(table, self._engine.dialect)  # expensive to make
        return self._inserts[table]

    def _take_back(self, connection: sa.PoolProxiedConnection) -> None:
        """Roll back, so that nothing is half-written or locked."""
        try:
            connection.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            connection.invalidate()  # the connection is lost, and its transaction with it


@dataclass(frozen=True, slots=True)
class _Insert:
    """The statement that writes a row to a table.

    Attributes:
        sql: The statement, with the driver's placeholders for its values.
        order: The columns in the order of the placeholders; None if the driver takes values by name.
    """

    sql: str
    order: tuple[str, ...] | None

    def run(self, cursor: DBAPICursor, rows: list[dict[str, Any]]) -> None:
        """Write rows. Their values are of types that every driver takes without conversion."""
        values = rows if self.order is None else [[row[name] for name in self.order] for row in rows]
        if len(values) == 1:
            cursor.execute(self.sql, values[0])  # cheaper with some drivers
        else:
            cursor.executemany(self.sql, values)


def _insert(table: sa.Table, dialect: sa.Dialect) -> _Insert:
    given = [column.name for column in table.columns if column is not table.autoincrement_column]
    statement: Any = sa.insert(table) if table in _GROWING else _keyed(table, dialect)
    compiled = statement.inline().compile(dialect=dialect, column_keys=given)  # inline: returns no ids
    order = compiled.positiontup
    return _Insert(str(compiled), None if order is None else tuple(order))


def _keyed(table: sa.Table, dialect: sa.Dialect) -> Any:
    insert: Any
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # slow to import, and most journals are files
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
