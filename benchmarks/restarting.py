"""A service with 100,000 runs of history, from start to ready and from SIGTERM to gone, against one with none.

The history is that of one session, which simulated machines ran, written again and again under other names. The same
start is measured after the service was killed while five sessions had their runs run.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_lab import Measure, workload

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.store import schema

RUNS = 100_000
OF_SESSION = 20
TIMES = 5
HOUR = 3_600_000_000  # microseconds
READY = 1.5  # seconds
GONE = 2.0  # seconds
PATIENCE = 60.0
SESSIONS, EACH = 5, 400  # sessions under which a service is killed, and their runs
WORKING = 1.5  # seconds after which it is


@contextlib.contextmanager
def _service(folder: Path, times: dict[str, list[float]], ends_by: int = signal.SIGTERM) -> Iterator[str]:
    """Start one, and end it; note how long both took."""
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--no-mdns", "--bind=127.0.0.1:0"]
    words = [
        f"--db={folder}/lab.db",
        f"--cache={folder}/assets",
        f"--token-file={folder}/token",
        "--machine=sim:4?pace=0.001",
    ]
    began = time.perf_counter()
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        times.setdefault("ready", []).append(time.perf_counter() - began)
        yield said.removeprefix("dispatch: serving ").strip()
        began = time.perf_counter()
        process.send_signal(ends_by)
        process.wait(PATIENCE)
        times.setdefault("gone", []).append(time.perf_counter() - began)


def _session(folder: Path) -> None:
    """Run one session of simulated workloads."""
    (folder / "w").mkdir()
    for number in range(OF_SESSION):
        (folder / "w" / f"w{number}.efi").write_bytes(b"sim: pass\n")
    with _service(folder, {}) as url:
        options = ["-q", "-p", "no:cacheprovider", "--dispatch-dir=w", f"--dispatch-lab={url}"]
        token = ["--dispatch-lab-token", (folder / "token").read_text().strip()]
        command = [sys.executable, "-m", "pytest", *options, *token]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _load(url: str, folder: Path) -> None:
    """Have simulated machines run the runs of several sessions."""
    token = (folder / "token").read_text().strip()
    for session in range(SESSIONS):
        with contextlib.closing(LabClient(url, token)) as client:
            opened = client.open(OpenSession(source=f"bench {session}", policy=Policy()))
            files = [folder / "w" / f"w{number % OF_SESSION}.efi" for number in range(EACH)]
            wanted = [RunRequest(key=str(n), workload=workload(file, file.name)) for n, file in enumerate(files)]
            client.submit(opened.id, wanted)
    time.sleep(WORKING)


def _copy(journal: Path, times: int) -> int:
    """Write what is in a journal again and again under other names; returns the number of its runs."""
    with contextlib.closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA synchronous=OFF")
        [(session,)] = db.execute("SELECT DISTINCT session FROM dispatch_runs").fetchall()
        for table in (schema.sessions, schema.runs, *schema.OF_RUNS):
            names = [column.name for column in table.columns if column is not table.autoincrement_column]
            rows = db.execute(f"SELECT {', '.join(names)} FROM {table.name}").fetchall()
            into = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            for number in range(times):
                new = f"{number:012x}"
                shift = -(number + 1) * HOUR if table is schema.history else 0  # its ids are times
                db.executemany(into, [_renewed(row, session, new, shift) for row in rows])
        db.commit()
        [(count,)] = db.execute("SELECT count(*) FROM dispatch_runs").fetchall()
    return int(count)


def _renewed(row: Sequence[Any], old: str, new: str, shift: int) -> list[Any]:
    renewed: list[Any] = [value.replace(old, new) if isinstance(value, str) else value for value in row]
    return [renewed[0] + shift, *renewed[1:]] if shift else renewed


def measure() -> list[Measure]:
    """Take turns, so that both have the same noise."""
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    killed: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as one, tempfile.TemporaryDirectory() as other:
        _session(Path(one))
        count = _copy(Path(one) / "lab.db", RUNS // OF_SESSION)
        with _service(Path(other), {}):
            pass
        for _ in range(TIMES):
            for folder, times in ((one, ours), (other, theirs)):
                with _service(Path(folder), times):
                    time.sleep(0.5)
        with contextlib.closing(sqlite3.connect(Path(one) / "lab.db")) as db:
            [(left,)] = db.execute("SELECT count(*) FROM dispatch_runs").fetchall()
        for number in range(TIMES + 1):  # the first start of them is after an end in order
            with _service(Path(one), killed if number else {}, signal.SIGKILL) as url:
                _load(url, Path(one))
    bounds = {"ready": ("from its start to ready", READY), "gone": ("from SIGTERM to gone, idle", GONE)}
    note = f"{left:,} of {count:,} runs are left"
    measures = [
        _measure(what, bound, ours[key], theirs[key], note, kept=left == count) for key, (what, bound) in bounds.items()
    ]
    crash = f"from its start to ready, after SIGKILL under {SESSIONS} sessions with {SESSIONS * EACH:,} runs"
    return [*measures, _measure(crash, READY, killed["ready"], theirs["ready"], note, kept=left == count)]


def _measure(what: str, bound: float, ours: list[float], theirs: list[float], note: str, *, kept: bool) -> Measure:
    mine, reference = statistics.median(ours), statistics.median(theirs)
    return Measure(
        f"a service with {RUNS:,} runs of history, {what}",
        "one without history",
        f"{mine:.2f} s",
        f"{reference:.2f} s",
        mine / reference,
        f"< {bound:g} s",
        mine < bound and kept,
        f"first: {ours[0]:.2f} s; {note}",
    )


if __name__ == "__main__":
    for result in measure():
        result.show()
