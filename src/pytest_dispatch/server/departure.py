"""Sees that a client has closed its connection while it is answered: nobody reads from the connection then."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

#: The other side has closed, or shut down its writing; elsewhere than on Linux a hang-up says so, which always counts.
_CLOSED = getattr(select, "POLLRDHUP", 0)


class Departure:
    """Whether the client of a request that is being answered is still there.

    Args:
        request: The request.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._poll = select.poll()
        if request.transport is not None:
            self._poll.register(request.transport.get_extra_info("socket").fileno(), _CLOSED)

    def has_left(self) -> bool:
        """Return whether the client has closed the connection."""
        transport = self._request.transport
        return transport is None or transport.is_closing() or bool(self._poll.poll(0))
