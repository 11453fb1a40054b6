"""Words of the pages: numbers of things, and what states are called."""

from __future__ import annotations

from pytest_dispatch.core.model import Priority

#: Priorities as people call them.
PRIORITIES = {each: each.name.lower() for each in Priority}


def counted(count: int, thing: str) -> str:
    """Return a number of things."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(names: list[str], most: int = 3) -> str:
    """Return some names, and how many more there are."""
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else ""
