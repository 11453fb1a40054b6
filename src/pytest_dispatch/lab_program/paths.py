"""Where a service keeps what it knows, unless it is told another place."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path

NAME = "pytest-dispatch"


def data_folder() -> Path:
    """Return the folder for a lab's journal and its token: of the user, in the data directory of the system's rules."""
    return user_data_path(NAME)


def default_journal() -> Path:
    """Return the file of a journal that is given no other place."""
    return data_folder() / "lab.db"


def token_file(db: str) -> Path:
    """Return the file for the token of the API: beside a journal that is a file, else in the user's data."""
    return data_folder() / "token" if "://" in db else Path(f"{db}.token")


def token_files() -> tuple[Path, Path]:
    """Return where a lab's token is if nobody says anything of it: with a file as its journal, and with a database."""
    return token_file(str(default_journal())), token_file("postgresql://")
