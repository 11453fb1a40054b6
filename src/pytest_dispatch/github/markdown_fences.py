"""Fenced code and folds in Markdown: which are open where a text ends, and how to cut a text that leaves none open."""

from __future__ import annotations

import re

#: Shows nothing, and is neither white space nor punctuation to Markdown.
ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
LONGEST = 32  # characters of a fence that counts as one

FOLD, UNFOLD = "<details>", "</details>"
DEEPEST = 4  # folds within one another
_FOLDS = re.compile(rf"^(?:{FOLD}|{UNFOLD}$)", re.MULTILINE)

_OPENS = re.compile(rf"^ {{0,3}}(`{{3,{LONGEST}}}(?=[^`\n]*$)|~{{3,{LONGEST}}}(?!~))", re.MULTILINE)

_NOT_CUT = re.compile(r"(?:&#?[A-Za-z0-9]{0,32}|[A-Za-z0-9]@|<[^\s<>]{0,36}>?)\Z")
_TURN = LONGEST + 2 + DEEPEST * len(f"\n\n{UNFOLD}")  # characters that it takes to close all that may be open


def closing(fence: str, margin: str = "") -> re.Pattern[str]:
    """What ends the code that this fence began (https://spec.commonmark.org/0.31.2/#fenced-code-blocks).

    Args:
        fence: Of backticks or of tildes.
        margin: A pattern of what may stand before each of its lines.
    """
    return re.compile(rf"^{margin} {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)


def left_open(text: str) -> tuple[str, int]:
    """Return what is still open where the text ends: the fence of code, or nothing, and how many folds."""
    at, folds, fence = 0, 0, ""
    while not fence:
        opened = _OPENS.search(text, at)
        for tag in _FOLDS.finditer(text, at, opened.start() if opened else len(text)):
            folds = min(folds + 1, DEEPEST) if tag[0] == FOLD else max(folds - 1, 0)
        if opened is None:
            break
        closed = closing(opened[1]).search(text, opened.end())
        at, fence = (closed.end(), "") if closed else (len(text), opened[1])
    return fence, folds


def cut(text: str, limit: int) -> list[str]:
    """The text in pieces of at most so many characters, cut at line ends where there are any.

    Each piece is a document of its own: code and folds that a cut runs through are closed before it and go on behind
    it, and the rest of a line that is cut is nothing that only the beginning of a line can be.

    Args:
        text: Markdown, of which a fold's tags count where they begin a line.
        limit: At least 300.
    """
    pieces, begun = [], ""
    while len(begun) + len(text) > limit:
        room = limit - len(begun) - _TURN
        at = text.rfind("\n", 0, room) + 1 or _within_line(text, 1, room)
        piece, text = f"{begun}{text[:at]}", text[at:]
        whole_lines = piece.endswith("\n")
        inside, folds = left_open(piece)
        fence = inside
        if not whole_lines:  # what is cut may look like a fence that it is not, or the other way round
            fence, _ = left_open(piece + text.partition("\n")[0])
            text = f"{ZERO_WIDTH}{text}"
        if inside:
            piece = f"{piece}{inside}" if whole_lines else f"{piece}\n{inside}"
        pieces.append(piece + f"\n\n{UNFOLD}" * folds)
        begun = f"{FOLD}\n\n" * folds + (f"{fence}\n" if fence else "")
    return [*pieces, f"{begun}{text}"]


def _within_line(text: str, begin: int, room: int) -> int:
    """Where to cut a line: not within a character reference, and not before an `@` that is part of an address."""
    for end in (room, room + 1):
        if found := _NOT_CUT.search(text, max(begin, room - 40), end):
            return found.start()
    return room
