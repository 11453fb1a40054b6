"""A lab in a process of its own, and the measure that every benchmark returns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.media import BOOT, BootPayload
from pytest_dispatch.core.model import Policy, Workload
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.server.app import LabServer
from pytest_dispatch.server.auth.authentication import PrivateAccess
from pytest_dispatch.server.boot.identification import Address
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.workloads.boot.service import BOOT_KIND

STARTING = 30.0  # seconds that a server may take until it listens
GITHUB = 18095  # the port of what plays GitHub for the labs of benchmarks
PLACES = Locations(folders={"root": "/"}, apis=(f"http://127.0.0.1:{GITHUB}",))


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    Attributes:
        what: What was measured.
        reference: What it is compared with.
        ours: Our figure, with its unit.
        theirs: The reference's.
        ratio: Ours to theirs.
        to_reach: The bound, as text.
        good: Whether it was reached.
        note: What explains the figure.
    """

    what: str
    reference: str
    ours: str
    theirs: str
    ratio: float
    to_reach: str
    good: bool
    note: str = ""

    def show(self) -> None:
        """Print it."""
        verdict = "reached" if self.good else "NOT REACHED"
        print(f"{self.what}\n  ours {self.ours}; {self.reference}: {self.theirs}")
        print(f"  ratio {self.ratio:.2f}, to reach {self.to_reach}: {verdict}")
        if self.note:
            print(f"  {self.note}")


@dataclass(frozen=True)
class RunningLab:
    """A lab that runs in another process."""

    client: LabClient
    session: str
    url: str
    pid: int

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def running_lab(files: list[Path], count: int) -> Iterator[RunningLab]:
    """A lab with `count` workloads queued, which take turns over `files`."""
    workloads = [workload(files[n % len(files)], f"w{n}.efi") for n in range(count)]
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as cache, lab_with(workloads, Path(cache)) as lab:
        yield lab


@contextlib.contextmanager
def lab_with(workloads: list[Workload], cache: Path, expect: str = "") -> Iterator[RunningLab]:
    """A lab with these workloads queued, which keeps assets in `cache`."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
        command = [sys.executable, __file__, folder, str(cache)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            told = json.loads(process.stdout.readline())
            client = LabClient(told["url"], told["token"], locations=PLACES)
            policy = Policy(limits={"assign": 600, "boot": 600, "report": 600}, expect=expect)
            session = client.open(OpenSession(source="bench", policy=policy)).id
            wanted = [RunRequest(key=str(n), workload=each) for n, each in enumerate(workloads)]
            for start in range(0, len(wanted), 5000):
                client.submit(session, wanted[start : start + 5000])
            yield RunningLab(client, session, told["url"], process.pid)
            client.close()
            process.stdin.close()
            process.wait(10)


def until_it_listens(port: int) -> None:
    """Wait for a server that was started.

    Raises:
        TimeoutError: It does not listen.
    """
    give_up = time.monotonic() + STARTING
    while time.monotonic() < give_up:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")


def workload(path: Path, name: str) -> Workload:
    """Return a workload whose bytes are in a file."""
    payload = BootPayload(media="efi", location=str(path), size=path.stat().st_size)
    return Workload(name=name, kind=BOOT, payload=payload.as_json())


async def _serve(folder: Path, assets: Path) -> None:
    journal = Journal(folder / "journal.db")
    journal.open()
    cache = AssetFetcher(assets, 10**12, None)
    lab = Lab(clock=SteadyClock(), journal=journal, cache=cache, locations=PLACES, kinds=[BOOT_KIND])
    token = secrets.token_urlsafe(24)
    server = LabServer(lab, Address(host="0.0.0.0", port=0, announce=False), PrivateAccess(token))
    await server.start()
    await lab.start(server.machine_url, [])
    print(json.dumps({"url": server.url, "token": token}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
    await lab.stop()
    await cache.aclose()
    journal.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
