"""A day in a shared lab: two groups, two users, three sessions; one pytest and the lab itself are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from forks import Forks, Run
from plugin_bench import WITHOUT, Bench
from project import ROOT
from prometheus_client.parser import text_string_to_metric_families
from shared_labs import SharedLab
from waiting import PATIENCE

from pytest_dispatch.testing.github import FakeGitHub

FILE = """
server: {{announce: false, boot: "{{boot}}", api: "{{api}}"}}
database: {{url: lab.db}}
sources: {{cache: assets}}
github: {{api_url: "{github}", tokens: {{"*": "{token}"}}, issue_repositories: [lab/own]}}
groups:
  - {{id: x86, labels: [arch=x86_64], max_running: 2}}
  - {{id: arm, labels: [arch=arm64]}}
machines: [{machines}]
"""
SIMS = [("x86", "arch=x86_64"), ("arm", "arch=arm64")]
EMULATED = {"real-pass.efi": "passed", "real-fail.efi": "failed"}
#: Titles of issues: what a workload said, else its name.
TITLES = {"real-pass.efi": "Firmware answers", "real-fail.efi": "1 of 3 cases failed"}
LONG = 600.0  # until emulated firmware has booted on a busy computer

#: What each session asks for, by group; and what is to come of it.
FIRST = {"a.efi": "passed", "b.efi": "failed", "c.efi": "passed", "d.efi": "passed"}
SECOND = {f"{name}.efi": "passed" for name in "efghi"} | {"j.efi": "failed"}
THIRD = {f"{name}.efi": "passed" for name in "klmnopqr"}


@dataclass
class Day:
    """What happens in it.

    Attributes:
        tokens: Of each user.
        limit: The longest wait, in seconds.
    """

    bench: Bench
    lab: SharedLab
    hub: FakeGitHub
    limit: float
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.lab.token}"}
        answer = httpx.request(method, self.lab.url + path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer

    def join(self, user: str) -> None:
        """Make a user, and a token of theirs."""
        self.ask("POST", "/api/v1/users", {"name": user, "role": "operator", "password": ""})
        made = self.ask("POST", "/api/v1/tokens", {"label": "day", "user": user})
        self.tokens[user] = made.json()["secret"]

    def begin(self, user: str, folder: str, *args: str) -> tuple[Run, Path]:
        """Start a session of a user; returns it, and the file that has its output."""
        out = self.bench.path / f"out-{len(list(self.bench.path.glob('out-*')))}"
        issues = ("--dispatch-issues=all", "--dispatch-issues-repo=lab/own", f"--dispatch-api-url={self.hub.url}")
        where = (f"--dispatch-dir={folder}", f"--dispatch-lab={self.lab.url}", f"--junitxml={folder}.xml")
        environ = {**os.environ, "DISPATCH_TOKEN": self.tokens[user]}
        args = (*where, *issues, *WITHOUT, "-v", *args)
        return self.bench.forks.start(self.bench.path, *args, out=out, environ=environ), out

    def until(self, holds: Callable[[], object], what: Callable[[], str] = str) -> None:
        give_up = time.monotonic() + self.limit
        while not holds():
            assert time.monotonic() < give_up, what()
            time.sleep(0.02)

    def shows(self, run: Run, out: Path, text: str) -> None:
        def shown() -> bool:
            assert run.poll() is None or text in out.read_text(), out.read_text()
            return text in out.read_text()

        self.until(shown, out.read_text)

    def ended(self) -> Counter[str]:
        """How many runs have each outcome in the journal."""
        with closing(sqlite3.connect(self.lab.folder / "lab.db")) as journal:
            return Counter(
                each for (each,) in journal.execute("SELECT outcome FROM dispatch_runs WHERE outcome IS NOT NULL")
            )

    def metrics(self) -> dict[str, Counter[str]]:
        """The sum of each metric of the lab, by the value of its last label."""
        found: dict[str, Counter[str]] = {}
        for family in text_string_to_metric_families(self.ask("GET", "/metrics").text):
            for sample in family.samples:
                last = list(sample.labels.values())[-1] if sample.labels else ""
                found.setdefault(sample.name, Counter())[last] += int(sample.value)
        return found


def outcomes(path: Path) -> dict[str, str]:
    """What a JUnit file says of each workload; its cases are left out."""
    words = {"failure": "failed", "error": "error", "skipped": "skipped"}
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if (name := str(case.get("name")).rpartition("::")[2]).endswith(".efi"):
            found[name] = next((words[each.tag] for each in case if each.tag in words), "passed")
    return found


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        fake.add_repo("lab/own")
        yield fake


@pytest.fixture
def machines() -> list[str]:
    return [
        f'{{id: {name}-{number}, labels: [{label}], driver: "sim?pace=0.05"}}'
        for name, label in SIMS
        for number in (1, 2, 3)
    ]


@pytest.fixture
def day(
    pytester: pytest.Pytester, forks: Forks, hub: FakeGitHub, machines: list[str], request: pytest.FixtureRequest
) -> Iterator[Day]:
    if emulated := getattr(request, "param", False):
        machines += [f"{{id: virtual-{number}, labels: [virtual], driver: qemu}}" for number in (1, 2)]
    file = FILE.format(github=hub.url, token=hub.token, machines=", ".join(machines))
    with SharedLab(pytester.path / "lab", (), dict(os.environ), file=file) as lab:
        yield Day(Bench(pytester, forks), lab, hub, LONG if emulated else PATIENCE)
    forks.end()


def fill(day: Day, folder: str, group: str, expected: dict[str, str]) -> None:
    """Make a folder with workloads of a group that end so."""
    scenarios = {"passed": "pass", "failed": "fail"}
    day.bench.workloads(
        {name: {"scenario": scenarios[outcome], "group": group} for name, outcome in expected.items()}, folder
    )


def emulate(day: Day, folder: str) -> None:
    """Add workloads that only real firmware runs."""
    path = day.bench.path / folder
    with (path / "dispatch.toml").open("a") as manifest:
        for name in EMULATED:
            real = ROOT / "examples" / "demo" / name.removeprefix("real-")
            (path / name).write_bytes(real.read_bytes())
            manifest.write(f'\n[[workload]]\nname = "{name}"\nrequires = ["virtual"]\n')


@pytest.mark.parametrize(
    ("day", "real"),
    [(False, {}), pytest.param(True, EMULATED, marks=pytest.mark.qemu)],
    indirect=["day"],
    ids=["simulated", "emulated"],
)
@pytest.mark.draw(1, of="days")
def test_a_day(day: Day, real: dict[str, str]) -> None:
    for user in ("ada", "bob"):
        day.join(user)
    for folder, group, expected in (("one", "x86", FIRST), ("two", "arm", SECOND), ("three", "x86", THIRD)):
        fill(day, folder, group, expected)
    if real:
        emulate(day, "one")

    one, said_one = day.begin("ada", "one", "-n2")
    two, said_two = day.begin("bob", "two")
    day.shows(two, said_two, "PASSED")
    os.kill(two.pid, signal.SIGKILL)
    assert two.wait(day.limit) == -signal.SIGKILL
    again, said_again = day.begin("bob", "two", "--dispatch-resume")
    three, said_three = day.begin("ada", "three")
    day.shows(three, said_three, "PASSED")
    day.lab.end(signal.SIGKILL)
    before = day.ended()
    day.shows(three, said_three, "waiting for it, at most 15m")
    day.lab.start()

    codes = [run.wait(day.limit) for run in (one, again, three)]
    texts = [out.read_text() for out in (said_one, said_again, said_three)]
    assert codes == [1, 1, 0], "\n".join(texts)
    assert "; resumed" in texts[1]
    assert "the lab is back after" in texts[2]
    for text in texts:
        assert "Traceback" not in text

    wanted = {"one": FIRST | real, "two": SECOND, "three": THIRD}
    assert {folder: outcomes(day.bench.path / f"{folder}.xml") for folder in wanted} == wanted
    _as_expected(day, before, [pair for each in wanted.values() for pair in each.items()])


def _as_expected(day: Day, before: Counter[str], runs: list[tuple[str, str]]) -> None:
    """Check what the lab, its journal, its audit log and GitHub say at the end of the day."""
    assert day.ended() == Counter(outcome for _, outcome in runs)
    day.until(lambda: len(day.hub.issues("lab/own")) >= len(runs))
    titles = [TITLES.get(name, name) for name, _ in runs]
    assert sorted(issue.title for issue in day.hub.issues("lab/own")) == sorted(titles)

    metrics = day.metrics()
    assert metrics["dispatch_runs_ended_total"] == day.ended() - before
    assert metrics["dispatch_machines"].total() == len(day.ask("GET", "/api/v1/machines").json())
    for name in ("dispatch_runs", "dispatch_sessions", "dispatch_issues", "dispatch_broken"):
        assert metrics[name].total() == 0, name

    entries: list[dict[str, Any]] = day.ask("GET", "/api/v1/audit?limit=1000").json()
    did = Counter((entry["who"], entry["action"]) for entry in entries)
    opened = {(entry["who"], entry["target"]) for entry in entries if entry["action"] == "session.open"}
    assert did["lab", "user.create"] == did["lab", "token.create"] == 2
    assert Counter(who for who, _ in opened) == {"ada": 2, "bob": 1}
    assert did["bob", "session.open"] == 2, did  # it was opened, and resumed
    assert {who for who, _ in did} == {"ada", "bob", "lab"}
