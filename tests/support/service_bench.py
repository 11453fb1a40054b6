"""A service with users, and requests of theirs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from labs import TOKEN, LabBench, Reply, call, running_lab

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab.round_runner import Launcher
from pytest_dispatch.server.api.account_schemas import NewToken, NewUser, SignInRequest
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunRequest
from pytest_dispatch.server.app import ApiAddress
from pytest_dispatch.server.auth.authentication import ServiceAccess
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import AccessSettings
from pytest_dispatch.server.limits.bounds import ServerLimits

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Opened:
    """A session of a user with one run."""

    session: str
    run: str
    epoch: int = 1


@dataclass
class ServiceBench:
    """A running service.

    Attributes:
        bench: The lab.
        secrets: The secret of a token of each user, by name.
    """

    bench: LabBench
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def access(self) -> ServiceAccess:
        assert isinstance(self.bench.access, ServiceAccess)
        return self.bench.access

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = TOKEN,
        source: str = "127.0.0.1",
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request with a token; without any if it is empty."""
        given = {"Authorization": f"Bearer {token}"} if token else {}
        content = raw if body is None else msgspec.json.encode(body)
        return await call(
            self.bench.api_port,
            method,
            PREFIX + path,
            source=source,
            headers={**given, **(headers or {})},
            body=content,
        )

    async def added(self, name: str, role: Role, *, password: str = "") -> str:
        """Add a user, and return the secret of a token of theirs."""
        assert (await self.ask("POST", "/users", NewUser(name=name, role=role, password=password))).status == 201
        self.secrets[name] = await self.token(name)
        return self.secrets[name]

    async def token(self, user: str, **wanted: Any) -> str:
        """Make a token of a user, and return its secret."""
        reply = await self.ask("POST", "/tokens", NewToken(label="a test", user=user, **wanted))
        assert reply.status == 201, reply.text
        secret: str = reply.json["secret"]
        return secret

    async def token_elsewhere(self, user: str) -> str:
        """Make a token of a user for a group that the lab has no more, and return its secret."""
        groups = self.bench.lab.group_service
        await groups.configure([Group(id="elsewhere")], ())
        secret = await self.token(user, groups=("elsewhere",))
        await groups.configure((), ())
        return secret

    async def session(self, token: str, name: str = "a.efi") -> Opened:
        """Open a session with a run that waits."""
        wanted = OpenSession(source="w", policy=Policy(), lease=LeaseWanted(kind=LeaseKind.DETACHED))
        session = (await self.ask("POST", "/sessions", wanted, token=token)).json["id"]
        runs = [RunRequest(key=name, workload=self.bench.workload(name))]
        headers = {"Dispatch-Epoch": "1"}
        reply = await self.ask("POST", f"/sessions/{session}/runs", runs, token=token, headers=headers)
        assert reply.status == 200, reply.text
        return Opened(session, reply.json[0]["run"]["id"])

    async def sign_in(self, name: str, password: str = PASSWORD, *, source: str = "127.0.0.1") -> Reply:
        return await self.ask("POST", "/sign-in", SignInRequest(name=name, password=password), token="", source=source)

    async def browser(self, name: str, password: str = PASSWORD) -> Browser:
        """A browser that is signed in."""
        return Browser.of(self, await self.sign_in(name, password))

    async def audit(self, **wanted: str) -> list[dict[str, Any]]:
        """Entries of the audit log, the newest first."""
        query = "&".join(f"{name}={value}" for name, value in wanted.items())
        entries: list[dict[str, Any]] = (await self.ask("GET", f"/audit?{query}")).json
        return entries


@dataclass
class Browser:
    """A browser that is signed in: it sends its cookie, and with changes what the page has for that."""

    service: ServiceBench
    cookie: str
    csrf: str

    @classmethod
    def of(cls, service: ServiceBench, reply: Reply) -> Browser:
        assert reply.status == 200, reply.text
        return cls(service, reply.headers["set-cookie"].partition(";")[0], reply.json["csrf"])

    async def ask(self, method: str, path: str, body: object = None, csrf: str | None = None) -> Reply:
        headers = {"Cookie": self.cookie} | ({} if csrf is None else {"Dispatch-CSRF": csrf})
        return await self.service.ask(method, path, body, token="", headers=headers)

    async def change(self, method: str, path: str, body: object = None) -> Reply:
        return await self.ask(method, path, body, self.csrf)


@asynccontextmanager
async def service(
    folder: Path,
    *,
    bounds: ServerLimits | None = None,
    pages: bool = False,
    kinds: Iterable[Kind] = (),
    roster: Roster | None = None,
    launcher: Launcher | None = None,
    **settings: Any,
) -> AsyncIterator[ServiceBench]:
    """A service with users; with `pages`, these and the API have an address of their own; `kinds` beside boot."""
    api = ApiAddress(host="127.0.0.1", port=0) if pages else None
    doors = AccessSettings(**settings)
    async with running_lab(
        folder, doors=doors, bounds=bounds, api=api, kinds=kinds, roster=roster, launcher=launcher
    ) as bench:
        yield ServiceBench(bench)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def cookies_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The attributes of the cookie that an answer sets, in lower case."""
    first, *others = headers["set-cookie"].split("; ")
    return {name.lower(): value for name, _, value in (each.partition("=") for each in [first, *others])}
