"""Machines that do what `plays.json` says, step by step; a driver as a package of a third party would bring it.

`{"a.efi": {"at": "downloaded", "act": "lost", "reports": []}}`: whichever machine gets this workload goes on until it
is downloaded, and then its driver loses it. What it can do then is in `ACTS`; unless it hangs in it, it goes on.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import DrivenMachine, Sign, Spec
from pytest_dispatch.machines.virtual_machine import VirtualMachine
from pytest_dispatch.workloads.boot.lifecycle import State

#: The steps of a boot, each named by the state that it brings about.
STEPS = (State.ASSIGNED, State.DOWNLOADING, State.DOWNLOADED, State.BOOTING, State.REPORTED)
RESET = 0.05  # seconds
PATIENCE = 60.0  # seconds

#: What the session knows, or was told of: workload and state. Its conftest.py notes it here.
TOLD: set[tuple[str, str]] = set()


class ResetError(Exception):
    """The machine resets."""


@dataclass(frozen=True)
class Head:
    """What the server said before the body."""

    status: int
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))

    @property
    def idle(self) -> str:
        return self.headers.get("dispatch-idle", "")

    @property
    def workload(self) -> str:
        return unquote(self.headers.get("dispatch-workload", ""))


class Puppet(VirtualMachine):
    """See the module's docstring."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self._first = first

    async def live(self, is_on: Callable[[], None]) -> None:
        if self._first == "fail":
            raise MachineError("it has no power supply; plug one in")
        is_on()
        if self._first == "break-journal":
            await until(lambda: any(state == State.UNASSIGNED for _, state in TOLD))
            break_journal()
        idle = ""
        while idle != "poweroff":
            boot = Boot(self, self.new_url())
            try:
                idle = await boot.play()
                if idle == "wait":
                    await asyncio.sleep(PATIENCE)
            except (OSError, EOFError, ResetError):  # also where the server refuses, or has gone
                pass
            finally:
                boot.reset()
            await asyncio.sleep(RESET)


class Boot:
    """One boot of one machine, from its question until it resets."""

    def __init__(self, machine: Puppet, url: str) -> None:
        target = urlsplit(url)
        self.machine = machine
        self.workload = ""
        self._port = target.port or 80
        self._target = f"{target.path}?{target.query}"
        self._left = 0  # bytes of the workload
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def play(self) -> str:
        """Play the script of whatever there is to boot; returns the name of the idle program if that is it."""
        head = await self._ask("HEAD")
        if head.idle:
            await self._reader.readexactly((await self._ask("GET")).length)
            return head.idle
        self.workload = head.workload
        script = _script(self.workload)
        for state in STEPS:
            await self._step(state, script)
            if state == script["at"]:
                await self._until_told(state)
                await ACTS[script["act"]](self)
        return ""

    def reset(self) -> None:
        """Let go of the connection, as firmware does."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _step(self, state: State, script: Mapping[str, Any]) -> None:
        match state:
            case State.DOWNLOADING:
                self._left = (await self._ask("GET")).length
                await self._take(1)
            case State.DOWNLOADED:
                await self.finish()
            case State.BOOTING:
                await self._say("POST", "")
            case State.REPORTED:
                for report in script["reports"]:
                    await self._say("PUT", json.dumps({"title": self.workload, **report}))

    async def finish(self) -> None:
        """Take what is left of the workload."""
        while self._left:
            await self._take(65536)

    async def _take(self, most: int) -> None:
        data = await self._reader.read(min(most, self._left))
        if not data:
            raise ResetError
        self._left -= len(data)

    async def _say(self, method: str, text: str) -> None:
        head = await self._ask(method, f"Content-Length: {len(text)}\r\n", text)
        await self._reader.readexactly(head.length)

    async def _ask(self, method: str, headers: str = "", body: str = "") -> Head:
        """A request; a connection that has been left half read is not used again."""
        if self._writer is None or self._left:
            self.reset()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        line = f"{method} {self._target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
        self._writer.write(f"{line}{headers}\r\n{body}".encode())
        start, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        given = (line.partition(": ") for line in lines if line)
        head = Head(int(start.split()[1]), {name.lower(): value for name, _, value in given})
        if head.status != 200:
            raise ResetError
        return head

    async def _until_told(self, state: State) -> None:
        """Wait until the session knows: what happens next is to happen in this state, and in no other."""
        await until(lambda: (self.workload, state) in TOLD)


def _script(workload: str) -> Mapping[str, Any]:
    plays: Mapping[str, Mapping[str, Any]] = json.loads(Path("plays.json").read_text())
    return plays[workload]


# What a machine can do, once it is where its script says


async def _silent(boot: Boot) -> None:
    await asyncio.Event().wait()


async def _lost(boot: Boot) -> None:
    boot.machine.console.show(Sign(text="click", fault="its power failed", lab=True))
    await _silent(boot)


async def _panic(boot: Boot) -> None:
    boot.machine.console.show(Sign(text="Kernel panic - not syncing", fault="the kernel panicked"))
    await _silent(boot)


async def _spoil(boot: Boot) -> None:
    Path("w", boot.workload).write_bytes(b"MZ other bytes")  # noqa: ASYNC240 - nobody else waits
    await boot.finish()


async def _break_journal(boot: Boot) -> None:
    break_journal()


def break_journal() -> None:
    """Take a table from under the lab: nothing can be written any more."""
    with closing(sqlite3.connect("journal.db")) as db, db:
        db.execute("DROP TABLE dispatch_moments")


async def _reset(boot: Boot) -> None:
    raise ResetError


async def _go_on(boot: Boot) -> None:
    """Nothing goes wrong."""


ACTS: Mapping[str, Callable[[Boot], Awaitable[None]]] = {
    "silent": _silent,
    "lost": _lost,
    "panic": _panic,
    "spoil": _spoil,
    "break-journal": _break_journal,
    "reset": _reset,
    "go-on": _go_on,
}


def create(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Those of `puppet:8`; `puppet:8?first=fail` cannot be started, those with `first=break-journal` do that first."""
    first = dict(spec.options).get("first", "")
    return [Puppet(first).driven(f"m-{number}") for number in range(1, spec.count + 1)]
