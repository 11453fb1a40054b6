"""QEMU's control socket: sends commands, returns their answers, and passes on events.

Source: QEMU Machine Protocol specification (docs/interop/qmp-spec): one JSON object per line; answers come in the order
of the commands.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from pytest_dispatch.core.errors import MachineError


class LinkError(MachineError):
    """QEMU is gone, or violates the protocol of its control socket."""


class Qmp(asyncio.Protocol):
    """The client's end of the control socket.

    Args:
        happened: Called with the name and the data of each event.
        broken: Called with the reason if the input violates the protocol; the link is then closed.
    """

    def __init__(self, happened: Callable[[str, dict[str, Any]], None], broken: Callable[[str], None]) -> None:
        self._happened = happened
        self._broken = broken
        self._rest = b""
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()
        self.closed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Implement `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self.closed.clear()

    def data_received(self, data: bytes) -> None:
        """Implement `asyncio.Protocol`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self._break(f"expected a JSON object from QEMU's control socket, got {line[:80]!r}")
                return
            self._take(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Implement `asyncio.Protocol`."""
        del exc  # a reset link and an ended one mean the same: QEMU is gone
        self._give_up("QEMU closed its control socket")
        self.closed.set()

    async def execute(self, command: str, **arguments: object) -> Any:
        """Execute a command and return QEMU's answer. Argument names are QEMU's, with `_` for `-`.

        Raises:
            LinkError: QEMU is gone.
            MachineError: QEMU refused it.
        """
        if self._transport is None:
            raise LinkError(f"expected QEMU to take {command!r}, but it closed its control socket")
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._transport.write(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        message = await answer
        if "error" in message:
            raise MachineError(f"QEMU refused {command!r}: {message['error'].get('desc', message['error'])}")
        return message["return"]

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._happened(message["event"], message.get("data", {}))
        elif self._waiting and ("return" in message or "error" in message):
            answer = self._waiting.popleft()
            if not answer.done():  # its caller may have been cancelled
                answer.set_result(message)

    def _break(self, why: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._give_up(why)
        self._broken(why)

    def _give_up(self, why: str) -> None:
        self._transport = None
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(LinkError(why))
        self._waiting.clear()
