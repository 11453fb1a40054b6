"""Upgrades a journal of an older version by Alembic, completely or not at all.

`dispatch_meta` has the version of a journal. Alembic's own table exists only during an upgrade, so a new journal needs
no Alembic.
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

#: Alembic's table with the current migration. Migrations are named by the version that they lead to.
ALEMBIC_TABLE = "dispatch_alembic"


def migrate(db: Path | str) -> int:
    """Upgrade a journal to the current version, if it is older.

    Args:
        db: A file, or an SQLAlchemy URL (`postgresql+psycopg://…`).

    Returns:
        The version that it had.

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
    """Upgrade a journal to the current version. It must not be open elsewhere.

    Args:
        database: The journal's location.
        found: Its version.

    Raises:
        JournalError: Its content cannot be read; it is unchanged.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with database.errors("upgrade"), database.engine.begin() as db:
        if database.file is not None:
            db.exec_driver_sql("BEGIN")  # otherwise the driver begins a transaction only before it writes rows
        config.attributes["connection"] = db
        command.stamp(config, str(found), purge=True)
        command.upgrade(config, "head")
        db.execute(sa.update(schema.meta).values(version=schema.VERSION))
        db.exec_driver_sql(f"DROP TABLE {ALEMBIC_TABLE}")
