"""Fenced code in Markdown: whether one is open where a text ends, and how to cut a text without leaving one open."""

from __future__ import annotations

import re

#: Shows nothing, and is neither white space nor punctuation to Markdown.
ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
LONGEST = 32  # characters of a fence that counts as one

_OPENS = re.compile(rf"^ {{0,3}}(`{{3,{LONGEST}}}(?=[^`\n]*$)|~{{3,{LONGEST}}}(?!~))", re.MULTILINE)

_NOT_CUT = re.compile(r"(?:&#?[A-Za-z0-9]{0,32}|[A-Za-z0-9]@)\Z")


def closing(fence: str, margin: str = "") -> re.Pattern[str]:
    """What ends the code that this fence began (https://spec.commonmark.org/0.31.2/#fenced-code-blocks).

    Args:
        fence: Of backticks or of tildes.
        margin: A pattern of what may stand before each of its lines.
    """
    return re.compile(rf"^{margin} {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)


def open_fence(text: str) -> str:
    """The fence of code that is still open where the text ends; empty if none is."""
    at = 0
    while opened := _OPENS.search(text, at):
        closed = closing(opened[1]).search(text, opened.end())
        if closed is None:
            return opened[1]
        at = closed.end()
    return ""


def cut(text: str, limit: int) -> list[str]:
    """The text in pieces of at most so many characters, cut at line ends where there are any.

    Each piece is a document of its own: code that a cut runs through is closed before it and goes on behind it, and
    the rest of a line that is cut is nothing that only the beginning of a line can be.
    """
    pieces, fence = [], ""
    while len(text) > limit:
        room = limit - LONGEST - 1
        begin = len(fence) + 1  # behind what was put there, so that each piece takes something away
        at = text.rfind("\n", begin, room) + 1 or _within_line(text, begin, room)
        piece, text = text[:at], text[at:]
        whole_lines = piece.endswith("\n")
        fence = left_open = open_fence(piece)
        if not whole_lines:  # what is cut may look like a fence that it is not, or the other way round
            fence = open_fence(piece + text.partition("\n")[0])
        if left_open:
            piece = f"{piece}{left_open}" if whole_lines else f"{piece}\n{left_open}"
        pieces.append(piece)
        text = text if whole_lines else f"{ZERO_WIDTH}{text}"
        text = f"{fence}\n{text}" if fence else text
    return [*pieces, text]


def _within_line(text: str, begin: int, room: int) -> int:
    """Where to cut a line: not within a character reference, and not before an `@` that is part of an address."""
    for end in (room, room + 1):
        if found := _NOT_CUT.search(text, max(begin, room - 40), end):
            return found.start()
    return room
