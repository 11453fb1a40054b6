"""`dispatch version`: which release of pytest-dispatch this is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def version(words: Sequence[str]) -> int:
    """Print the version."""
    from importlib.metadata import version

    parser = Parser(prog="dispatch version", description="Show the version of pytest-dispatch.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="for programs: as JSON")
    number = version("pytest-dispatch")
    print(f'{{"version": "{number}"}}' if parser.parse_args(words).json else f"pytest-dispatch {number}")
    return 0
