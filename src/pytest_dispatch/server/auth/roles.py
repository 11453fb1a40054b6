"""What users may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a user may do; each role may do all that the ones before it may."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        """Return whether this role may do all that the other may."""
        return _ORDER[self] >= _ORDER[other]


_ORDER = {role: place for place, role in enumerate(Role)}


def lower(one: Role, other: Role) -> Role:
    """Return the lower of two roles."""
    return other if one.covers(other) else one


def highest(roles: list[Role]) -> Role | None:
    """Return the highest of these roles; None if there is none."""
    return max(roles, key=_ORDER.__getitem__, default=None)
