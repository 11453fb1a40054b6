"""Rows of CSV files (RFC 4180) that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from pytest_dispatch.core.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: With what a cell begins that a spreadsheet may take for a formula: in ASCII, and in full width.
_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Likewise, though they are blanks.
_BLANKS = ("\t", "\r", "\n")
#: Where a cell may begin inside a text for a spreadsheet that separates by another sign than a comma, as many do.
_INSIDE = re.compile(rf"([;\t\n|])(?=[\s\"]*[{re.escape(''.join(_FORMULAS))}])")


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines of a CSV file. Texts are made harmless; an empty cell stands for None."""
    lines = io.StringIO(newline="")
    csv.writer(lines, quoting=csv.QUOTE_ALL).writerows([_cell(each) for each in row] for row in rows)
    return lines.getvalue()


def _cell(value: object) -> object:
    """Return a cell: what could be a formula begins with an apostrophe, which makes it a text."""
    if not isinstance(value, str):
        return value
    text = _INSIDE.sub(r"\1'", plain(value))
    is_formula = value.startswith(_BLANKS) or text.lstrip().startswith(_FORMULAS)
    return f"'{text}" if is_formula else text
