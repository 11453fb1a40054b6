"""Text from machines and workloads made safe to show."""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection

# ANSI escape sequences (ECMA-48, 5.3-5.6; ECMA-35, 13.2), other control characters but tab and line feed, the
# characters that turn the direction of what follows (Unicode UAX #9, 2), and halves of characters, which no terminal
# can be sent.
# Nothing here is tried twice (`*+`), so that the time grows with the text and no faster, whatever is in it.
_UNSAFE = re.compile(
    r"\x1b\[[0-?]*+[ -/]*+[@-~]|\x1b[\]PX^_][^\x07\x1b]*+(?:\x07|\x1b\\)|\x1b[ -/]*+[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ud800-\udfff]"
)

LONGEST_NAME = 255  # characters of a workload's name, as of a file's


def is_name(text: str) -> bool:
    """Whether it can be shown as it is wherever names are: in node ids, headers, terminals and files."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def plain(text: str) -> str:
    """The text without anything that moves a cursor, changes colours or direction, or cannot be written."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))


def plain_line(text: str, width: int = 200) -> str:
    """The same in one line of at most `width` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def what_was_raised(error: BaseException, files: Collection[str] = ()) -> str:
    """An exception and its place in one line: the innermost one in these files, if it came through any of them."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in frames if place[0] in files]
    where = [f" ({file}, line {line})" for file, line in (own or frames)[-1:]]
    return "".join([plain_line(f"{type(error).__name__}: {error}", 300), *where])
