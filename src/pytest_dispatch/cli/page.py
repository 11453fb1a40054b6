"""What a command shows, before it is known whether a terminal, a pipe or a program reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """What a text means, from which a terminal makes a colour."""

    PLAIN = "plain"
    STRONG = "strong"
    GOOD = "good"
    BUSY = "busy"
    HELD = "held"  # a person is to look at it
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with its tone."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        right: Whether its texts are flush right, as numbers are.
        wraps: Whether its texts may take several lines on a narrow terminal; other columns are cut.
    """

    head: str
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        empty: What to say if there are no rows.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one to a line."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line, or several, of one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Block = Table | Facts | Sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command gives.

    Attributes:
        value: For programs: a value of the API, as the API gives it; None if it gives none.
        page: For people.
        aside: A line for people that does not belong to the result, for standard error.
    """

    value: object
    page: tuple[Block, ...]
    aside: str = ""


def said(value: object, text: str) -> Answer:
    """Return an answer of one sentence, as commands say what they have done."""
    return Answer(value, (Sentence(f"dispatch: {text}"),))


def cells(*texts: str | Cell) -> tuple[Cell, ...]:
    """Return a row; a bare text has no tone."""
    return tuple(text if isinstance(text, Cell) else Cell(text) for text in texts)
