"""The sessions of a lab: their holders, their policies, and the runs that they asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_dispatch.core.chains import Chain
from pytest_dispatch.core.errors import StaleLeaseError
from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.model import Policy


@dataclass(slots=True, eq=False)
class Session:
    """One session.

    Attributes:
        policy: How its workloads are run.
        lease: The lease of its holder.
        runs: Ids of its runs, by key.
        chains: Its chains, by name.
        patience: The most seconds that one of its runs waits for a machine.
        ended: Whether its lease is over.
        over: When it was closed or its lease ended; infinity until then.
    """

    policy: Policy
    lease: Lease
    runs: dict[str, str] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    patience: float = 0.0
    ended: bool = False
    over: float = math.inf


class SessionTable:
    """All sessions by id, with their leases."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def __getitem__(self, session: str) -> Session:
        return self._sessions[session]

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    def open(self, session: str, policy: Policy, lease: Lease = PRIVATE) -> None:
        """Add a session."""
        self._sessions[session] = Session(policy, lease)

    def epoch(self, session: str) -> int:
        """Return the epoch of the session's lease."""
        return self._sessions[session].lease.epoch

    def is_held(self, session: str) -> bool:
        """Return whether a holder has connections open, and its lease has not ended."""
        found = self._sessions[session]
        return bool(found.lease.connections) and not found.ended

    def policy(self, session: str) -> Policy:
        """Return the session's policy."""
        return self._sessions[session].policy

    @property
    def patience(self) -> float:
        """Return the most seconds that a run of any session waits for a machine; infinity if there are none."""
        return max((session.patience for session in self._sessions.values() if session.patience), default=math.inf)

    def is_attended(self, session: str) -> bool:
        """Return whether the session's lease has not ended, so that its holder may answer."""
        return not self._sessions[session].ended

    # Leases

    def heard(self, session: str, epoch: int, now: float) -> None:
        """Record a request of a holder.

        Raises:
            StaleLeaseError: Another holder has taken the session over, or it has ended.
        """
        found = self._sessions[session]
        found.lease.check(epoch)
        if found.ended:
            raise StaleLeaseError("this session has ended: its holder was not heard of for too long; resume it")
        found.lease = found.lease.renewed(now)

    def connected(self, session: str, epoch: int, more: int, now: float) -> None:
        """Record that a holder opened `more` connections (negative: closed); an earlier holder's do not count."""
        found = self._sessions[session]
        if found.lease.epoch == epoch:
            found.lease = found.lease.connected(more, now)

    def take_over(self, session: str, wanted: Lease, now: float) -> int:
        """Give a session to another holder with the lease that it requests, and return the new epoch."""
        found = self._sessions[session]
        found.lease = found.lease.taken_over(wanted, now)
        found.ended, found.over = False, math.inf
        return found.lease.epoch

    def close(self, session: str, now: float) -> None:
        """Mark a session as closed by its holder."""
        self._sessions[session].over = now

    def over_since(self, before: float) -> list[str]:
        """Return the sessions that were over before this time."""
        return [name for name, session in self._sessions.items() if session.over < before]

    def drop(self, session: str) -> None:
        """Forget a session."""
        del self._sessions[session]

    def lapsed(self, now: float) -> Iterator[str]:
        """Yield the sessions whose lease has just ended."""
        for name, session in self._sessions.items():
            if not session.ended and session.lease.ends <= now:
                session.ended, session.over = True, min(session.over, now)
                yield name
