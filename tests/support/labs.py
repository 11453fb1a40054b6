"""A whole lab for tests: real sockets, real files, a real journal; only time can be moved on."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from boots import boots
from by_hand import ByHand
from rounds import PlayedRounds
from waiting import PATIENCE, until

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.health import HealthRules
from pytest_dispatch.core.leases import PRIVATE, Lease
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Attempt, Policy, Run, Workload
from pytest_dispatch.core.notifications import NotificationPlan
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.external_systems import GitHubUse, TestflingerUse
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.lab.outbox import Filer
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab.round_runner import Launcher
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.machines.base import DrivenMachine, Spec
from pytest_dispatch.server.app import ApiAddress, LabServer
from pytest_dispatch.server.auth.authentication import PrivateAccess, ServiceAccess
from pytest_dispatch.server.auth.passwords import Cost
from pytest_dispatch.server.auth.settings import AccessSettings
from pytest_dispatch.server.boot.identification import Address, Network
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.workloads.boot.lifecycle import State
from pytest_dispatch.workloads.boot.service import BOOT_KIND, BootService

TOKEN = "the-session's-token"
CHEAP = Cost(time=1, memory=8, lanes=1)  # the least that argon2 takes: tests check many passwords
FIRMWARE = "Host: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n"
LEAST = 1  # a receive buffer: the kernel makes of it the least that it has
LITTLE = 8192  # one for those who take much: with less, a sender may wait a fifth of a second for every 300 bytes


class Clock(SteadyClock):
    """Time that a test can move on."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass(frozen=True)
class Reply:
    """An HTTP answer as it came."""

    start: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


HEAD_END = b"\r\n\r\n"


