"""Leases: how long a session lives without a sign of its holder.

A lease has an epoch. Taking a session over raises the epoch, and requests with an older epoch are refused: the earlier
holder does not know what has happened since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from pytest_dispatch.core.errors import StaleLeaseError
from pytest_dispatch.core.plain_text import plain_line

CONNECTIONS_GONE = 60.0  # seconds until an attached session ends after its last connection closed
UNHEARD = 900.0  # seconds until it ends despite open connections, as with a suspended or debugged holder


class LeaseKind(StrEnum):
    """The kind of holder of a session."""

    ATTACHED = "attached"  # a running program, such as pytest
    DURABLE = "durable"  # something that comes back, such as a cycle; its owner sets how long it may be away
    DETACHED = "detached"  # a person; the session lasts until it is cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease of one session.

    Attributes:
        owner: The name of the holder, for people.
        epoch: Raised each time the session is taken over.
        heard: When the holder last sent a request.
        connections: How many streams of the session's changes the holder has open.
        lasts: How many seconds a durable lease lasts without a request.
    """

    kind: LeaseKind = LeaseKind.ATTACHED
    owner: str = ""
    epoch: int = 1
    heard: float = 0.0
    connections: int = 0
    lasts: float = math.inf

    @property
    def ends(self) -> float:
        """Return when the lease ends if its holder sends nothing more; infinity if it does not end."""
        match self.kind:
            case LeaseKind.ATTACHED:
                return self.heard + (UNHEARD if self.connections else CONNECTIONS_GONE)
            case LeaseKind.DURABLE:
                return self.heard + self.lasts
            case LeaseKind.DETACHED:
                return math.inf

    def renewed(self, now: float) -> Lease:
        """Return the lease after a request from its holder."""
        return replace(self, heard=now)

    def connected(self, more: int, now: float) -> Lease:
        """Return the lease after its holder opened `more` connections (negative: closed)."""
        return replace(self, connections=self.connections + more, heard=now)

    def taken_over(self, wanted: Lease, now: float) -> Lease:
        """Return the lease of a new holder as it was requested, with the next epoch."""
        return replace(wanted, epoch=self.epoch + 1, heard=now, connections=0)

    def check(self, epoch: int) -> None:
        """Refuse a request from an earlier holder.

        Raises:
            StaleLeaseError: Another holder has taken the session over.
        """
        if epoch != self.epoch:
            owner = plain_line(self.owner, 60) or "another holder"
            raise StaleLeaseError(
                f"this session was taken over by {owner}: expected epoch {self.epoch}, got"
                f" {epoch}; open a session of your own, or take it over again"
            )


PRIVATE = Lease(kind=LeaseKind.DURABLE)  # the lease in a lab that ends together with its only holder
