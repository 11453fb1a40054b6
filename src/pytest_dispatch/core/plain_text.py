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

# What makes a runner of continuous integration take a line for a command: `::name …::` where a line begins but for
# blanks (GitHub Actions), `##[…]` (it and Azure), `##vso[…]` and `##teamcity[…]` anywhere. GitLab's need control
# characters.
_HASHES = re.compile(r"#(?=#\w{0,16}\[)")
_COLONS = re.compile(r":(?=:)")
_COLONS_AHEAD = re.compile(r"(?<!\S)::+")

# What a node id does not hold as it is: a bracket begins parameters, colons at the start or side by side are taken for
# the separator, and some plugins put node ids into HTML or take them apart at a backslash.
_IN_NODE_ID = re.compile(r"""[\[\]<>&"'\\]|^:|:(?=:)|(?<=:):|%(?=[0-9A-Fa-f]{2})""")

LONGEST_NAME = 255  # characters of a workload's name, as of a file's


def is_name(text: str) -> bool:
    """Whether it can be shown as it is wherever names are: in node ids, headers, terminals and files."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def node_name(name: str) -> str:
    """Return a workload's name as it stands in node ids, with characters that mean something there as `%XX`."""
    return _IN_NODE_ID.sub(lambda found: f"%{ord(found[0]):02X}", name)


def plain(text: str) -> str:
    """The text without anything that moves a cursor, changes colours or direction, or cannot be written."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))


def shown(text: str) -> str:
    """Return the same with a blank in all that runners of continuous integration obey when they log it."""
    return _COLONS_AHEAD.sub(lambda found: " ".join(found[0]), _HASHES.sub("# ", plain(text)))


def plain_line(text: str, width: int = 200) -> str:
    """The same in one line of at most `width` characters."""
    line = shown(" ".join(plain(text).split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def what_was_raised(error: BaseException, files: Collection[str] = ()) -> str:
    """An exception and its place in one line: the innermost one in these files, if it came through any of them."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in frames if place[0] in files]
    where = [f" ({file}, line {line})" for file, line in (own or frames)[-1:]]
    return "".join([plain_line(f"{type(error).__name__}: {error}", 300), *where])


def shown_wrapped(text: str) -> str:
    """Return what `shown` does, for where lines are broken anew, as pytest does with what a skipped test says."""
    return _COLONS.sub(": ", shown(text))
