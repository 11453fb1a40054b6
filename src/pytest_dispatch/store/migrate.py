"""Bring a journal of an older version up to today's, by Alembic; all of it, or nothing.

`dispatch_meta` says of which version a journal is. Alembic's own table is there while it works, and no longer: so a
journal that is made anew needs no Alembic.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.journal_lock import held
from pytest_dispatch.store.version import version_of

#: Of Alembic: which migration the journal has come to. Their names are the versions that they lead to.
ALEMBIC_TABLE = "dispatch_alembic"


def migrate(db: Path | str) -> int:
    """Bring a journal up to today's version, if it is older.

    Args:
        db: A file, or an SQLAlchemy URL (`postgresql+psycopg://…`).

    Returns:
        The version that it was of.

    Raises:
        JournalError: There is none; or it is in use, of a newer version, or cannot be read or written.
    """
    database = Database(db)
    if database.file is not None and not database.file.is_file():
        raise database.error("expected a journal, found no file")
    try:
        with database.errors("open"), held(database):
            found = version_of(database)
            if found is None:
                raise database.error("expected a journal, found an empty database")
            if found < schema.VERSION:
                bring_up(database, found)
            return found
    finally:
        database.engine.dispose()


def bring_up(database: Database, found: int) -> None:
    """Bring a journal up to today's version. Nobody else may have it open.

    Args:
        database: Where it is.
        found: The version that it is of.

    Raises:
        JournalError: What is in it cannot be read; it is left as it was.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with database.errors("upgrade"), database.engine.begin() as db:
        if database.file is not None:
            db.exec_driver_sql("BEGIN")  # the driver begins by itself only before it writes rows
        config.attributes["connection"] = db
        command.stamp(config, str(found), purge=True)
        command.upgrade(config, "head")
        db.execute(sa.update(schema.meta).values(version=schema.VERSION))
        db.exec_driver_sql(f"DROP TABLE {ALEMBIC_TABLE}")
