"""pytest and its lab killed at random while a rack of 20 machines is deployed; then resumed, and killed again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import fault
from forks import Forks, Run
from plugin_bench import APART, HERE, WITHOUT
from torture import drawn, larger, seed
from waiting import PATIENCE, wait_until

from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeTestflinger, JobPlan

MACHINES = 20
KILLS = 5  # in a walk
WALKS = range(10)  # 50 kills in all
SPEED = 30.0  # of the fake's agents: a provisioning takes 20 seconds, and so spans several kills
LATEST = 8.0  # seconds until a kill

FAILS = JobPlan(statuses={"provision": 1}, serial={"provision": ("booting", "Kernel panic - not syncing")})
AGAIN = JobPlan(statuses={"setup": 1})  # a fault of the lab's, after which there is another attempt
#: What becomes of machines by their number, and after how many attempts; all others pass at once.
PLANS = {0: [FAILS], 1: [FAILS], 2: [AGAIN, JobPlan()], 3: [AGAIN, JobPlan()]}
ENDS = {0: ("failed", 1), 1: ("failed", 1), 2: ("passed", 2), 3: ("passed", 2)}


def name_of(number: int) -> str:
    return f"node-{number:02}"


@dataclass
class Walk:
    """A rack, and sessions that are killed while they have it deployed.

    Attributes:
        folder: Where they run.
        kills: Who was killed, and after how many seconds.
    """

    folder: Path
    maas: FakeMaas
    farm: FakeTestflinger
    forks: Forks
    draws: random.Random
    kills: list[tuple[str, float]] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    def prepare(self) -> None:
        (self.folder / "tmp").mkdir(parents=True)
        for number in range(MACHINES):
            self.maas.add_machine(name_of(number), tags=["rack-7"])
            self.farm.add_agent(name_of(number), plans=PLANS.get(number, []))

    def start(self) -> Run:
        """Have the rack deployed, or go on with that."""
        again = ["--dispatch-resume"] if self.rows("SELECT id FROM dispatch_sessions WHERE closed IS NULL") else []
        options = ("--dispatch-rack=rack-7", "--dispatch-first-look=0", "--dispatch-retries=1", *HERE, *WITHOUT, APART)
        out = self.folder / f"log-{len(self.kills)}.txt"
        own = {
            "MAAS_URL": self.maas.url,
            "MAAS_API_KEY": self.maas.key,
            "TESTFLINGER_SERVER": self.farm.url,
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "user-cache"),
        }
        words = (*options, f"--dispatch-db={self.journal}", *again)
        return self.forks.start(self.folder, *words, out=out, environ={**os.environ, **own})

    def go(self) -> int:
        """Kill pytest or its lab, as often as is drawn; returns with which code the last session ended."""
        for _ in range(KILLS):
            run, after = self.start(), self.draws.uniform(0.0, LATEST)
            who = self.draws.choice(("pytest", "lab"))
            if self._ends_within(run, after):
                break
            self._kill(run, who)
            self.kills.append((who, round(after, 1)))
        return self.start().wait(2 * PATIENCE) if self.rows(UNFINISHED) or not self.rows(ALL) else 1

    def _ends_within(self, run: Run, seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if run.poll() is not None:
                return True
            time.sleep(0.01)
        return False

    def _kill(self, run: Run, who: str) -> None:
        labs = list(labs_of(run.pid))
        if who == "pytest" or not labs:  # it may have none yet, or none any more
            run.kill()
        for lab in labs if who == "lab" else ():
            with suppress(ProcessLookupError):
                os.kill(lab, signal.SIGKILL)
        run.wait(PATIENCE)
        wait_until(lambda: not any(map(is_there, labs)))  # it ends with its pytest

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(self.journal)) as db:
            return db.execute(sql).fetchall()
        return []  # it was killed before it had a journal

    def wrong(self, code: int) -> Iterator[str]:
        """Yield what is not as it must be."""
        if code != pytest.ExitCode.TESTS_FAILED:
            yield f"it ended with {code}: {(self.folder / f'log-{len(self.kills)}.txt').read_text()[-3000:]}"
        ends = {str(name): (outcome, attempts) for name, outcome, attempts in self.rows(ALL)}
        expected: Mapping[str, tuple[str, int]] = {
            name_of(number): ENDS.get(number, ("passed", 1)) for number in range(MACHINES)
        }
        yield from (f"{name}: {ends.get(name)}" for name in expected if ends.get(name) != expected[name])
        times = Counter(job.tags[-1] for job in self.farm.jobs)
        yield from (f"submitted {count} times: {tag}" for tag, count in times.items() if count > 1)
        tried = {f"dispatch-{run}.{number}" for run, number in self.rows("SELECT run, number FROM dispatch_attempts")}
        yield from (f"submitted, and not in the journal, or the other way round: {tag}" for tag in tried ^ times.keys())
        yield from (f"{job.tags[-1]} is {job.state} at Testflinger" for job in self.farm.jobs if not job.ended)


ALL = "SELECT name, outcome, attempts FROM dispatch_runs"
UNFINISHED = f"{ALL} WHERE outcome IS NULL"


def labs_of(pid: int) -> Iterator[int]:
    """The processes that a pytest has started."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def is_there(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def walked(number: int, folder: Path) -> tuple[int, list[str]]:
    draws = random.Random(f"{seed()} {number}")
    with FakeMaas() as maas, FakeTestflinger(speed=SPEED) as farm, Forks(os.environ) as forks:
        walk = Walk(folder / str(number), maas, farm, forks, draws)
        walk.prepare()
        code = walk.go()
        return len(walk.kills), [f"walk {number}, killed {walk.kills}: {text}" for text in walk.wrong(code)]


@fault(
    "Crashes",
    "pytest or its lab is killed (SIGKILL) at any time while a rack of 20 machines is deployed, five times in a row",
    outcome="`--dispatch-resume`: Testflinger has had each job once for each attempt, and each has an outcome",
    told="`resumed` in the line at the top",
)
@pytest.mark.draw(1, of="walks")
def test_a_rack_whose_sessions_are_killed_has_each_job_submitted_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(larger(1, 2)) as pool:
        walks = list(pool.map(lambda number: walked(number, tmp_path), drawn(WALKS, 1)))
    print(f"{sum(kills for kills, _ in walks)} kills")
    assert [text for _, texts in walks for text in texts] == []
    assert all(kills for kills, _ in walks)
