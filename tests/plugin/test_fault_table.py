"""Every fault in every state, and that all who tell of it say the same: terminal, exit code, JUnit files, issue.

The rows are in `outcome_table`. Those that end alike are workloads of one session, each on a machine of its own; what
breaks more than one workload has a session to itself. Each session is a real pytest process.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drivers import offer_driver
from forks import Forks, Run
from outcome_table import ELSEWHERE, ERROR, FAILED, PASSED, ROWS, SKIPPED, Row, as_markdown
from plugin_bench import HERE, IN_THREAD, WITHOUT
from project import SUPPORT

from pytest_dispatch.testing.github import FakeGitHub, FakeIssue
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, Expect

SUMMARY = {ERROR: "ERROR", FAILED: "FAILED", SKIPPED: "SKIPPED", PASSED: "PASSED"}
ELEMENT = {ERROR: ["error"], FAILED: ["failure"], SKIPPED: ["skipped"], PASSED: []}
LARGE = 16 * 2**20
OUTPUT = "output.txt"
PLACES = {"MACHINE": r"m-\d+", "JOURNAL": r"\S+/journal\.db", "DIGEST": r"sha256:[0-9a-f]{12}…"}

SESSIONS = tuple(dict.fromkeys(row.of for row in ROWS))

#: Sessions whose machines are not just as many as its workloads.
MACHINES = {"nobody": 0, "dead machines": "?first=fail", "journal unassigned": "?first=break-journal"}

CONFTEST = """
from pathlib import Path

import puppet

def pytest_runtest_setup(item):
    puppet.TOLD.add((item.name, "unassigned"))

def pytest_dispatch_event(run, attempt):
    puppet.TOLD.add((run.workload.name, run.attempts[attempt - 1].state))

def pytest_dispatch_workloads(workloads):
    for workload in workloads:
        if workload.name == "gone.efi":
            Path(workload.payload["location"]).unlink()
"""


@dataclass(frozen=True)
class Night:
    """What is left of a session in the morning."""

    source: str
    code: int
    shown: str
    issues: list[FakeIssue]
    files: Mapping[str, ElementTree.Element]

    def line(self, row: Row) -> str:
        """The last word of the terminal about the item."""
        return str(re.findall(rf"(?m)^{re.escape(self.source)}::{row.file} ([A-Z]+)\b", self.shown)[-1])

    def summary(self, row: Row) -> tuple[str, str]:
        """The last word about it in the summary, and the reason."""
        found = re.findall(
            rf"(?m)^([A-Z]+) (?:\[1\] )?{re.escape(self.source)}::{row.file}(?::1)?(?:: | - |$)(.*)", self.shown
        )
        word, why = found[-1]
        return word, why

    def case(self, file: str, row: Row) -> tuple[list[str], str]:
        """What went wrong with the item according to a JUnit file, and why; pytest's own counts failed cases too."""
        [case] = [case for case in self.files[file].iter("testcase") if case.get("name") == row.file]
        found = [child for child in case if child.tag in ("error", "failure", "skipped")]
        return sorted({child.tag for child in found}), found[-1].get("message", "") if found else ""

    def issue(self, row: Row) -> FakeIssue | None:
        """The last issue that was filed about it."""
        about = [issue for issue in self.issues if f"- workload: `{row.file}`" in issue.body]
        return about[-1] if about else None


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Callable[[str], Night]]:
    """Sessions by name. All begin at once: most of the time they wait, so as not to flood GitHub with issues."""
    with FakeGitHub() as github:
        begun = {name: _begin(forks, tmp_path_factory.mktemp("night"), name, github) for name in SESSIONS}
        yield cache(lambda name: begun[name].morning(github))


@dataclass(frozen=True)
class Evening:
    """A session that has begun."""

    folder: Path
    source: str
    repo: str
    process: Run

    def morning(self, github: FakeGitHub) -> Night:
        """Wait for its end."""
        code = self.process.wait(300)
        shown = (self.folder / OUTPUT).read_text("utf-8")
        assert (self.folder / "cases.xml").exists(), shown
        files = {file: ElementTree.parse(self.folder / file).getroot() for file in ("own.xml", "cases.xml")}
        return Night(self.source, code, shown, github.issues(self.repo), files)


