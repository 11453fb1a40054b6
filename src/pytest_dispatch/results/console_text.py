"""Cleans text of consoles and logs, so that the beginnings of lines can be found."""

from __future__ import annotations

import re

from pytest_dispatch.core.plain_text import plain

_RETURNS = re.compile("\r+\n?")
#: Byte-order marks and zero-width characters.
_UNSEEN = re.compile("[\u200b-\u200d\u2060\ufeff]")
#: The byte-order mark of UTF-16 decoded as UTF-8 or as Latin-1.
_MARK = re.compile("\\A(?:\ufffd\ufffd|\xff\xfe)")


def console_text(text: str) -> str:
    """Return the text without colours, control characters and invisible characters.

    This also repairs ASCII in UTF-16 that was decoded byte by byte. A carriage return ends a line like a line feed, so
    that each state of a progress bar is a line.
    """
    return _MARK.sub("", _UNSEEN.sub("", plain(_RETURNS.sub("\n", text))))
