"""Deploys racks of 10 and 200 machines by `pytest --dispatch-rack`: what it takes over the fake's own time, and calls.

Jobs take 55 to 65 seconds of real time, so that their ends fall at any time between two looks. Agents look at their
queues every ten seconds, as they do; that is the fake's own time. The reference is what testflinger_deploy_regularly
does by its rules: one machine after another, each looked at first five minutes after its job was submitted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeJob, FakeTestflinger, JobPlan

RACKS = (10, 200)
PATIENCE = 600.0  # seconds until a rack must be deployed
FIRST_LOOK = 300.0  # seconds of the reference's until it looks at a job, and between its looks
DEPLOYS_REGULARLY = "testflinger_deploy_regularly c3e05f1, by its rules"
JOB = "provision_data: {distro: noble}\nreserve_data: {timeout: 5}\n"


@dataclass(frozen=True)
class _Seen:
    """What was seen of one rack, in seconds.

    Attributes:
        taken: From each run's submission to the lab until Testflinger had its job.
        told: From each job's end to the outcome of its run.
        slowest: The longest time of a job, from its submission to its end.
        lasted: The whole of pytest, from its start to its end.
        deployed: From the first job's submission to the last one's end.
        testflinger: Calls of each endpoint of Testflinger.
        maas: Likewise of MAAS.
    """

    taken: list[float]
    told: list[float]
    slowest: float
    lasted: float
    deployed: float
    testflinger: Mapping[str, int]
    maas: Mapping[str, int]

    @property
    def overheads(self) -> list[float]:
        """Return what each deployment took beyond the fake's own time."""
        return [before + after for before, after in zip(self.taken, self.told, strict=True)]


def _run(machines: int) -> _Seen:
    """Have a rack deployed."""
    with FakeMaas() as maas, FakeTestflinger() as farm, tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name:
        folder = Path(name)
        (folder / "job.yaml").write_text(JOB)
        for number in range(machines):
            maas.add_machine(f"node-{number:03}", tags=["rack"])
            seconds = {"setup": 1.0, "provision": 48.0 + 10.0 * number / machines}
            lines = tuple(f"[{each:4}.000000] a line of the console of a machine that boots" for each in range(200))
            farm.add_agent(f"node-{number:03}", plans=[JobPlan(seconds=seconds, serial={"provision": lines})])
        own = {"MAAS_URL": maas.url, "MAAS_API_KEY": maas.key, "TESTFLINGER_SERVER": farm.url}
        began = time.time()
        environ = {**os.environ, **own}
        with (folder / "said").open("wb") as said:
            subprocess.run(_command(), check=True, cwd=folder, env=environ, timeout=PATIENCE, stdout=said)
        lasted = time.time() - began
        return _seen(farm.jobs, folder / "journal.db", lasted, Counter(farm.calls), Counter(maas.calls))


def _command() -> Sequence[str]:
    options = ("--dispatch-rack=rack", "--dispatch-rack-job=job.yaml", "--dispatch-first-look=10s", "-p", "dispatch")
    apart = ("--dispatch-db=journal.db", "--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns", "--rootdir=.")
    return [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--disable-plugin-autoload", *options, *apart]


def _seen(
    jobs: Sequence[FakeJob], journal: Path, lasted: float, testflinger: Mapping[str, int], maas: Mapping[str, int]
) -> _Seen:
    began, over = _moments(journal, "queued"), _moments(journal, "concluded")
    runs = [job.tags[-1].removeprefix("dispatch-").rpartition(".")[0] for job in jobs]
    ends = [next(at for state, at in job.history if state == "complete") for job in jobs]
    return _Seen(
        taken=[job.created - began[run] for job, run in zip(jobs, runs, strict=True)],
        told=[over[run] - end for run, end in zip(runs, ends, strict=True)],
        slowest=max(end - job.created for job, end in zip(jobs, ends, strict=True)),
        lasted=lasted,
        deployed=max(ends) - min(job.created for job in jobs),
        testflinger=testflinger,
        maas=maas,
    )


def _moments(journal: Path, state: str) -> dict[str, float]:
    """Return when runs entered a state."""
    with contextlib.closing(sqlite3.connect(journal)) as db:
        return dict(db.execute("SELECT run, min(at) FROM dispatch_moments WHERE state = ? GROUP BY run", (state,)))


def measure() -> list[Measure]:
    """Measure one rack after the other."""
    return [row for machines in RACKS for row in _rows(machines, _run(machines))]


def _rows(machines: int, seen: _Seen) -> list[Measure]:
    about = f"a rack of {machines}, deployments of a minute"
    overhead, worst = statistics.median(seen.overheads), max(seen.overheads)
    theirs = FIRST_LOOK - seen.slowest
    whole, theirs_whole = seen.lasted - seen.slowest, machines * FIRST_LOOK - seen.slowest
    calls = sum(seen.testflinger.values()) / seen.lasted * 60
    per_minute = ", ".join(f"{call} {times / seen.lasted * 60:.1f}" for call, times in sorted(seen.testflinger.items()))
    asked = ", ".join(f"{call} {times}" for call, times in sorted(seen.maas.items()))
    return [
        Measure(
            f"{about}: overhead of each over Testflinger's own time, median",
            DEPLOYS_REGULARLY,
            f"{overhead:.1f} s",
            f"{theirs:.0f} s",
            overhead / theirs,
            "≤ 10 s",
            overhead <= 10.0,
            f"slowest {worst:.1f} s; of that, {statistics.median(seen.taken):.1f} s until Testflinger had the job, and"
            f" {statistics.median(seen.told):.1f} s from its end to the outcome, with a look every 10 s",
        ),
        Measure(
            f"{about}: the whole of pytest, over its slowest job",
            DEPLOYS_REGULARLY,
            f"{whole:.1f} s",
            f"{theirs_whole:,.0f} s (one machine after another)",
            whole / theirs_whole,
            "≤ 25 s",
            whole <= 25.0,
            f"{seen.lasted:.0f} s in all, of which agents worked for {seen.deployed:.0f} s",
        ),
        Measure(
            f"{about}: calls a minute to Testflinger",
            DEPLOYS_REGULARLY,
            f"{calls:.0f}",
            f"0.6 ({calls / machines:.1f} of ours for each machine)",
            calls / 0.6,
            "≤ 7 for each machine, and 10",
            calls <= 7 * machines + 10,
            f"calls a minute: {per_minute}; calls to MAAS in all: {asked}",
        ),
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
