"""A service that sends jobs of GitHub Actions, of a minute each, to ten runners: with webhooks, and by looks alone.

The jobs take 55.5 to 64.5 seconds, so that their ends fall at any time between two looks. The fake takes a second
until a run appears and another until its job starts, as it did when dispatchoor was measured with it; all of it is real
time. Both services run side by side, each with a GitHub of its own.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from bench_lab import Measure

from pytest_dispatch.testing.actions import FakeJob, FakeRun, Hook, Input, Job, Timing, Workflow
from pytest_dispatch.testing.github import FakeGitHub

RUNNERS, JOBS, SECONDS = 10, 40, 60.0
REPO, SECRET = "me/lab", "a-secret-of-the-bench"
PATIENCE = 900.0  # seconds until all must be over
ONE_EACH = " (10 times 90 s: it sends one each 90 s)"
DISPATCHOOR = "dispatchoor 463eefb at its defaults, same fake"

LAB = """\
server: {{boot: "127.0.0.1:0", api: "127.0.0.1:0", announce: false}}
database: {{url: lab.db}}
sources: {{cache: assets}}
github: {{api_url: "{url}", tokens: {{"*": {token}}}, polling: {{interval: 10s}}, webhook_secret: {secret}}}
groups:
- id: boards
  labels: [rpi]
  templates:
{templates}
"""
TEMPLATE = "  - {{id: {name}, kind: actions, payload: {{owner: me, repo: lab, workflow: {name}, correlation: ticket}}}}"
FILES = {f"test-{number}.yml": SECONDS - 4.5 + number for number in range(10)}  # with the seconds of its job


@dataclass(frozen=True)
class _Seen:
    """What was seen of one service, in seconds.

    Attributes:
        next_sent: From the n-th end of a job to the n-th dispatch after those that made all runners busy.
        all_busy: From the first dispatch on until all runners had a job, while the queue was full.
        apart: The shortest time between two dispatches.
        busy: The share of time in which runners had jobs, from when all had one to the last dispatch.
        to_outcome: From each end of a job to the outcome of its run.
        calls: Calls of each endpoint that were not answered "not modified".
        lasted: How long it took in all.
    """

    next_sent: list[float]
    all_busy: float
    apart: float
    busy: float
    to_outcome: list[float]
    calls: dict[str, int]
    lasted: float


@contextlib.contextmanager
def _service(folder: Path, github: FakeGitHub) -> Iterator[tuple[str, str]]:
    """Run one; yields the URL of its API, and its token."""
    templates = "\n".join(TEMPLATE.format(name=name) for name in FILES)
    text = LAB.format(url=github.url, token=github.token, secret=SECRET, templates=templates)
    (folder / "lab.yaml").write_text(text)
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config", "lab.yaml"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().split()[-1] for _ in range(3)]
        try:
            yield said[0], (folder / "lab.db.token").read_text().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _run(*, webhooks: bool) -> _Seen:
    """Have all jobs run."""
    with FakeGitHub() as github, tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name:
        folder = Path(name)
        github.actions.timing = Timing(appears=1.0, assigns=1.0)
        for file, seconds in FILES.items():
            github.actions.add_workflow(REPO, _workflow(file, seconds))
        for number in range(RUNNERS):
            github.actions.add_runner("me", f"rpi-{number:02}", ("rpi",))
        with _service(folder, github) as (url, token):
            if webhooks:
                github.actions.add_hook(Hook(url=f"{url}/api/v1/github/webhooks", secret=SECRET))
            wanted = [{"template": name} for name in [*FILES] * (JOBS // len(FILES))]
            began = time.time()
            headers = {"Authorization": f"Bearer {token}"}
            asked = httpx.post(f"{url}/api/v1/groups/boards/queue/bulk", json=wanted, headers=headers, timeout=60)
            asked.raise_for_status()
            outcomes = _outcomes(folder / "lab.db")
        calls = github.calls - github.unchanged
        return _seen(github.actions.runs(REPO), outcomes, dict(calls), began)


def _workflow(file: str, seconds: float) -> Workflow:
    return Workflow(
        path=f".github/workflows/{file}",
        jobs=(Job(name="boot", runs_on=("rpi",), seconds=seconds),),
        inputs={"ticket": Input()},
        run_name="${{ inputs.ticket }}",
    )


def _outcomes(journal: Path) -> dict[int, float]:
    """Wait until all runs are over; return when each was, by its id at GitHub."""
    query = (
        "SELECT outside, at FROM dispatch_attempts a JOIN dispatch_moments m ON m.run = a.run AND m.attempt = a.number "
        "WHERE m.state = 'concluded' AND a.outcome = 'passed'"
    )
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        with contextlib.closing(sqlite3.connect(journal)) as db:
            found = {int(outside.rpartition("/")[2]): at for outside, at in db.execute(query)}
        if len(found) == JOBS:
            return found
        time.sleep(1)
    raise TimeoutError(f"{len(found)} of {JOBS} runs have passed")


def _seen(runs: Sequence[FakeRun], outcomes: dict[int, float], calls: dict[str, int], began: float) -> _Seen:
    sent = sorted(run.created for run in runs)
    jobs = sorted((job for run in runs for job in run.jobs), key=_started)
    ends = sorted(map(_ended, jobs))
    busy_from, busy_to = _started(jobs[RUNNERS - 1]), sent[-1]
    busy = sum(max(0.0, min(_ended(job), busy_to) - max(_started(job), busy_from)) for job in jobs)
    return _Seen(
        next_sent=[at - end for end, at in zip(ends, sent[RUNNERS:], strict=False)],
        all_busy=busy_from - began,
        apart=min(second - first for first, second in itertools.pairwise(sent)),
        busy=busy / (RUNNERS * (busy_to - busy_from)),
        to_outcome=[outcomes[run.id] - max(map(_ended, run.jobs)) for run in runs],
        calls=calls,
        lasted=max(outcomes.values()) - began,
    )


def _started(job: FakeJob) -> float:
    assert job.started is not None
    return job.started


def _ended(job: FakeJob) -> float:
    assert job.ended is not None
    return job.ended


def measure() -> list[Measure]:
    """Measure both ways side by side."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        told, looked = (pool.submit(_run, webhooks=webhooks) for webhooks in (True, False))
        return [*_rows(told.result(), "webhooks", (2.0, 0.95, 5.0)), *_rows(looked.result(), "6 polls a minute", None)]


