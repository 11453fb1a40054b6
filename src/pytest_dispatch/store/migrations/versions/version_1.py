"""Version 1 of the journal: where migrations begin."""

from __future__ import annotations

revision = "1"
down_revision = None


def upgrade() -> None:
    """Do nothing: what is there is of this version."""
