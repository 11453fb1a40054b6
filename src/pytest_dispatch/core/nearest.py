"""Names that are like one that is unknown: what somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable

ALIKE = 0.65  # as difflib measures it, 0 to 1; from there on a name is worth a question
MOST = 3  # names that are asked about


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names those of the known names that are like one; empty if none is."""
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), MOST, ALIKE)
    return f"did you mean {' or '.join(near)}?" if near else ""


def meant(name: str, known: Iterable[str]) -> str:
    """Return which known name was probably meant, or all that are known; `none` if there are none."""
    known = list(known)
    return did_you_mean(name, known) or f"expected one of {', '.join(known) or 'none'}"


def first_unknown(keys: Iterable[object], known: Iterable[str]) -> str:
    """Return what is wrong with the first of the keys that is not known; empty if all are."""
    known = list(known)
    for key in keys:
        if key not in known:
            asked = did_you_mean(str(key), known)
            return f"expected keys among {', '.join(known)}, got {str(key)[:80]!r}{f': {asked}' if asked else ''}"
    return ""
