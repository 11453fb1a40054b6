"""Version 1 of the journal, the start of all migrations."""

from __future__ import annotations

revision = "1"
down_revision = None


def upgrade() -> None:
    """Do nothing: the journal has this version already."""
