"""Rows of CSV files (RFC 4180) that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pytest_dispatch.core.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: With what a cell begins that a spreadsheet may take for a formula: in ASCII, and in full width.
_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Likewise, though they are blanks.
_BLANKS = ("\t", "\r", "\n")


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of a CSV file. Texts are made harmless; an empty cell stands for None."""
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows([_cell(each) for each in row] for row in rows)
    return lines.getvalue()


def _cell(value: object) -> object:
    """Return a cell: a text that could be a formula begins with an apostrophe, which makes it a text."""
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(_BLANKS) or (text := plain(value)).lstrip().startswith(_FORMULAS)
    return f"'{plain(value)}" if is_formula else text
