"""Leases: for how long a session's holder may be away.

A lease has an epoch. Whoever takes a session over raises it, and what the one before still asks is refused: it would
not know what has happened since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from pytest_dispatch.core.errors import StaleLeaseError
from pytest_dispatch.core.plain_text import plain_line

CONNECTIONS_GONE = 60.0  # seconds after which an attached session ends whose holder has no connection any more
UNHEARD = 900.0  # seconds after which it ends though it has: it may be suspended, or in a debugger


class LeaseKind(StrEnum):
    """Who holds a session."""

    ATTACHED = "attached"  # a program that runs, such as pytest
    DURABLE = "durable"  # something that comes back, such as a cycle: its owner sets for how long it may be away
    DETACHED = "detached"  # a person: until it is cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One session's.

    Attributes:
        owner: Who holds it, for people.
        epoch: Grows when it is taken over.
        heard: When its holder last asked something.
        connections: That its holder has open: streams of the session's changes.
        lasts: Seconds that a durable one goes on without being heard of.
    """

    kind: LeaseKind = LeaseKind.ATTACHED
    owner: str = ""
    epoch: int = 1
    heard: float = 0.0
    connections: int = 0
    lasts: float = math.inf

    @property
    def ends(self) -> float:
        """Return when it ends if nothing is heard of its holder any more; infinity if it does not."""
        match self.kind:
            case LeaseKind.ATTACHED:
                return self.heard + (UNHEARD if self.connections else CONNECTIONS_GONE)
            case LeaseKind.DURABLE:
                return self.heard + self.lasts
            case LeaseKind.DETACHED:
                return math.inf

    def renewed(self, now: float) -> Lease:
        """Return it after its holder was heard of."""
        return replace(self, heard=now)

    def connected(self, more: int, now: float) -> Lease:
        """Return it after its holder opened so many connections, or closed them."""
        return replace(self, connections=self.connections + more, heard=now)

    def taken_over(self, wanted: Lease, now: float) -> Lease:
        """Return the lease of another holder, as that one wants it."""
        return replace(wanted, epoch=self.epoch + 1, heard=now, connections=0)

    def check(self, epoch: int) -> None:
        """Refuse a holder that is no longer the latest.

        Raises:
            StaleLeaseError: Another one took the session over since.
        """
        if epoch != self.epoch:
            owner = plain_line(self.owner, 60) or "another holder"
            raise StaleLeaseError(
                f"this session was taken over by {owner}: expected epoch {self.epoch}, got"
                f" {epoch}; open a session of your own, or take it over again"
            )


PRIVATE = Lease(kind=LeaseKind.DURABLE)  # in a lab that ends with its only holder
