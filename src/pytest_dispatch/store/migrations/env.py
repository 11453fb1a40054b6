"""The environment in which Alembic runs the migrations: the connection of `migrate`, and its transaction."""

from __future__ import annotations

from alembic import context

from pytest_dispatch.store.migrate import ALEMBIC_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=ALEMBIC_TABLE, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