def _rows(seen: _Seen, how: str, bounds: tuple[float, float, float] | None) -> list[Measure]:
    """Return the rows of one service; the busy share and the calls are bounded with webhooks alone."""
    sends, busy, outcome = bounds or (8.0, 0.0, 15.0)
    next_sent, to_outcome = statistics.median(seen.next_sent), statistics.median(seen.to_outcome)
    each = sum(seen.calls.values()) / JOBS
    slowest = f"slowest {max(seen.next_sent):.1f} s"
    per_minute = ", ".join(
        f"{call} {times / seen.lasted * 60:.1f}" for call, times in sorted(seen.calls.items()) if times
    )
    about = f"GitHub Actions, {RUNNERS} runners, jobs of a minute, {how}"
    apart = f"two dispatches were {seen.apart:.2f} s apart at least"
    return [
        _seconds(f"{about}: a job's end to the next one sent, median", next_sent, 45.0, sends, slowest),
        _seconds(f"{about}: full queue, all idle runners busy", seen.all_busy, 900.0, 15.0, apart, ONE_EACH),
        _seconds(
            f"{about}: a run's end to its outcome, median",
            to_outcome,
            51.0,
            outcome,
            f"slowest {max(seen.to_outcome):.1f} s",
        ),
        Measure(
            f"{about}: runners busy",
            DISPATCHOOR,
            f"{seen.busy:.1%}",
            "6.5% (88% with its bug mended, at 1 s)",
            seen.busy / 0.065,
            f"≥ {busy:.0%}" if busy else "as much as looks allow",
            seen.busy >= busy,
        ),
        Measure(
            f"{about}: calls for each job that are not 304",
            DISPATCHOOR,
            f"{each:.1f}",
            "5.6 (34 at 1 s)",
            each / 5.6,
            "≤ 6" if bounds else "as few as looks allow",
            not bounds or each <= 6,
            f"calls a minute that are not 304: {per_minute}",
        ),
    ]


def _seconds(what: str, ours: float, theirs: float, bound: float, note: str, told: str = "") -> Measure:
    """Return a row of seconds; `told` says what dispatchoor's figure is made of."""
    reference = f"{theirs:g} s{told}"
    good = ours <= bound
    return Measure(what, DISPATCHOOR, f"{ours:.1f} s", reference, ours / theirs, f"≤ {bound:g} s", good, note)


if __name__ == "__main__":
    for result in measure():
        result.show()
