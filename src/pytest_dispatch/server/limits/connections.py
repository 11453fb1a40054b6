"""Counts the open connections by caller, and closes idle ones when there are too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


class Closable(Protocol):
    """An open connection."""

    def force_close(self) -> None:
        """Close the connection once its written bytes are sent."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


#: Connections in the order in which they became idle.
_Idle = OrderedDict[Closable, None]


@dataclass(slots=True)
class _Caller:
    count: int = 0
    idle: _Idle = field(default_factory=OrderedDict)


class Connections:
    """Counts connections, and closes idle ones when there are too many.

    Args:
        most: Maximum number of open connections.
        share: Fraction of these that one address may use.

    Attributes:
        most: Maximum number of open connections; lowered if the system does not allow so many.
    """

    def __init__(self, most: int, share: float) -> None:
        self.most = most
        self._share = share
        self._open: dict[Closable, str] = {}
        self._callers: dict[str, _Caller] = {}
        self._idle: _Idle = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Closable]:
        """Iterate over a snapshot of the open connections."""
        return iter(list(self._open))

    @property
    def in_use(self) -> int:
        """Return the number of connections with a current request."""
        return len(self._open) - len(self._idle)

    def admit(self, connection: Closable, address: str) -> str:
        """Admit a new connection, closing the longest idle one if needed; return why not, empty if admitted."""
        caller = self._callers.get(address, _Caller())
        share = max(1, int(self.most * self._share))
        if caller.count >= share and not self._close_first(caller.idle):
            return f"{address} has {share} connections in use here, and more than that are not taken"
        if len(self._open) >= self.most and not self._close_first(self._idle):
            return f"{self.most} connections are in use here, and more than that are not taken"
        self._open[connection] = address
        caller = self._callers.setdefault(address, caller)
        caller.count += 1
        caller.idle[connection] = self._idle[connection] = None
        return ""

    def asks(self, connection: Closable) -> None:
        """Mark a connection as in use: a request came in."""
        address = self._open.get(connection)
        if address is not None:
            self._idle.pop(connection, None)
            self._callers[address].idle.pop(connection, None)

    def answered(self, connection: Closable) -> None:
        """Mark a connection as idle: its request is answered."""
        address = self._open.get(connection)
        if address is not None:
            self._callers[address].idle[connection] = self._idle[connection] = None

    def left(self, connection: Closable) -> None:
        """Remove a connection that was closed."""
        self.asks(connection)
        address = self._open.pop(connection, None)
        if address is not None:
            caller = self._callers[address]
            caller.count -= 1
            if not caller.count:
                del self._callers[address]

    def _close_first(self, idle: _Idle) -> bool:
        connection = next(iter(idle), None)
        if connection is None:
            return False
        connection.force_close()
        self.left(connection)
        return True
