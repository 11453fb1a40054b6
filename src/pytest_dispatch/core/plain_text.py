"""Makes text from machines and workloads safe to show."""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection

# ANSI escape sequences (ECMA-48, 5.3-5.6; ECMA-35, 13.2), control characters other than tab and line feed, characters
# that change the direction of text (Unicode UAX #9, 2), and lone surrogates, which cannot be written to a terminal.
# The quantifiers are possessive (`*+`), so there is no backtracking: the time is linear in the length of any text.
_UNSAFE = re.compile(
    r"\x1b\[[0-?]*+[ -/]*+[@-~]|\x1b[\]PX^_][^\x07\x1b]*+(?:\x07|\x1b\\)|\x1b[ -/]*+[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ud800-\udfff]"
)

# Colours and type (SGR; ECMA-48, 8.3.117): the one control sequence that moves nothing and hides nothing of others.
COLOUR = re.compile(r"(\x1b\[[0-9;:]*+m)")

# Text that continuous integration runners take for a command: `::name …::` at the start of a line, after blanks
# (GitHub Actions); `##[…]` (GitHub Actions and Azure), `##vso[…]` and `##teamcity[…]` anywhere. GitLab's commands need
# control characters.
_HASHES = re.compile(r"#(?=#\w{0,16}\[)")
_COLONS = re.compile(r":(?=:)")
_COLONS_AHEAD = re.compile(r"(?<!\S)::+")

# Characters that are escaped in a node id: a bracket begins the parameters, colons at the start or side by side read as
# the separator, and some plugins put node ids into HTML or split them at backslashes.
_IN_NODE_ID = re.compile(r"""[\[\]<>&"'\\]|^:|:(?=:)|(?<=:):|%(?=[0-9A-Fa-f]{2})""")

LONGEST_NAME = 255  # most characters of a workload's name, like a file name's


def is_name(text: str) -> bool:
    """Return whether a text can be used as a name in node ids, headers, terminals and files without change."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def node_name(name: str) -> str:
    """Return a workload's name for node ids, with special characters escaped as `%XX`."""
    return _IN_NODE_ID.sub(lambda found: f"%{ord(found[0]):02X}", name)


def plain(text: str) -> str:
    """Return the text without control sequences, direction changes and characters that cannot be written."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))


def painted(text: str) -> str:
    """Return the plain text with its colours, for who turns them into something harmless: all else is left out."""
    return _UNSAFE.sub(lambda found: found[0] if COLOUR.fullmatch(found[0]) else "", text.replace("\r\n", "\n"))


def shown(text: str) -> str:
    """Return the plain text with blanks inserted into sequences that continuous integration runners obey in logs."""
    return _COLONS_AHEAD.sub(lambda found: " ".join(found[0]), _HASHES.sub("# ", plain(text)))


def plain_line(text: str, width: int = 200) -> str:
    """Return the shown text in one line of at most `width` characters."""
    line = shown(" ".join(plain(text).split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def what_was_raised(error: BaseException, files: Collection[str] = ()) -> str:
    """Return an exception and its place in one line: the innermost frame in `files`, else the innermost of all."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in frames if place[0] in files]
    where = [f" ({file}, line {line})" for file, line in (own or frames)[-1:]]
    return "".join([plain_line(f"{type(error).__name__}: {error}", 300), *where])


def shown_wrapped(text: str) -> str:
    """Return the shown text for output that wraps lines again, as pytest does with the reason of a skipped test."""
    return _COLONS.sub(": ", shown(text))
