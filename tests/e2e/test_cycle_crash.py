"""A cycle of which the lab, pytest or the process between them is killed: it goes on with the same round."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults import fault
from shared_labs import SharedLab
from torture import drawn, seed
from waiting import PATIENCE

from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeTestflinger

KILLS = 51  # as many for each of the victims
LONGEST = 6.0  # seconds after which something is killed, on an idle computer about as long as a round takes
LONG = 4 * PATIENCE
WORKLOADS = ("a", "b", "c", "d")

MACHINES = 6
SPEED = 60.0  # of the fake's agents: a provisioning takes ten seconds

#: A rack that is deployed by the same lab.
RACK = """
- name: rack-7
  folder: .
  arguments: [--dispatch-rack=rack-7, --dispatch-first-look=0, --dispatch-retries=1, -p, "no:cacheprovider"]
  every: 6h
  limits: {round: 1h}
  environment: {MAAS_URL: "{maas}", MAAS_API_KEY: "{key}", TESTFLINGER_SERVER: "{farm}"}
testflinger: {url: "{farm}", interval: 1s}
"""

FILE = """
server: {announce: false, boot: "HOST:8765", api: "HOST:8766", allow: [127.0.0.0/8]}
database: {url: lab.db}
sources: {cache: assets}
machines:
- {id: rack-1, driver: "sim?pace=0.05"}
- {id: rack-2, driver: "sim?pace=0.05"}
cycles:
- name: nightly
  folder: .
  arguments: [--dispatch-dir=w, --dispatch-retries=3, -p, "no:cacheprovider"]
  every: 6h
  limits: {round: 1h}
"""


@dataclass
class CycleLab:
    """A lab with a cycle, and what may be killed of it.

    Attributes:
        lab: The lab.
        random: Draws what is killed, and when.
        killed: What was.
    """

    lab: SharedLab
    random: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.lab.token}"}
        reply = httpx.request(method, f"{self.lab.url}/api/v1{path}", json=body, headers=headers, timeout=PATIENCE)
        assert reply.is_success, (method, path, reply.text)
        return reply.json()

    def round(self, victim: str, cycle: str = "nightly", longest: float = LONGEST) -> Any:
        """Have a round run of which something is killed, and return it once it is over, with what its pytest showed."""
        number = self.ask("POST", f"/cycles/{cycle}/rounds", {})["last"]
        number = 1 if number is None else number["number"] + 1
        time.sleep(self.random.uniform(0.0, longest))
        self.kill(victim)
        give_up = time.monotonic() + LONG
        while (found := self.ask("GET", f"/cycles/{cycle}")["last"]) is None or found["number"] != number:
            assert time.monotonic() < give_up, self.ask("GET", f"/cycles/{cycle}/rounds/{number}/output")["content"]
            time.sleep(0.1)
        return found | self.ask("GET", f"/cycles/{cycle}/rounds/{number}/output")

    def kill(self, victim: str) -> None:
        """Kill something, if it is there at this moment; the lab is started again."""
        if victim == "lab":
            self.killed[victim] += 1
            self.lab.end(signal.SIGKILL)
            self.lab.start()
            return
        for pid in pytests_in(self.lab.folder):
            with suppress(ProcessLookupError):
                os.kill(pid if victim == "pytest" else parent_of(pid), signal.SIGKILL)
                self.killed[victim] += 1

    def runs_of(self, session: str) -> list[Any]:
        found = self.ask("GET", f"/history?q=session:{session}&most=200")
        return list(found["runs"])


def pytests_in(folder: Path) -> Iterator[int]:
    """The processes whose folder this is and that are a round's pytest."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"pytest" in words and (process / "cwd").resolve() == folder.resolve():
                yield int(process.name)


def parent_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError from error
    return int(status.partition("PPid:")[2].split()[0])


@contextmanager
def a_lab_in(folder: Path, more: str = "") -> Iterator[CycleLab]:
    (folder / "w").mkdir()
    for name in WORKLOADS:
        (folder / "w" / f"{name}.efi").write_bytes(b"sim: pass")
    host = f"127.{1 + os.getpid() % 250}.79.1"  # nobody else takes its ports while it is away
    with SharedLab(folder, (), dict(os.environ), file=FILE.replace("HOST", host) + more) as lab:
        yield CycleLab(lab, random.Random(seed()))


@pytest.fixture
def a_lab(tmp_path: Path) -> Iterator[CycleLab]:
    with a_lab_in(tmp_path) as lab:
        yield lab


@fault(
    "Crashes",
    "a service, a round's pytest, or the process between them is killed (SIGKILL) in the middle of a round of a cycle",
    outcome="the round goes on with the same session: each workload is run once, and has an outcome",
    told="`dispatch cycle show`: how often its pytest was started",
)
def test_a_round_of_which_something_is_killed_goes_on_and_runs_nothing_twice(a_lab: CycleLab) -> None:
    for number in drawn(range(KILLS), 3):
        victim = ("lab", "pytest", "supervisor")[number % 3]
        found = a_lab.round(victim)
        assert found["session"], found
        runs = a_lab.runs_of(found["session"])
        assert Counter(run["name"] for run in runs) == Counter(f"{name}.efi" for name in WORKLOADS), (victim, found)
        assert found["outcome"] in ("passed", "error"), (victim, found)
        assert sum(found["counts"].values()) == len(WORKLOADS), (victim, found)
        assert list(pytests_in(a_lab.lab.folder)) == [], "nothing is left of a round that is over"
    print(f"\nkilled: {dict(a_lab.killed)}; DISPATCH_SEED={seed()} draws these moments again")


@fault(
    "Crashes",
    "a service, a round's pytest, or the process between them is killed (SIGKILL) while a cycle deploys a rack",
    outcome="Testflinger has each machine's job once in each round, and each has an outcome",
    told="`dispatch cycle show`",
)
@pytest.mark.draw(1, of="services that are killed")
def test_a_rack_is_deployed_once_in_each_round_whatever_is_killed(tmp_path: Path) -> None:
    with FakeMaas() as maas, FakeTestflinger(speed=SPEED) as farm:
        for number in range(MACHINES):
            maas.add_machine(f"node-{number}", tags=["rack-7"])
            farm.add_agent(f"node-{number}")
        rack = RACK.replace("{maas}", maas.url).replace("{key}", maas.key).replace("{farm}", farm.url)
        with a_lab_in(tmp_path, rack) as lab:
            for number in drawn(range(KILLS), 1):
                before = len(farm.jobs)
                found = lab.round(("lab", "pytest", "supervisor")[number % 3], "rack-7", 4 * LONGEST)
                jobs = farm.jobs[before:]
                assert Counter(job.queue for job in jobs) == Counter(f"node-{n}" for n in range(MACHINES)), found
                assert (found["outcome"], found["counts"]) == ("passed", {"passed": MACHINES}), found
                assert all(job.ended for job in jobs)


def test_no_pytest_outlives_the_lab_that_started_it(a_lab: CycleLab) -> None:
    (a_lab.lab.folder / "conftest.py").write_text("import time\n\ndef pytest_sessionstart():\n    time.sleep(600)\n")
    a_lab.ask("POST", "/cycles/nightly/rounds", {})
    give_up = time.monotonic() + LONG
    while not list(pytests_in(a_lab.lab.folder)):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    a_lab.lab.end(signal.SIGKILL)
    while list(pytests_in(a_lab.lab.folder)):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    a_lab.lab.start()
