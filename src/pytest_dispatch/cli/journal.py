"""`dispatch migrate`, `dispatch backup` and `dispatch restore`: maintain the journal of a lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.cli.serve_options import OPTIONS, read_db, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence


def migrate(words: Sequence[str]) -> int:
    """Upgrade a journal."""
    description = "Upgrade a journal of an older version; a lab also does this when it opens one."
    db = read_db(_parser("migrate", description).parse_args(words).db)
    from pytest_dispatch.store.migrate import migrate
    from pytest_dispatch.store.schema import VERSION

    found = migrate(db)
    now = f", now it is of version {VERSION}" if found != VERSION else ", which is current"
    print(f"dispatch: the journal {db} was of version {found}{now}")
    return 0


def backup(words: Sequence[str]) -> int:
    """Copy a journal."""
    description = "Copy a journal that is a file, also while a lab writes it."
    given = _parser("backup", description, "the file to create").parse_args(words)
    from pytest_dispatch.store.backup import backup

    db, file = read_db(given.db), read_file("FILE", given.file)
    backup(db, file)
    print(f"dispatch: the journal {db} is copied to {file}")
    return 0


def restore(words: Sequence[str]) -> int:
    """Replace a journal by a copy."""
    description = "Replace a journal by a copy, and keep the old journal beside it."
    given = _parser("restore", description, "a copy that `dispatch backup` made").parse_args(words)
    from pytest_dispatch.store.backup import restore

    db, file = read_db(given.db), read_file("FILE", given.file)
    kept = restore(db, file)
    print(f"dispatch: the journal {db} is again as in {file}" + (f"; what it was is kept as {kept}" if kept else ""))
    return 0


def _parser(name: str, description: str, file: str = "") -> Parser:
    parser = Parser(prog=f"dispatch {name}", description=description, allow_abbrev=False)
    fill(parser)
    if file:
        parser.add_argument("file", metavar="FILE", help=file)
    return parser


def fill(parser: Parser) -> None:
    """Add the option that these commands have to a parser."""
    [journal] = [option for option in OPTIONS if option.name == "db"]
    parser.add_argument("--db", metavar=journal.metavar, help=journal.help, default="")
