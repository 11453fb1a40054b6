"""Text and small values as stored in columns: PostgreSQL takes no NUL, which text from workloads may contain."""

from __future__ import annotations

from typing import Any

import msgspec

#: Escape character: a code point that is never a character (https://www.unicode.org/faq/private_use.html).
_MARK = "\ufdd0"


def stored(text: str) -> str:
    """Return a text as it is stored in a column."""
    if "\0" in text or _MARK in text:
        return text.replace(_MARK, _MARK + "1").replace("\0", _MARK + "0")
    return text


def restored(text: str) -> str:
    """Return the original of a text stored in a column."""
    return text.replace(_MARK + "0", "\0").replace(_MARK + "1", _MARK) if _MARK in text else text


def as_json(value: Any) -> str:
    """Return a small value as it is stored in a column."""
    return msgspec.json.encode(value).decode()
