"""Fenced code and folds in Markdown: finds those left open at the end of a text, and cuts a text into closed pieces."""

from __future__ import annotations

import re

#: Invisible, and neither white space nor punctuation to Markdown.
ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
LONGEST = 32  # maximum characters of a fence; longer ones do not count

FOLD, UNFOLD = "<details>", "</details>"
DEEPEST = 4  # maximum nesting of folds
_FOLDS = re.compile(rf"^(?:{FOLD}|{UNFOLD}$)", re.MULTILINE)

_OPENS = re.compile(rf"^ {{0,3}}(`{{3,{LONGEST}}}(?=[^`\n]*$)|~{{3,{LONGEST}}}(?!~))", re.MULTILINE)

_NOT_CUT = re.compile(r"(?:&#?[A-Za-z0-9]{0,32}|[A-Za-z0-9]@|<[^\s<>]{0,36}>?)\Z")
_TURN = LONGEST + 2 + DEEPEST * len(f"\n\n{UNFOLD}")  # maximum characters needed to close everything that is open


def closing(fence: str, margin: str = "") -> re.Pattern[str]:
    """Return a pattern of the closing fence for an opening one.

    See https://spec.commonmark.org/0.31.2/#fenced-code-blocks.

    Args:
        fence: The opening fence, of backticks or tildes.
        margin: Pattern of the text allowed before the fence in its line.
    """
    return re.compile(rf"^{margin} {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)


def left_open(text: str) -> tuple[str, int]:
    """Return the fence of code that is open at the end of the text, empty if none, and the number of open folds."""
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
    """Return the text in pieces of at most `limit` characters, cut at line ends if possible.

    Each piece is a complete document: code and folds that are open at a cut are closed before it and opened again after
    it. If a line is cut, its rest does not take on a meaning that only the beginning of a line has.

    Args:
        text: Markdown, in which tags of folds count only at the beginning of a line.
        limit: Maximum number of characters, at least 300.
    """
    pieces, begun = [], ""
    while len(begun) + len(text) > limit:
        room = limit - len(begun) - _TURN
        at = text.rfind("\n", 0, room) + 1 or _within_line(text, 1, room)
        piece, text = f"{begun}{text[:at]}", text[at:]
        whole_lines = piece.endswith("\n")
        inside, folds = left_open(piece)
        fence = inside
        if not whole_lines:  # a part of a line may look like a fence although the whole line does not, or vice versa
            fence, _ = left_open(piece + text.partition("\n")[0])
            text = f"{ZERO_WIDTH}{text}"
        if inside:
            piece = f"{piece}{inside}" if whole_lines else f"{piece}\n{inside}"
        pieces.append(piece + f"\n\n{UNFOLD}" * folds)
        begun = f"{FOLD}\n\n" * folds + (f"{fence}\n" if fence else "")
    return [*pieces, f"{begun}{text}"]


def _within_line(text: str, begin: int, room: int) -> int:
    """Return where to cut a line: not inside a character reference, and not before the `@` of an address."""
    for end in (room, room + 1):
        if found := _NOT_CUT.search(text, max(begin, room - 40), end):
            return found.start()
    return room
