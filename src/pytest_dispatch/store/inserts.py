"""Writes rows to the database: prepared statements, one connection that is kept, one transaction at a time.

SQLAlchemy makes only the statements and the connection; rows go to the driver by its own cursor (PEP 249, the same for
every driver). SQLAlchemy's execution, commit and connection pool take several times as long as SQLite needs for a few
rows, and the lab, in the same process, waits meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from pytest_dispatch.store import schema
from pytest_dispatch.store.row_writing import Row

#: Tables that only grow; in all others, writing a row replaces the row with the same key.
_GROWING = {schema.console, schema.served, schema.audit}

#: Tables whose values are counts; writing a row adds to the row with the same key.
_COUNTING = {schema.series}

#: Tables whose rows are told apart by something else than their primary key.
_KEYS = {schema.history: ["run"]}

#: Tables in which the first row of a key stays: a repeated report changes nothing.
_ONCE = {schema.reports: ["run", "attempt", "digest"], schema.cases: ["run", "attempt", "report", "number"]}


@dataclass(frozen=True, slots=True)
class Expired:
    """Rows to delete, in place of a row to write.

    Attributes:
        column: A time; rows without one are kept.
        before: The time before which rows are deleted.
    """

    column: sa.Column[Any]
    before: float


@dataclass(frozen=True, slots=True)
class Gone:
    """Rows to delete by a name, in place of a row to write.

    Attributes:
        column: A column of names.
        names: Rows with one of these are deleted.
        only: A further condition on the table's columns, without parameters.
    """

    column: sa.Column[Any]
    names: tuple[str, ...]
    only: sa.ColumnElement[bool] | None = None


@dataclass(frozen=True, slots=True)
class Emptied:
    """Rows of a table whose texts are to be emptied, in place of a row to write.

    Attributes:
        column: A column of names.
        names: Rows with one of these are emptied.
        texts: The columns to empty.
    """

    column: sa.Column[Any]
    names: tuple[str, ...]
    texts: tuple[sa.Column[Any], ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A text that replaces the one in a row, in place of a row to write.

    Attributes:
        column: A column of names.
        name: The row's.
        texts: The column of the text.
        text: The text.
    """

    column: sa.Column[Any]
    name: str
    texts: sa.Column[Any]
    text: str


Deletion = Expired | Gone | Emptied | Replaced


class LostError(Exception):
    """Another lab has written to the database since the last commit."""


class Inserts:
    """Writes rows to one database, from one thread. `close` after use.

    On a server, each commit moves a mark in the database from one batch to the next. If the answer to a commit is lost,
    the same batch is committed again, and the mark tells whether it is there already.

    Args:
        engine: An engine of SQLite or PostgreSQL.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._marks = engine.dialect.name != "sqlite"
        self._lab, self._number = secrets.token_hex(16), 0
        self._engine = engine
        self._inserts: dict[sa.Table, _Statement] = {}
        self._connection: sa.PoolProxiedConnection | None = None

    def commit(self, rows: Iterable[Row | Deletion]) -> None:
        """Write all rows in one transaction, and delete in it, after that, what is to be deleted.

        After an error it may be called again with the same rows, and with no others.

        Raises:
            LostError: Another lab has written since.
            sqlalchemy.exc.SQLAlchemyError: No connection could be made, or no statement for this database.
            Exception: The driver's error in all other cases.
        """
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        tables: dict[sa.Table, list[dict[str, Any]]] = {}
        deletions: list[Deletion] = []
        for each in rows:
            if isinstance(each, (Expired, Gone, Emptied, Replaced)):
                deletions.append(each)
            else:
                tables.setdefault(each[0], []).append(each[1])
        try:
            with closing(self._connection.cursor()) as cursor:
                if self._marks and not self._move_mark(cursor):
                    self._connection.rollback()  # the batch is there already
                else:
                    for table, values in tables.items():
                        self._into(table).run(cursor, values)
                    for each in deletions:
                        _deletion(each, self._engine.dialect).run(cursor, _given(each))
                    self._connection.commit()
        except BaseException:
            self._take_back(self._connection)
            raise
        self._number += 1

    def begin(self, db: sa.Connection) -> None:
        """Set the mark of a lab that has written nothing yet; from now on an earlier lab can write no more."""
        db.execute(sa.delete(schema.writer))
        db.execute(sa.insert(schema.writer).values(batch=self._mark(self._number)))

    def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _mark(self, number: int) -> str:
        return f"{self._lab}:{number}"

    def _move_mark(self, cursor: DBAPICursor) -> bool:
        """Mark this batch as written; return False if it is already.

        Raises:
            LostError: The mark is another lab's.
        """
        table = schema.writer.name
        before, now = self._mark(self._number), self._mark(self._number + 1)
        cursor.execute(f"UPDATE {table} SET batch = '{now}' WHERE batch = '{before}'")  # noqa: S608 - all ours
        if cursor.rowcount == 1:
            return True
        cursor.execute(f"SELECT batch FROM {table}")  # noqa: S608 - all ours
        if [row[0] for row in cursor.fetchall()] != [now]:
            raise LostError
        return False

    def _into(self, table: sa.Table) -> _Statement:
        if table not in self._inserts:
            self._inserts[table] = _insert(table, self._engine.dialect)  # expensive to make
        return self._inserts[table]

    def _take_back(self, connection: sa.PoolProxiedConnection) -> None:
        """Roll back, so that nothing is half-written or locked."""
        try:
            connection.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            connection.invalidate()  # the connection is lost, and its transaction with it
            self._connection = None


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement with the values of a row.

    Attributes:
        sql: The statement, with the driver's placeholders for its values.
        order: The columns in the order of the placeholders; None if the driver takes values by name.
    """

    sql: str
    order: tuple[str, ...] | None

    def run(self, cursor: DBAPICursor, rows: list[dict[str, Any]]) -> None:
        """Execute it for each row. Their values are of types that every driver takes without conversion."""
        values = rows if self.order is None else [[row[name] for name in self.order] for row in rows]
        if len(values) == 1:
            cursor.execute(self.sql, values[0])  # cheaper with some drivers
        else:
            cursor.executemany(self.sql, values)


