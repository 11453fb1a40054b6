"""Options of all commands that ask a lab, where they stand before the command: `dispatch --lab URL queue list`."""

from __future__ import annotations

from collections.abc import Sequence

#: The options, and whether a value follows.
EVERYWHERE = {"--lab": True, "--token-file": True, "--json": False, "--watch": False, "--follow": False}


def leading_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options with which a command line begins, and the rest of it."""
    at = 0
    while at < len(words) and words[at].partition("=")[0] in EVERYWHERE:
        at += 2 if EVERYWHERE.get(words[at]) else 1
    return list(words[:at]), list(words[at:])
