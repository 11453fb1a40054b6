"""The sessions of a lab: their holders, their policies, and the runs that they asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_dispatch.core.errors import StaleLeaseError
from pytest_dispatch.core.leases import PRIVATE, Lease, LeaseKind
from pytest_dispatch.core.model import Policy
from pytest_dispatch.core.run_chain import Chain


@dataclass(slots=True, eq=False)
class Session:
    """One session.

    Attributes:
        policy: How its workloads are run.
        lease: The lease of its holder.
        runs: Ids of its runs, by key.
        replaced: Ids of runs that were cancelled and then left out, so that their keys may be submitted anew. Their
            machines may still report on them.
        chains: Its chains, by name.
        patience: The most seconds that one of its runs waits for a machine.
        ended: Whether its lease is over.
        over: When it was closed or its lease ended; infinity until then.
        source: The source of its workloads.
    """

    policy: Policy
    lease: Lease
    runs: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    chains: dict[str, Chain] = field(default_factory=dict)
    patience: float = 0.0
    ended: bool = False
    over: float = math.inf
    source: str = ""


class SessionTable:
    """All sessions by id, with their leases.

    Attributes:
        ended: Those that have ended since whoever tells of them emptied this; why, if they were not closed in order.
    """

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}
        self._sessions: dict[str, Session] = {}

    def __getitem__(self, session: str) -> Session:
        return self._sessions[session]

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    def open(self, session: str, policy: Policy, lease: Lease = PRIVATE, source: str = "") -> None:
        """Add a session."""
        self._sessions[session] = Session(policy, lease, source=source)

    def epoch(self, session: str) -> int:
        """Return the epoch of the session's lease."""
        return self._sessions[session].lease.epoch

    def has_epoch(self, session: str, epoch: int) -> bool:
        """Return whether the session is known, and its lease has this epoch."""
        return session in self._sessions and self.epoch(session) == epoch

    def is_held(self, session: str) -> bool:
        """Return whether a holder has connections open, and its lease has not ended."""
        found = self._sessions[session]
        return bool(found.lease.connections) and not found.ended

    def policy(self, session: str) -> Policy:
        """Return the session's policy."""
        return self._sessions[session].policy

    def source(self, session: str) -> str:
        """Return the source of the session's workloads."""
        return self._sessions[session].source

    @property
    def patience(self) -> float:
        """Return the most seconds that a run of any session waits for a machine; infinity if there are none."""
        return max((session.patience for session in self._sessions.values() if session.patience), default=math.inf)

    def is_attended(self, session: str) -> bool:
        """Return whether the session's lease has not ended, so that its holder may answer."""
        return not self._sessions[session].ended

    def is_over(self, session: str) -> bool:
        """Return whether the session was closed, or its lease has ended."""
        return math.isfinite(self._sessions[session].over)

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
        """Record that a holder opened `more` connections (negative: closed); an earlier holder's do not count.

        A connection may outlast its session.
        """
        found = self._sessions.get(session)
        if found is not None and found.lease.epoch == epoch:
            found.lease = found.lease.connected(more, now)

    def take_over(self, session: str, wanted: Lease, now: float) -> int:
        """Give a session to another holder with the lease that it requests, and return the new epoch."""
        found = self._sessions[session]
        found.lease = found.lease.taken_over(wanted, now)
        found.ended, found.over = False, math.inf
        return found.lease.epoch

    def leave(self, session: str, now: float) -> None:
        """End a session's lease because its holder goes away; another one may take the session over."""
        found = self._sessions[session]
        found.ended, found.over = True, min(found.over, now)

    def close(self, session: str, now: float) -> None:
        """Mark a session as closed by its holder."""
        self._sessions[session].over = now
        self.ended[session] = ""

    def over_since(self, before: float) -> list[str]:
        """Return the sessions that were over before this time."""
        return [name for name, session in self._sessions.items() if session.over < before]

    def open_leases(self) -> Iterator[LeaseKind]:
        """Yield the kind of lease of each session that is not over."""
        return (session.lease.kind for session in self._sessions.values() if session.over == math.inf)

    def drop(self, session: str) -> None:
        """Forget a session."""
        del self._sessions[session]

    def lapsed(self, now: float) -> Iterator[str]:
        """Yield the sessions whose lease has just ended."""
        for name, session in self._sessions.items():
            if not session.ended and session.lease.ends <= now:
                if session.over == math.inf:
                    self.ended[name] = "its holder was not heard of for too long"
                session.ended, session.over = True, min(session.over, now)
                yield name