def _insert(table: sa.Table, dialect: sa.Dialect) -> _Statement:
    given = [column.name for column in table.columns if column is not table.autoincrement_column]
    statement: Any = sa.insert(table) if table in _GROWING else _keyed(table, dialect)
    compiled = statement.inline().compile(dialect=dialect, column_keys=given)  # inline: returns no ids
    order = compiled.positiontup
    return _Statement(str(compiled), None if order is None else tuple(order))


def _deletion(deletion: Deletion, dialect: sa.Dialect) -> _Statement:
    column = deletion.column
    given: sa.BindParameter[Any] = sa.bindparam("given")
    statement: sa.Delete | sa.Update
    if isinstance(deletion, Emptied):
        nothing: sa.ColumnElement[str] = sa.literal_column("''")  # a parameter would be one of each row
        nothings = {text.name: nothing for text in deletion.texts}
        statement = sa.update(column.table).where(column == given).values(nothings)
    elif isinstance(deletion, Replaced):
        fresh: sa.BindParameter[Any] = sa.bindparam("fresh")
        statement = sa.update(column.table).where(column == given).values({deletion.texts.name: fresh})
    else:
        statement = sa.delete(column.table).where(column < given if isinstance(deletion, Expired) else column == given)
    if isinstance(deletion, Gone) and deletion.only is not None:
        statement = statement.where(deletion.only)
    compiled = statement.compile(dialect=dialect)
    order = compiled.positiontup
    return _Statement(str(compiled), None if order is None else tuple(order))


def _given(deletion: Deletion) -> list[dict[str, Any]]:
    if isinstance(deletion, Replaced):
        return [{"given": deletion.name, "fresh": deletion.text}]
    values = (deletion.before,) if isinstance(deletion, Expired) else deletion.names
    return [{"given": value} for value in values]


def _keyed(table: sa.Table, dialect: sa.Dialect) -> Any:
    insert: Any
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # slow to import, and most journals are files
    else:
        from sqlalchemy.dialects.sqlite import insert
    statement = insert(table)
    if table in _ONCE:
        return statement.on_conflict_do_nothing(index_elements=_ONCE[table])
    keys = _KEYS.get(table, [column.name for column in table.primary_key])
    fresh = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    if table in _COUNTING:
        fresh = {name: table.c[name] + value for name, value in fresh.items()}
    return statement.on_conflict_do_update(index_elements=keys, set_=fresh)
