"""The sessions that there are: who holds each, how it wants its workloads run, what it asked for."""

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
    """One that holds runs.

    Attributes:
        lease: Who holds it.
        runs: Ids of what it asked for, by key.
        chains: By name.
        patience: Seconds that its runs wait for a machine at most.
        ended: Its lease is over.
        over: When it was closed for good, or its lease ended; infinity until then.
    """

    policy: Policy
    lease: Lease
    runs: dict[str, str] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    patience: float = 0.0
    ended: bool = False
    over: float = math.inf


class SessionTable:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def __getitem__(self, session: str) -> Session:
        return self._sessions[session]

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    def open(self, session: str, policy: Policy, lease: Lease = PRIVATE) -> None:
        """Take up a session."""
        self._sessions[session] = Session(policy, lease)

    def epoch(self, session: str) -> int:
        """Return the epoch of the session's lease."""
        return self._sessions[session].lease.epoch

    def is_held(self, session: str) -> bool:
        """Tell whether a holder has connections open, and its lease has not ended."""
        found = self._sessions[session]
        return bool(found.lease.connections) and not found.ended

    def policy(self, session: str) -> Policy:
        """Return how the session wants its workloads run."""
        return self._sessions[session].policy

    @property
    def patience(self) -> float:
        """Return how many seconds runs wait for a machine at most; infinity if there are none."""
        return max((session.patience for session in self._sessions.values() if session.patience), default=math.inf)

    def is_attended(self, session: str) -> bool:
        """Tell whether its holder is there."""
        return not self._sessions[session].ended

    # Leases

    def heard(self, session: str, epoch: int, now: float) -> None:
        """Note that a holder asks something.

        Raises:
            StaleLeaseError: Another one took the session over since, or it ended.
        """
        found = self._sessions[session]
        found.lease.check(epoch)
        if found.ended:
            raise StaleLeaseError("this session has ended: its holder was not heard of for too long; resume it")
        found.lease = found.lease.renewed(now)

    def connected(self, session: str, epoch: int, more: int, now: float) -> None:
        """Note that a holder opened so many connections, or closed them; those of an earlier one do not count."""
        found = self._sessions[session]
        if found.lease.epoch == epoch:
            found.lease = found.lease.connected(more, now)

    def take_over(self, session: str, wanted: Lease, now: float) -> int:
        """Let another holder have a session, by the lease that it wants; returns its epoch."""
        found = self._sessions[session]
        found.lease = found.lease.taken_over(wanted, now)
        found.ended, found.over = False, math.inf
        return found.lease.epoch

    def close(self, session: str, now: float) -> None:
        """Note that its holder is done with a session for good."""
        self._sessions[session].over = now

    def over_since(self, before: float) -> list[str]:
        """Return the sessions that have been over since some time before this."""
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
