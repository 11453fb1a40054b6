"""A service whose PostgreSQL is stopped for a while, under a session and a workload that reports."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from beacons import BEACON
from databases import Place, PostgresServer
from faults import fault
from plugin_bench import WITHOUT, Bench
from shared_labs import SharedLab
from strangers import Stranger
from torture import larger
from waiting import PATIENCE

AWAY = larger(4, 60)  # seconds
NAMES = [f"{letter}.efi" for letter in "abcdefgh"]
SAYS = {name: [{"title": name, "result": "passed"}] for name in NAMES}


@pytest.fixture
def lab(tmp_path: Path, own_postgres: PostgresServer) -> Iterator[SharedLab]:
    words = ("--machine=sim:2?pace=0.05", f"--db={own_postgres.url.replace(':s3cret', '')}", "--allow=127.0.0.0/8")
    with SharedLab(tmp_path / "lab", words, dict(os.environ)) as lab:
        yield lab


def reports(server: PostgresServer) -> Counter[str]:
    found = Place(server.url)
    try:
        names = "SELECT name FROM dispatch_reports JOIN dispatch_runs ON dispatch_runs.id = run"
        return Counter(row[0] for row in found.all(names))
    finally:
        found.engine.dispose()


def wait_for(path: Path, text: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while text not in path.read_text():
        assert time.monotonic() < give_up, path.read_text()
        time.sleep(0.01)


@fault(
    "Crashes",
    "the PostgreSQL server of a service's journal is stopped for a minute, and started again",
    outcome="503 before what cannot be kept; then all goes on: no report is lost, nothing is run twice",
    told="`its server does not answer`; `the lab is back after …`; `beacon` and pytest try again",
)
def test_a_session_and_a_workload_outlast_it(bench: Bench, lab: SharedLab, own_postgres: PostgresServer) -> None:
    bench.workloads(dict.fromkeys("abcdefgh", "pass"))
    out = bench.path / "out"
    words = ("--dispatch-dir=w", f"--dispatch-lab={lab.url}", *WITHOUT, "-v", "--dispatch-drain=0")
    run = bench.forks.start(bench.path, *words, out=out, environ={**os.environ, "DISPATCH_TOKEN": lab.token})
    boot = (lab.folder / "said").read_text().splitlines()[2].removeprefix("dispatch: machines boot from ")
    by_hand = Stranger("127.0.0.1", urlsplit(boot).port or 0, "127.0.0.1", SAYS)
    taken = by_hand.takes()
    assert by_hand.says_that_it_booted() == 200
    own_postgres.stop()
    began = time.monotonic()
    while by_hand.says_that_it_booted() == 200:  # that is on disk already, until something else cannot be
        assert time.monotonic() < began + PATIENCE
    beacon = subprocess.Popen(
        [*BEACON, "report", "--title", "outlasted", "--url", boot, "--wait", "5m"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(AWAY)
    assert beacon.poll() is None
    assert run.poll() is None, out.read_text()
    own_postgres.start()
    said, _ = beacon.communicate(timeout=PATIENCE)
    assert beacon.returncode == 0, said
    with by_hand:  # it comes back, so that nobody waits for more reports of it, and runs what is left
        assert run.wait(PATIENCE) == pytest.ExitCode.OK, out.read_text()
    assert "8 passed" in out.read_text()
    assert time.monotonic() - began >= AWAY
    assert reports(own_postgres) == Counter(NAMES), taken  # the one that `beacon` sent is among them
    lab.end()
