"""A service killed at commits of its journal while a run is queued again and again; then started again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path

import httpx
import pytest
from disk import killed, needs_shim, preloaded
from faults import fault
from torture import TORTURE, drawn
from waiting import PATIENCE

pytestmark = needs_shim

MOST = 3  # times that the run is queued again
SURE = 10  # steps that this takes at least, the beginnings and ends of commits
STEPS = range(1, 60 if TORTURE else SURE + 1)

_numbers = count(1)

FILE = """\
server: {{boot: "{host}:8765", api: "{host}:8766", announce: false}}
database: {{url: lab.db}}
sources: {{cache: assets, folders: {{kept: kept}}}}
machines:
- {{id: sim, driver: "sim?pace=0.001"}}
groups:
- id: all
  templates:
  - {{id: soak, kind: boot, requeue: {most}, payload: {{media: efi, location: "folder:kept/soak.efi", size: 16}}}}
"""


class Service:
    """One with a journal and addresses of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, f"127.{1 + os.getpid() % 250}.9.{next(_numbers)}"
        (folder / "kept").mkdir(parents=True)
        (folder / "kept" / "soak.efi").write_bytes(b"sim: pass\n".ljust(16))
        (folder / "lab.yaml").write_text(FILE.format(host=self.host, most=MOST))
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self, **environ: str) -> None:
        self.starts += 1
        command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config", "lab.yaml"]
        said = self.folder / "said"
        with said.open("wb") as out, (self.folder / "errors").open("ab") as err:
            self.process = subprocess.Popen(
                command, env={**preloaded(), **environ}, cwd=self.folder, stdout=out, stderr=err
            )
        give_up = time.monotonic() + PATIENCE
        while said.read_text().count("\n") < 3:
            assert self.process.poll() is None, (self.folder / "errors").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def is_gone(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def queue(self) -> None:
        headers = {"Authorization": f"Bearer {(self.folder / 'lab.db.token').read_text().strip()}"}
        url = f"http://{self.host}:8766/api/v1/groups/all/queue"
        httpx.post(url, json={"template": "soak"}, headers=headers, timeout=PATIENCE).raise_for_status()

    def runs(self) -> list[tuple[str, str, str | None]]:
        """Each run, which one it repeats, and its outcome."""
        with closing(sqlite3.connect(self.folder / "lab.db")) as db:
            return db.execute("SELECT id, again_of, outcome FROM dispatch_runs ORDER BY position").fetchall()


def crash_at(step: int, service: Service) -> list[tuple[str, str, str | None]]:
    """Kill the service at a step after the run was queued, and start it again; returns the runs in the end."""
    sign = service.folder / "sign"
    service.start(**killed(service.folder / "lab.db", step, commits=True), DISK_SIGN=str(sign))
    service.queue()
    sign.touch()
    give_up = time.monotonic() + PATIENCE
    while not ((runs := service.runs()) and len(runs) > MOST and all(outcome for _, _, outcome in runs)):
        if service.is_gone():
            service.start()
        assert time.monotonic() < give_up, (runs, (service.folder / "errors").read_text())
        time.sleep(0.02)
    time.sleep(0.3)  # in which one too many would come
    return service.runs()


@fault(
    "Crashes",
    "a service is killed (SIGKILL) at any commit of its journal while a run is queued again after its outcome",
    outcome="started again: it is queued again as often as it was to be, none is lost and none comes twice",
    told="the runs in the history",
)
@pytest.mark.draw(1, of="services that are killed")
def test_a_run_is_queued_again_once_wherever_the_service_is_killed(tmp_path: Path) -> None:
    wrong, starts = {}, 0
    for step in drawn(STEPS, 2):
        service = Service(tmp_path / str(step))
        try:
            runs = crash_at(step, service)
        finally:
            service.stop()
        starts += service.starts - 1
        ids = [run for run, _, _ in runs]
        if [again for _, again, _ in runs] != ["", *ids[:-1]] or len(ids) != MOST + 1:
            wrong[step] = runs
        if any(outcome != "passed" for _, _, outcome in runs):
            wrong[step] = runs
    assert not wrong
    assert starts, "none was killed"
