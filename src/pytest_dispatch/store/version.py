"""Reads the version of a journal's tables."""

from __future__ import annotations

import sqlalchemy as sa

from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database


def version_of(database: Database) -> int | None:
    """Return the version of a journal's tables, at most the current one; None if there are none. Change nothing.

    Raises:
        JournalError: It is of a newer version, or is not a journal.
        sqlalchemy.exc.SQLAlchemyError: It cannot be read.
    """
    with database.engine.connect() as db:
        tables = sa.inspect(db).get_table_names()
        known = schema.meta.name in tables
        version = db.scalar(sa.select(schema.meta.c.version)) if known else None
    if version is not None and version > schema.VERSION:
        raise database.error(
            f"expected version {schema.VERSION} or an older one, found {version}; use the pytest-dispatch that made it,"
            " or another file with --dispatch-db"
        )
    if tables and not known and database.file is not None:
        found = f"a database with the table {tables[0]}"
        raise database.error(f"expected a journal, found {found}; use another file with --dispatch-db")
    return version
