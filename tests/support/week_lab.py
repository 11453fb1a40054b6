"""A service as `dispatch serve` builds it, in this process, whose clock a test moves on."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from drivers import offer_driver
from labs import CHEAP, Clock

from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.lab_program.lab_file.lab_config import read_service
from pytest_dispatch.server.auth.passwords import Passwords
from pytest_dispatch.store.schema import metadata

HOUR, DAY = 3600.0, 86_400.0
KEPT_RUNS, KEPT_AUDIT, SIGNED_IN = 1.5 * DAY, 2 * DAY, 4 * HOUR
PASSWORD = "correct horse battery"
STRANGERS = tuple(f"127.0.7.{number}" for number in range(1, 7))

FILE = """\
server:
  {{boot: "127.0.0.1:0", api: "127.0.0.1:0", announce: false, allow: [127.0.0.0/8],
    tls: {{certificate: lab.pem, key: lab.key}}}}
database: {{url: lab.db}}
auth: {{users: [{{name: ada, role: operator, password: "${{PASSWORD}}"}}], session_ttl: 4h}}
sources: {{cache: assets, folders: {{kept: kept}}}}
retention: {{runs: 36h, audit: 2d}}
limits: {{connections: 1000}}
machines:
{machines}
groups:
- {{id: lab, max_running: {most}, description: "as of reload {reload}"}}
{groups}
notifications:
  queue_wait: 30m
  targets: [{{name: slow, url: "{slow}", severity: warning, per_hour: 20}}]
"""
TEMPLATES = """\
- id: small
  labels: [size=small]
  max_running: 3
  templates:
  - {{id: nightly, kind: boot, payload: {{media: efi, location: "folder:kept/nightly.efi", size: 64}}}}
"""
NIGHT = "- {id: night, labels: [size=large]}\n"
KNOWN = "- {{id: rack-{number}, identities: {{addresses: [{address}]}}, labels: [size={size}, rack]}}"
DRIVEN = '- {{id: {name}, driver: "{scheme}?pace=0.002", labels: [size={size}]}}'

#: A driver whose machine cannot be powered on any more after a few times.
FLAKY = """\
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.sim.driver import SimMachine

class Flaky(SimMachine):
    starts = 0

    async def on(self):
        self.starts += 1
        if self.starts > 2:
            raise MachineError("its power supply does not answer")
        await super().on()

def create(spec, state):
    return [Flaky(pace=0.002).driven()]
"""


@dataclass
class WeekLab:
    """One that runs, and how to reach it.

    Attributes:
        folder: Where it keeps everything.
        slow: Where it tells of what happens.
        issued: How many certificates it has had.
        reloads: How often its configuration was read anew.
    """

    folder: Path
    slow: str
    clock: Clock
    ca: trustme.CA = field(default_factory=trustme.CA)
    issued: int = 0
    reloads: int = 0
    _lab: InProcessLab | None = None

    @property
    def lab(self) -> InProcessLab:
        assert self._lab is not None
        return self._lab

    @property
    def port(self) -> int:
        """Where machines boot."""
        return int(self.lab.boot_url.split(":")[2].partition("/")[0])

    def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put there what it is configured with."""
        (self.folder / "kept").mkdir()
        (self.folder / "kept" / "nightly.efi").write_bytes(b"sim: pass\n".ljust(64, b"\0"))
        (self.folder / "tmp").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(self.folder / "tmp"))
        offer_driver(self.folder / "drivers", "flaky", "flaky_driver")
        (self.folder / "drivers" / "flaky_driver.py").write_text(FLAKY)
        monkeypatch.syspath_prepend(str(self.folder / "drivers"))
        self.ca.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(self.folder / "ca.pem"))
        self.issue()
        self.configure()

    def issue(self) -> None:
        """Replace the certificate on disk."""
        self.issued += 1
        issued = self.ca.issue_cert("127.0.0.1", organization_name=f"number {self.issued}")
        (self.folder / "lab.key").write_bytes(issued.private_key_pem.bytes())
        (self.folder / "lab.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))

    def configure(self) -> None:
        """Write its configuration: groups and machines come and go with each reload."""
        even = self.reloads % 2 == 0
        sizes = ("small", "large")
        known = [
            KNOWN.format(number=number, address=address, size=sizes[number % 2])
            for number, address in enumerate(STRANGERS)
            if even or number
        ]
        driven = [DRIVEN.format(name=f"sim-{n}", scheme="sim", size=sizes[n % 2]) for n in range(3)]
        flaky = [DRIVEN.format(name="flaky", scheme="flaky", size="large")] if even else []
        text = FILE.format(
            machines="\n".join([*known, *driven, *flaky]),
            groups=TEMPLATES.format() + ("" if even else NIGHT),
            most=20 + self.reloads % 3,
            reload=self.reloads,
            slow=self.slow,
        )
        (self.folder / "lab.yaml").write_text(text)

    async def start(self) -> None:
        passwords = Passwords(CHEAP)
        environ = {"PASSWORD": await passwords.hashed(PASSWORD)}
        passwords.close()
        config, service = read_service(self.folder / "lab.yaml", environ)
        self._lab = InProcessLab(config, service, clock=self.clock)
        await asyncio.to_thread(self._lab.start, "")

    async def reload(self) -> None:
        """Have it read another configuration, as SIGHUP does."""
        self.reloads += 1
        self.configure()
        await asyncio.to_thread(self.lab.reload, "SIGHUP")

    def count(self, sql: str) -> int:
        [found] = self.counts([sql])
        return found

    def counts(self, queries: Iterable[str]) -> list[int]:
        with closing(sqlite3.connect(self.folder / "lab.db")) as db:
            return [int(db.execute(each).fetchone()[0]) for each in queries]

    def sends_since_before(self, then: float) -> bool:
        """Whether a machine has been receiving something since before then; the lab's own machines tell nobody else."""
        return self.count(f"SELECT count(*) FROM dispatch_attempts WHERE state = 'downloading' AND heard < {then}") > 0

    def rows(self) -> dict[str, int]:
        """How many rows each table has that has any."""
        found = self.counts(f"SELECT count(*) FROM {name}" for name in metadata.tables)
        counts = dict(zip(metadata.tables, found, strict=True))
        return {name.removeprefix("dispatch_"): count for name, count in counts.items() if count}

    def temporary(self) -> list[str]:
        """Files of the lab beside those that it keeps: its own temporary ones, and those that came half."""
        own = self.folder / "tmp"
        return sorted(str(each.relative_to(own)) for each in own.rglob("*")) + sorted(
            each.name for each in (self.folder / "assets" / "partial").glob("*")
        )


@asynccontextmanager
async def week_lab(folder: Path, slow: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WeekLab]:
    """One with a certificate, users, machines of three sorts, retention, and somebody slow to tell."""
    week = WeekLab(folder, slow, Clock())
    week.prepare(monkeypatch)
    await week.start()
    try:
        yield week
    finally:
        await asyncio.to_thread(week.lab.stop)
        sys.modules.pop("flaky_driver", None)
