"""Pages in colours, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pytest_dispatch.cli.page import Facts, Sentence, Table, Tone
from pytest_dispatch.core.plain_text import plain, plain_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, Group, RenderableType
    from rich.text import Text

    from pytest_dispatch.cli.page import Answer, Block, Cell

LONGEST = 300  # characters of a cell
GAP = 2  # blanks between columns
ROOM = 24  # a text that wraps stands below the others if there is less room for it
INDENT = 4  # of a text that stands below
LEAST = 8  # to which a column is cut on a narrow terminal

STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.GOOD: "green",
    Tone.BUSY: "cyan",
    Tone.HELD: "yellow",
    Tone.BAD: "bold red",
    Tone.QUIET: "dim",
}


def new_console(out: IO[str]) -> Console:
    """Return a console that takes texts as they are: they come from workloads and people."""
    from rich.console import Console

    return Console(file=out, markup=False, emoji=False, highlight=False, soft_wrap=False)


def rendered(page: Sequence[Block], console: Console) -> Group:
    """Return a page that is as wide as a console; blocks are a blank line apart."""
    from rich.console import Group

    return Group(*_parts(page, console))


def _parts(page: Sequence[Block], console: Console) -> Iterator[RenderableType]:
    for number, block in enumerate(page):
        if number:
            yield ""
        match block:
            case Sentence():
                yield _styled(plain(block.text), block.tone)
            case Facts():
                yield _facts(block)
            case Table() if block.rows:
                yield from _rows(block, console)
            case Table():
                yield _styled(block.empty, Tone.QUIET)


def _rows(block: Table, console: Console) -> Iterator[Text]:
    """Yield the lines of a table; texts that wrap stand beside the others, or below them if there is no room."""
    heads = [_styled(column.head, Tone.QUIET) for column in block.columns]
    rows = [[_cell(cell) for cell in row] for row in block.rows]
    beside = [number for number, column in enumerate(block.columns) if not column.wraps]
    said = [any(texts) for texts in zip(*rows, strict=True)]
    wraps = [number for number, column in enumerate(block.columns) if column.wraps and said[number]]
    widths = _widths([[row[number] for number in beside] for row in [heads, *rows]], console.width)
    taken = sum(widths) + GAP * len(widths)
    below = console.width - taken < ROOM
    for row in [heads, *rows]:
        line = _line([row[number] for number in beside], widths, [block.columns[number].right for number in beside])
        texts = [] if below and row is heads else [row[number] for number in wraps]
        yield from _with_wrapped(line, texts, taken, console, below=below)


def _widths(rows: list[list[Text]], room: int) -> list[int]:
    """Return the widths of columns; the widest are cut if there is no room for all."""
    widths = [max(text.cell_len for text in column) for column in zip(*rows, strict=True)]
    while sum(widths) + GAP * (len(widths) - 1) > room and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _line(row: list[Text], widths: list[int], right: list[bool]) -> Text:
    from rich.text import Text

    line = Text()
    for text, width, flush in zip(row, widths, right, strict=True):
        text.truncate(width, overflow="ellipsis")
        text.align("right" if flush else "left", width)
        line.append_text(text).append(" " * GAP)
    return line


def _with_wrapped(line: Text, texts: list[Text], taken: int, console: Console, *, below: bool) -> Iterator[Text]:
    indent = INDENT if below else taken
    wrapped = [part for text in texts if text for part in text.wrap(console, console.width - indent)]
    if not below and wrapped:
        line.append_text(wrapped.pop(0))
    line.rstrip()
    yield line
    for part in wrapped:
        part.pad_left(indent)
        yield part


def _facts(block: Facts) -> RenderableType:
    from rich.table import Table as RichTable

    table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, cell in block.rows:
        table.add_row(plain_line(name, LONGEST), _cell(cell))
    return table


def _cell(cell: Cell) -> Text:
    return _styled(plain_line(cell.text, LONGEST), cell.tone)


def _styled(text: str, tone: Tone) -> Text:
    from rich.text import Text

    return Text(text, style=STYLES[tone])


@contextmanager
def redrawn(out: IO[str]) -> Iterator[Callable[[Answer], None]]:
    """Draw answers in place of each other; the last one stays."""
    from rich.live import Live

    console = new_console(out)
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        yield lambda answer: live.update(rendered(answer.page, console), refresh=True)
