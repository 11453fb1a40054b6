"""Text and small values as columns hold them: PostgreSQL takes no NUL, and what workloads say may have some."""

from __future__ import annotations

from typing import Any

import msgspec

#: Stands before what stands for a character: no character itself (https://www.unicode.org/faq/private_use.html).
_MARK = "\ufdd0"


def stored(text: str) -> str:
    """Return a text as its column holds it."""
    if "\0" in text or _MARK in text:
        return text.replace(_MARK, _MARK + "1").replace("\0", _MARK + "0")
    return text


def restored(text: str) -> str:
    """Return the text that its column holds so."""
    return text.replace(_MARK + "0", "\0").replace(_MARK + "1", _MARK) if _MARK in text else text


def as_json(value: Any) -> str:
    """Return a small value as its column holds it."""
    return msgspec.json.encode(value).decode()
