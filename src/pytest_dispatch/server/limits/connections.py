"""The open connections: how many there are, whose, and which of them may go when there is no room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


class Connection(Protocol):
    """One of them."""

    def force_close(self) -> None:
        """Close it when what was written has gone out."""
        ...

    def abort(self) -> None:
        """Close it at once."""
        ...


#: Connections in the order in which they became idle.
_Idle = OrderedDict[Connection, None]


@dataclass(slots=True)
class _Caller:
    count: int = 0
    idle: _Idle = field(default_factory=OrderedDict)


class Connections:
    """Counts connections, and closes those on which nothing is asked when there are too many.

    Args:
        most: Open at once.
        share: Of these, the part that one address may have.

    Attributes:
        most: Open at once; less than was asked for where the system has no room for so many.
    """

    def __init__(self, most: int, share: float) -> None:
        self.most = most
        self._share = share
        self._open: dict[Connection, str] = {}
        self._callers: dict[str, _Caller] = {}
        self._idle: _Idle = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """Those that are open now, whatever becomes of them meanwhile."""
        return iter(list(self._open))

    @property
    def in_use(self) -> int:
        """How many of them are asked something."""
        return len(self._open) - len(self._idle)

    def admit(self, connection: Connection, address: str) -> str:
        """Take a new connection in, if need be for the one that was idle for longest; returns why not, if not."""
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

    def asks(self, connection: Connection) -> None:
        """A request came in on it."""
        address = self._open.get(connection)
        if address is not None:
            self._idle.pop(connection, None)
            self._callers[address].idle.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        """The request is answered."""
        address = self._open.get(connection)
        if address is not None:
            self._callers[address].idle[connection] = self._idle[connection] = None

    def left(self, connection: Connection) -> None:
        """It is closed."""
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
