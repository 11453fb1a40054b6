"""QEMU's control socket, with a real socket and a scripted other end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.qemu.qmp import LinkError, Qmp

pytestmark = pytest.mark.anyio

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}\r\n'


class Qemu:
    """QEMU's end, and what ours was told."""

    def __init__(
        self, qmp: Qmp, other: socket.socket, events: list[tuple[str, dict[str, Any]]], broken: list[str]
    ) -> None:
        self.qmp = qmp
        self.events = events
        self.broken = broken
        self._socket = other

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def hear(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            data += await asyncio.get_running_loop().sock_recv(self._socket, 1)
        command: dict[str, Any] = json.loads(data)
        return command

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def linked() -> AsyncIterator[Qemu]:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    events: list[tuple[str, dict[str, Any]]] = []
    broken: list[str] = []
    qmp = Qmp(lambda *event: events.append(event), broken.append)
    qemu = Qemu(qmp, other, events, broken)
    await asyncio.get_running_loop().create_unix_connection(lambda: qmp, sock=ours)
    try:
        yield qemu
    finally:
        qemu.close()
        async with asyncio.timeout(60):
            await qmp.closed.wait()


async def test_a_command_gets_its_answer() -> None:
    async with linked() as qemu:
        answer = asyncio.create_task(qemu.qmp.execute("migrate-set-parameters", max_bandwidth=7))
        assert await qemu.hear() == {"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 7}}
        await qemu.say(GREETING + b'{"return": {"status": "running"}}\r\n')
        assert await answer == {"status": "running"}


async def test_answers_go_to_their_commands_in_order_with_events_between() -> None:
    async with linked() as qemu:
        first = asyncio.create_task(qemu.qmp.execute("first"))
        second = asyncio.create_task(qemu.qmp.execute("second"))
        await qemu.hear()
        await qemu.hear()
        await qemu.say(b'{"return": 1}\n{"event": "STOP"}\n{"return": 2}\n{"event": "RESUME", "data": {"a": 1}}\n')
        assert (await first, await second) == (1, 2)
    assert qemu.events == [("STOP", {}), ("RESUME", {"a": 1})]


async def test_messages_may_come_byte_by_byte() -> None:
    async with linked() as qemu:
        answer = asyncio.create_task(qemu.qmp.execute("query-status"))
        await qemu.hear()
        for byte in '{"event": "E", "data": {"text": "ü\\n"}}\r\n{"return": {}}\r\n'.encode():
            await qemu.say(bytes([byte]))
            await asyncio.sleep(0)
        assert await answer == {}
    assert qemu.events == [("E", {"text": "ü\n"})]


async def test_a_refused_command_says_why() -> None:
    async with linked() as qemu:
        answer = asyncio.create_task(qemu.qmp.execute("cont"))
        await qemu.hear()
        await qemu.say(b'{"error": {"class": "GenericError", "desc": "not now"}}\n')
        with pytest.raises(MachineError, match="QEMU refused 'cont': not now"):
            await answer


async def test_the_answer_to_a_cancelled_command_is_not_the_next_ones() -> None:
    async with linked() as qemu:
        first = asyncio.create_task(qemu.qmp.execute("first"))
        await qemu.hear()
        first.cancel()
        second = asyncio.create_task(qemu.qmp.execute("second"))
        await qemu.hear()
        await qemu.say(b'{"return": 1}\n{"return": 2}\n')
        assert await second == 2


async def test_a_link_that_ends_fails_what_waits_and_what_comes() -> None:
    async with linked() as qemu:
        answer = asyncio.create_task(qemu.qmp.execute("cont"))
        await qemu.hear()
        qemu.close()
        with pytest.raises(LinkError, match="QEMU closed its control socket"):
            await answer
        with pytest.raises(LinkError, match="expected QEMU to take 'stop', but it closed its control socket"):
            await qemu.qmp.execute("stop")
    assert qemu.broken == [], "whose end it was is told elsewhere"


@pytest.mark.parametrize("noise", [b"SSH-2.0-OpenSSH\n", b"[1]\n", b"\xff\xfe\n", b"\n"])
async def test_what_is_no_qmp_breaks_the_link(noise: bytes) -> None:
    async with linked() as qemu:
        answer = asyncio.create_task(qemu.qmp.execute("cont"))
        await qemu.hear()
        await qemu.say(noise + b'{"return": {}}\n')
        with pytest.raises(LinkError, match="expected a JSON object from QEMU's control socket, got b'"):
            await answer
    assert len(qemu.broken) == 1
