"""An entry of the audit log: who changed what, from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A change that somebody made; also how it is sent to clients.

    Attributes:
        id: Grows with every entry.
        at: When, in seconds since 1970.
        who: Name of the user; for a refused sign-in, the name that was given.
        signed_in: How the user had signed in: `lab`, `token ID`, `browser`, `github`, `link`; empty if not.
        address: From where.
        action: What was done: `user.create`.
        target: To what.
        before: What changed, as it was; as JSON without secrets.
        after: As it is now.
    """

    id: int = 0
    at: float
    who: str
    signed_in: str
    address: str
    action: str
    target: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