@dataclass
class Wire:
    """A TCP connection of a machine, byte by byte; nothing is read ahead."""

    sock: socket.socket

    @classmethod
    async def open(cls, port: int, source: str = "", *, host: str = "127.0.0.1", receive_buffer: int = 0) -> Self:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return cls(sock)

    async def send(self, data: str | bytes) -> None:
        raw = data.encode() if isinstance(data, str) else data
        await asyncio.get_running_loop().sock_sendall(self.sock, raw)

    async def receive(self, most: int = 65536) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self.sock, most)

    async def head(self) -> Reply:
        """The head of the next answer, and not a byte more."""
        head = b""
        while not head.endswith(HEAD_END):
            byte = await self.receive(1)
            assert byte, f"the connection ended within {head!r}"
            head += byte
            with suppress(BlockingIOError):  # no more of it is here
                here = head + self.sock.recv(65536, socket.MSG_PEEK)
                size = here.index(HEAD_END) + len(HEAD_END) if HEAD_END in here else len(here)
                head += self.sock.recv(size - len(head))
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        return Reply(start, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)})

    async def take(self, count: int) -> bytes:
        """So many bytes of a body."""
        data = bytearray()
        while len(data) < count:
            piece = await self.receive(count - len(data))
            assert piece, f"the connection ended after {len(data)} of {count} bytes"
            data += piece
        return bytes(data)

    async def rest(self) -> bytes:
        """Everything until the connection ends."""
        data = b""
        while piece := await self.receive():
            data += piece
        return data

    async def reply(self, *, body: bool = True) -> Reply:
        reply = await self.head()
        length = int(reply.headers.get("content-length", "0")) if body and reply.status != 304 else 0
        return Reply(reply.start, reply.headers, await self.take(length))

    def finish(self) -> None:
        """Close our half, as `nc` does at the end of its input."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with RST, as firmware does."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()


async def call(
    port: int,
    method: str,
    target: str = "/dispatch",
    *,
    source: str = "127.0.0.2",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    """One request on a connection of its own, as firmware would make it."""
    wire = await Wire.open(port, source)
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT", "DELETE") else ""
    try:
        await wire.send(f"{method} {target} HTTP/1.1\r\n{FIRMWARE}{extra}{length}\r\n".encode("latin-1") + body)
        return await wire.reply(body=method != "HEAD")
    finally:
        wire.close()


@dataclass
class LabBench:
    """A running lab, and what a test does to it."""

    lab: Lab
    server: LabServer
    journal: Journal
    clock: Clock
    folder: Path
    access: PrivateAccess | ServiceAccess
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def api_port(self) -> int:
        """Where the API is."""
        port = urlsplit(self.server.url).port
        assert port is not None
        return port

    @property
    def boot(self) -> BootService:
        service = self.lab.service(BOOT)
        assert isinstance(service, BootService)
        return service

    async def wire(self, source: str = "127.0.0.2", *, host: str = "127.0.0.1", receive_buffer: int = 0) -> Wire:
        wire = await Wire.open(self.port, source, host=host, receive_buffer=receive_buffer)
        self.wires.append(wire)
        return wire

    async def call(
        self,
        method: str,
        target: str = "/dispatch",
        *,
        source: str = "127.0.0.2",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """One request on a connection of its own, as firmware would make it."""
        return await call(self.port, method, target, source=source, headers=headers, body=body)

    async def bare(self, method: str, headers: str, target: str = "/dispatch", body: str = "") -> Reply:
        """One request with no more headers than it needs, and these."""
        wire = await self.wire()
        length = f"Content-Length: {len(body)}\r\n"
        await wire.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}{length}\r\n{body}")
        return await wire.reply(body=method != "HEAD")

    async def api(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """One request to the API, from who holds the newest session."""
        content = b"" if body is None else msgspec.json.encode(body)
        sessions = [*self.lab.lab_state.live_sessions]
        epoch = self.lab.queue.table.epoch(sessions[-1]) if sessions else 1
        given = {"Authorization": f"Bearer {TOKEN}", "Dispatch-Epoch": str(epoch), **headers}
        return await self.call(method, f"/api/v1{path}", source="127.0.0.1", headers=given, body=content)

    async def report(self, source: str = "127.0.0.2", **fields: object) -> Reply:
        return await self.call("PUT", source=source, body=msgspec.json.encode({"title": "a report", **fields}))

    async def until_released(self, run: str) -> None:
        """Return when the journal has that an external system has ended what was given up here."""

        async def noted() -> bool:
            kept = await self.lab.lab_state.journal.background.kept_run(run)
            return kept is not None and kept.run.attempt.counts.get("released") == 1

        async with asyncio.timeout(PATIENCE):
            while not await noted():
                await self.lab.lab_state.moved(0.05)

    def workload(self, name: str = "a.efi", size: int = 3000, **fields: Any) -> Workload:
        return workload(self.folder / name, size, **{"location": f"folder:w/{name}", **fields})

    def bytes_of(self, run: Run) -> bytes:
        location: str = run.workload.payload["location"]
        return (self.folder / location.removeprefix("folder:w/")).read_bytes()

    async def submit(
        self,
        *workloads: Workload,
        policy: Policy | None = None,
        rule: IssueRule | None = None,
        ready: bool = True,
        lease: Lease = PRIVATE,
        source: str = "w",
    ) -> list[Run]:
        """A session that wants these workloads; returns when their bytes are there, or were and their run is over."""
        session = await self.lab.session_service.open(source, policy or Policy(), rule or IssueRule(), self.port, lease)
        runs = await self.lab.session_service.submit(session, [(w.name, w) for w in workloads])
        if ready:
            await until(lambda: all(run.id in self.boot.assets or self.attempt(run).ended for run in runs))
        return runs

    async def one(self, *, size: int = 3000, policy: Policy | None = None, **fields: Any) -> Run:
        """A session that wants one workload."""
        return (await self.submit(self.workload(size=size, **fields), policy=policy))[0]

    async def download(self, run: Run, source: str = "127.0.0.2") -> None:
        """A machine takes the workload whole."""
        assert (await self.call("GET", source=source)).body == self.bytes_of(run)
        await self.enters(run, State.DOWNLOADED)

    async def booted(self, source: str = "127.0.0.2", **fields: Any) -> Run:
        """A workload that a machine runs."""
        run = await self.one(**fields)
        await self.download(run, source)
        assert (await self.call("POST", source=source)).status == 200
        return run

    def now(self, run: Run) -> Run:
        """The run as it now stands."""
        return self.lab.session_service.run(run.id)

    def attempt(self, run: Run) -> Attempt:
        return self.now(run).attempt

    async def enters(self, run: Run, state: State) -> Attempt:
        await until(lambda: self.attempt(run).state == state)
        return self.attempt(run)


def workload(path: Path, size: int = 3000, *, plays: str = "", **fields: Any) -> Workload:
    """A workload with a file of random bytes, and some other name where the test gives one.

    Args:
        path: The file.
        size: In bytes.
        plays: The scenario that a simulated machine plays for it.
        fields: What else there is to say.
    """
    says = f"sim: {plays}\n".encode() if plays else b""
    path.write_bytes(says + secrets.token_bytes(size - len(says)))
    return boots(**{"name": path.name, "media": path.suffix[1:], "location": str(path), "size": size, **fields})


def client_of(lab: InProcessLab) -> closing[LabClient]:
    """Return a client of the lab, to be closed."""
    return closing(LabClient(lab.url, lab.token))


@cache
def _empty_journal() -> bytes:
    """Make one that has its tables and nothing else: to make them anew takes longer than many a test."""
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "journal.db"))
        journal.open()
        journal.close()
        return Path(folder, "journal.db").read_bytes()


def _begin_journal(folder: Path) -> None:
    """Put an empty journal there, unless there is one."""
    folder.mkdir(exist_ok=True)
    if not (folder / "journal.db").exists():
        (folder / "journal.db").write_bytes(_empty_journal())


@asynccontextmanager
async def running_lab(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    path: str = "/dispatch",
    allow: tuple[Network, ...] | None = None,
    tools: frozenset[str] = frozenset(),
    machines: Iterable[DrivenMachine | ByHand] = (),
    kinds: Iterable[Kind] = (),
    filers: Callable[[str], Filer | None] = lambda _repo: None,
    journal: Callable[[Path], Journal] = Journal,
    cache: Callable[[Path], AssetFetcher] = lambda path: AssetFetcher(path, 10**9, None),
    clock: Clock | None = None,
    bounds: ServerLimits | None = None,
    private: bool = True,
    apis: tuple[str, ...] = (),
    groups: Sequence[Group] = (),
    templates: Iterable[Template] = (),
    roster: Roster | None = None,
    launcher: Launcher | None = None,
    doors: AccessSettings | None = None,
    notifications: NotificationPlan | None = None,
    health: HealthRules | None = None,
    welcome: bool = True,
    github: GitHubUse | None = None,
    testflinger: TestflingerUse | None = None,
    api: ApiAddress | None = None,
) -> AsyncIterator[LabBench]:
    """A lab whose journal is `journal.db` in this folder, where workloads are too; `kinds` beside those that boot.

    With `doors`, or if it is not private, it is a service with users. With `api` it has an address of its own for
    people and programs, where its pages are too.
    """
    if doors is None and not private:
        doors = AccessSettings()
    if journal is Journal:
        _begin_journal(folder)
    opened = journal(folder / "journal.db")
    opened.open()
    async with AsyncExitStack() as stack:
        stack.callback(opened.close)
        store = cache(folder / "cache")
        stack.push_async_callback(store.aclose)
        clock = clock or Clock()
        lab = Lab(
            clock=clock,
            journal=opened,
            cache=store,
            locations=Locations(folders={"w": str(folder)}, apis=apis),
            kinds=[BOOT_KIND, *kinds],
            machines=[each.driven() if isinstance(each, ByHand) else each for each in machines],
            filers=filers,
            private=private and doors is None,
            notifications=notifications,
            health=health,
            welcome=welcome,
            github=github,
            testflinger=testflinger,
        )
        access: PrivateAccess | ServiceAccess = PrivateAccess(TOKEN)
        if doors is not None:
            access = ServiceAccess(lab.lab_state, TOKEN, doors, CHEAP)
            stack.callback(access.close)
            await access.open()
        where = Address(host=host, port=port, path=path, allow=allow, tools=tools, announce=False)
        await lab.group_service.configure(groups, templates)
        if roster is not None:
            await lab.configure(roster, None, lambda _machine: DrivenMachine(), launcher or PlayedRounds())
        await lab.recall()
        server = LabServer(lab, where, access, bounds, api)
        await server.start()
        stack.push_async_callback(server.stop)
        await lab.start(server.machine_url, opened.reader.pending_issues())
        stack.push_async_callback(lab.stop)
        bench = LabBench(lab, server, opened, clock, folder, access)
        yield bench
        for wire in bench.wires:
            wire.reset()


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for handle in range(1024):
        with suppress(OSError):
            count += stat.S_ISSOCK(os.fstat(handle).st_mode)
    return count


async def gathered(*work: Awaitable[Any]) -> list[Any]:
    """All results, in order."""
    return list(await asyncio.gather(*work))


def plan(folder: Path, **changes: Any) -> LabConfig:
    """What a session in this folder has its lab built from."""
    usual = LabConfig(
        token=None,
        api_url="https://api.github.com",
        issues_repo="",
        host="127.0.0.1",
        port=0,
        path="/dispatch",
        allow=(),
        announce=False,
        machines=(),
        resume=False,
        db=str(folder / "journal.db"),
        cache=folder / "cache",
        cache_limit=10**9,
    )
    return replace(usual, **changes)


def embedded(folder: Path, **changes: Any) -> InProcessLab:
    """A lab of this session, in this process."""
    return InProcessLab(plan(folder, **changes))


def sims(count: int) -> tuple[Spec, ...]:
    """Simulated machines that are in a hurry."""
    return (Spec(scheme="sim", count=count, options=(("pace", "0.002"),), text=f"sim:{count}"),)
