"""Pages as aligned text without colours, for pipes and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.page import Facts, Sentence, Table
from pytest_dispatch.core.plain_text import plain_line, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_dispatch.cli.page import Block

WIDEST = 60  # characters of a column that is not the last
LONGEST = 1000  # characters of the last one


def plain_text(page: Sequence[Block]) -> str:
    """Return a page as text; blocks are a blank line apart."""
    return "\n\n".join("\n".join(_lines(block)) for block in page)


def _lines(block: Block) -> Iterable[str]:
    match block:
        case Sentence():
            return shown(block.text).splitlines() or [""]
        case Facts():
            return _aligned([(name, cell.text) for name, cell in block.rows])
        case Table() if block.rows:
            heads = tuple(column.head for column in block.columns)
            rows = [tuple(cell.text for cell in row) for row in block.rows]
            return _aligned([heads, *rows], tuple(column.right for column in block.columns))
        case Table():
            return [block.empty]


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    cut = [[plain_line(text, WIDEST) for text in row[:-1]] + [plain_line(row[-1], LONGEST)] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cut, strict=True)]
    flush = right or [False] * len(widths)
    return ["  ".join(map(_padded, row, widths, flush)).rstrip() for row in cut]


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _width(text: str) -> int:
    """Return how many columns a text takes; wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
