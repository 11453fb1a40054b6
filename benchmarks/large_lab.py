"""A service as large as the bounds of its pages name: a long past, many machines and people, and a long queue."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa
from bench_lab import workload

from machines import Ask, address, drive
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunRequest
from pytest_dispatch.store.journal import Journal

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))  # for a history of any size

from made_up_history import YEAR, make_history, make_steps

MACHINES, GROUPS, TEMPLATES, USERS = 200, 8, 400, 300
MONTH = 30 * 86_400.0  # seconds of whose runs the steps are known
PATIENCE = 60.0  # seconds
REST, IDLE = 0.5, 0.1  # seconds between two looks at a lab's CPU time, and how much of it is rest
SETTLES = 120.0  # longest wait until it has nothing left to do, in seconds
LIMITS = {"assign": 3600.0, "boot": 3600.0, "report": 3600.0}

_FILE = """\
server: {{boot: "127.0.0.1:0", api: "127.0.0.1:0", announce: false, allow: [127.0.0.0/8]}}
database: {{url: "{database}"}}
sources: {{cache: assets, folders: {{kept: .}}}}
auth: {{users: []}}
limits: {{rate: 100000, burst: 100000}}
machines:
{machines}
groups:
{groups}
"""
_MACHINE = "- {{id: m-{0}, labels: [rack={1}, arch=x86_64, memory=64, gpu], identities: {{addresses: [{2}]}}}}"
_GROUP = "- id: group-{0}\n  name: Rack {0}\n  labels: [rack={0}]\n  templates:"
_TEMPLATE = (
    '  - {{id: t-{0}, name: "test-{0}.efi", kind: boot, labels: [nightly], '
    'payload: {{media: efi, location: "folder:kept/w.efi", size: 16}}}}'
)

#: An entry of the audit log for each run that ended.
_AUDIT = """
INSERT INTO dispatch_audit (at, who, signed_in, address, action, target, before, after)
SELECT ended, who, 'token', '127.0.0.1', CASE WHEN flaky THEN 'run.hold' ELSE 'run.queue' END, run,
    '{{}}', '{{"priority": "normal"}}' FROM dispatch_history ORDER BY id
"""


@dataclass(frozen=True)
class LargeLab:
    """A service that runs in another process.

    Attributes:
        url: Of its pages and its API.
        boot: Its boot URL.
        token: Of an administrator.
        client: Asks its API.
    """

    url: str
    boot: str
    token: str
    pid: int
    folder: Path
    client: httpx.Client

    @property
    def boot_port(self) -> int:
        """Where machines boot."""
        return urlsplit(self.boot).port or 0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers."""
        reply = self.client.request(method, f"/api/v1{path}", json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def queue(self, sessions: int, runs: int) -> None:
        """Have so many runs wait in sessions, in all groups."""
        file = self.folder / "w.efi"
        with contextlib.closing(LabClient(self.url, self.token)) as client:
            for session in range(sessions):
                lease = LeaseWanted(kind=LeaseKind.DETACHED, owner=f"person-{session}")
                opened = client.open(OpenSession(source=f"lab/firmware@v{session}", policy=_policy(), lease=lease))
                numbers = range(session * runs // sessions, (session + 1) * runs // sessions)
                wanted = [
                    replace(workload(file, f"host-ubuntu-25.04-{n}.efi"), group=f"group-{n % GROUPS}") for n in numbers
                ]
                client.submit(opened.id, [RunRequest(key=str(n), workload=each) for n, each in enumerate(wanted)])

    def boots(self, *asks: Ask) -> None:
        """Have all machines do the same at once."""
        drive(self.boot_port, [asks] * MACHINES)

    def settle(self) -> None:
        """Return when the lab has nothing left to do.

        Raises:
            TimeoutError: It always has.
        """
        give_up, before = time.monotonic() + SETTLES, self._cpu()
        while time.monotonic() < give_up:
            time.sleep(REST)
            used, before = self._cpu() - before, self._cpu()
            if used < IDLE * REST:
                return
        raise TimeoutError(f"the lab still uses {used:.2f} s of CPU in {REST:g} s")

    def _cpu(self) -> float:
        used = 0
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                used += int((thread / "schedstat").read_text().split()[0])
        return used / 1e9


def _policy() -> Policy:
    return Policy(limits=LIMITS, expect="report")


@contextlib.contextmanager
def large_lab(history: int = 0, database: str = "") -> Iterator[LargeLab]:
    """Run a lab with machines, groups, templates and people, after so many runs have ended; a file, or at a URL."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if history:
            _fill(database or str(folder / "lab.db"), history)
        (folder / "w.efi").write_bytes(b"M" * 16)
        (folder / "lab.yaml").write_text(_file(database or "lab.db"))
        command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config", "lab.yaml"]
        process = stack.enter_context(
            subprocess.Popen(
                [*command, "--token-file=token"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.send_signal, signal.SIGTERM)
        assert process.stdout is not None
        said = [process.stdout.readline().split()[-1] for _ in range(3)]
        token = (folder / "token").read_text().strip()
        client = stack.enter_context(
            httpx.Client(base_url=said[0], headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
        )
        lab = LargeLab(said[0], said[2], token, process.pid, folder, client)
        for number in range(USERS):
            lab.ask("POST", "/users", {"name": f"person-{number}", "role": "operator"})
        yield lab


def _file(database: str) -> str:
    groups = []
    for group in range(GROUPS):
        groups.append(_GROUP.format(group))
        groups += [_TEMPLATE.format(n) for n in range(group, TEMPLATES, GROUPS)]
    machines = [_MACHINE.format(n, n % GROUPS, address(n)) for n in range(MACHINES)]
    return _FILE.format(database=database, machines="\n".join(machines), groups="\n".join(groups))


def _fill(where: str, history: int) -> None:
    """Write the past into a journal: a year that ends now."""
    with contextlib.closing(Journal(where)) as journal:
        journal.open()
    engine = sa.create_engine(where if "://" in where else f"sqlite:///{where}")
    began = time.time() - YEAR
    make_history(engine, history, began)
    make_steps(engine, began + YEAR - MONTH)
    with engine.begin() as db:
        db.exec_driver_sql(_AUDIT.format())
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            for table in ("dispatch_moments", "dispatch_audit"):
                db.exec_driver_sql(f"VACUUM ANALYZE {table}")
    engine.dispose()


def without_password(url: str) -> str:
    """Return the URL of a database as a file may name it; the password goes by the environment."""
    made = sa.make_url(url)
    os.environ["PGPASSWORD"] = str(made.password)
    return made.set(password=None).render_as_string()