def _begin(forks: Forks, folder: Path, name: str, github: FakeGitHub) -> Evening:
    rows = [row for row in ROWS if row.of == name]
    repo = f"night/{name.replace(' ', '-')}"
    github.add_repo(repo)
    _prepare(folder, rows)
    if name == "GitHub":
        source = f"{repo}@v1"
        github.add_release(repo, "v1", {row.file: ("application/vnd.dispatch+efi", b"MZ good") for row in rows})
        for row in rows:
            github.asset(repo, "v1", row.file).content = b"MZ evil"
        given = [f"--dispatch-repo={repo}"]
    else:
        source, given = "w", ["--dispatch-dir=w"]
    machines = MACHINES.get(name, "")
    if machines != 0:
        given.append(f"--dispatch-machine=puppet:{len(rows)}{machines}")
    given += ["--dispatch-issues=all", f"--dispatch-issues-repo={repo}", f"--dispatch-api-url={github.url}"]
    return Evening(folder, source, repo, _start(forks, folder, given, github.token))


def _prepare(folder: Path, rows: list[Row]) -> None:
    """The workloads, what they do, and the driver of machines that do it."""
    there = folder / "w"
    there.mkdir()
    tables = []
    for row in rows:
        with (there / row.file).open("wb") as file:
            file.write(b"MZ" + row.file.encode() * 9)
            file.truncate(LARGE if row.large else file.tell())
        keys = {"name": row.file, **row.keys}
        tables.append("[[workload]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()))
    (there / "dispatch.toml").write_text("\n".join(tables))
    plays = {row.file: {"at": row.state, "act": row.act, "reports": row.reports} for row in rows}
    (folder / "plays.json").write_text(json.dumps(plays))
    (folder / "conftest.py").write_text(CONFTEST)
    offer_driver(folder, "puppet", "puppet")


def _start(forks: Forks, folder: Path, given: list[str], token: str) -> Run:
    command = [
        "-v", "-rA", *given, IN_THREAD, *HERE, *WITHOUT, "--dispatch-db=journal.db", "--dispatch-cache=cache",
        "--dispatch-retries=0", "--dispatch-drain=0", "--junitxml=own.xml", "--dispatch-junit=cases.xml",
    ]  # fmt: skip
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = f"{folder}:{SUPPORT}:{os.environ.get('PYTHONPATH', '')}"
    surroundings |= {"PYTHONPATH": path, "COLUMNS": "300", "GH_ENTERPRISE_TOKEN": token}
    return forks.start(folder, *command, out=folder / OUTPUT, environ=surroundings)


def _matches(told: str) -> str:
    """A pattern for what a row says."""
    pattern = re.escape(told)
    for place, found in PLACES.items():
        pattern = pattern.replace(place, found)
    return pattern


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_everybody_tells_the_same(row: Row, nights: Callable[[str], Night]) -> None:
    night = nights(row.of)
    told = _matches(row.told)
    assert "Traceback" not in night.shown
    assert night.line(row) == SUMMARY[row.outcome]
    word, why = night.summary(row)
    assert word == SUMMARY[row.outcome]
    assert re.match(told, why)
    for file in ("own.xml", "cases.xml"):
        kinds, message = night.case(file, row)
        assert kinds == ELEMENT[row.outcome]
        assert re.search(told, message)
    issue = night.issue(row)
    if row.act == "break-journal":
        assert issue is None  # what is to be filed is kept in the journal
    else:
        assert issue is not None
        assert f"- outcome: {row.outcome}, attempt 1 of 1" in issue.body


@pytest.mark.parametrize("name", SESSIONS)
def test_the_exit_code_and_the_counts_say_so_too(name: str, nights: Callable[[str], Night]) -> None:
    night = nights(name)
    rows = [row for row in ROWS if row.of == name]
    bad = any(row.outcome in (ERROR, FAILED) for row in rows)
    assert night.code == (pytest.ExitCode.TESTS_FAILED if bad else pytest.ExitCode.OK)
    for file in ("own.xml", "cases.xml"):
        [suite] = night.files[file].iter("testsuite")
        assert int(suite.get("errors", "")) == sum(row.outcome is ERROR for row in rows)


USUAL = LIFECYCLES[Expect.REPORT]


def test_every_end_has_a_row() -> None:
    """Each way in which an attempt can end, that a session can be told of."""
    rows = {(row.state, row.event, row.expect) for row in ROWS}
    missing = [
        (state, event)
        for expect, lifecycle in LIFECYCLES.items()
        for state, rule in lifecycle.states.items()
        for event, ending in rule.endings.items()
        if ending.outcome is not None and (expect == Expect.REPORT or ending != USUAL.states[state].endings[event])
        if event not in ELSEWHERE and (state, event, expect) not in rows
    ]
    assert missing == []


def test_the_page_has_the_rows() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    assert as_markdown() in page.read_text("utf-8")
