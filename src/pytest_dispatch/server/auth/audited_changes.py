"""What operations changed, as their handlers leave it for the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operation changed, for the audit log; without secrets.

    Attributes:
        target: What was changed.
        before: As it was.
        after: As it is now.
    """

    target: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


#: Where a handler leaves what it changed.
CHANGED = web.RequestKey("changed", Changed)
