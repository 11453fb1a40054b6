"""Text as a console or a log gave it, without what hides where its lines begin."""

from __future__ import annotations

import re

from pytest_dispatch.core.plain_text import plain

_RETURNS = re.compile("\r+\n?")
#: A byte-order mark, and what has no width.
_UNSEEN = re.compile("[\u200b-\u200d\u2060\ufeff]")
#: The mark of UTF-16 that was read as UTF-8, or as Latin-1.
_MARK = re.compile("\\A(?:\ufffd\ufffd|\xff\xfe)")


def console_text(text: str) -> str:
    """Return the text without colours, control characters (so UTF-16 that was read as bytes too) and unseen ones.

    A carriage return ends a line as a line feed does: what a progress bar wrote before it stands for itself.
    """
    return _MARK.sub("", _UNSEEN.sub("", plain(_RETURNS.sub("\n", text))))
