"""What people add to runs that have ended: another outcome, and notes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_dispatch.core.model import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's outcome of a run, in place of the lab's.

    Attributes:
        who: Who overrode it.
        at: When.
    """

    outcome: Outcome
    reason: str
    who: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a person wrote about a run.

    Attributes:
        id: Unique in the journal.
        who: Who wrote it.
        at: When.
    """

    id: str
    who: str
    at: float
    text: str
