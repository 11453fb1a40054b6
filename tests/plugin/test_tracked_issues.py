"""`--dispatch-issues-mode update`: one issue for each failure, seen from the terminal and at GitHub."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import fault
from github_openapi import Judge
from plugin_bench import WITHOUT, Bench, clean
from shared_labs import SharedLab
from waiting import PATIENCE

from pytest_dispatch.testing.github import FakeGitHub, FakeIssue

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

REPO = "me/lab"
FAILED, PASSED = {"outcome": "failed"}, {"outcome": "passed"}


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A running fake; what it is asked and what it answers is held against GitHub's own description."""
    judge = Judge()
    with FakeGitHub(observer=judge) as fake:
        fake.add_repo(REPO)
        yield fake
    assert judge.complaints() == []


class Series:
    """Sessions, one after the other, with a workload that says what a test wants."""

    def __init__(self, bench: Bench, github: FakeGitHub, *options: str) -> None:
        self.bench = bench
        self.github = github
        self.options = (
            "--dispatch-issues=all",
            f"--dispatch-issues-repo={REPO}",
            "--dispatch-issues-mode=update",
            "--dispatch-issues-close-after=2",
            "--dispatch-db=journal.db",
            f"--dispatch-api-url={github.url}",
            f"--dispatch-token={github.token}",
            *options,
        )
        bench.workloads({"a": "pass"})
        self.machines = bench.saying()

    def run(self, *failed: str, more: tuple[str, ...] = ()) -> pytest.RunResult:
        """Run a session in which these cases fail, of `x`, `y` and `z`."""
        self.bench.path.joinpath("reports.json").write_text(json.dumps([self.said(*failed)]))
        result = self.bench.spawn(*self.options, *more, machines=self.machines)
        assert result.ret == (pytest.ExitCode.TESTS_FAILED if failed else pytest.ExitCode.OK)
        return result

    def said(self, *failed: str) -> Mapping[str, object]:
        cases = [{"name": name, **(FAILED if name in failed else PASSED)} for name in "xyz"]
        return {"result": "failed" if failed else "passed", "cases": cases}

    @property
    def issues(self) -> list[FakeIssue]:
        return self.github.issues(REPO)

    @property
    def states(self) -> list[tuple[str, int]]:
        return [(issue.state, len(issue.comments)) for issue in self.issues]


@pytest.fixture
def series(bench: Bench, github: FakeGitHub) -> Series:
    return Series(bench, github)


def known(result: pytest.RunResult) -> list[str]:
    return [line.removeprefix("known issue: ") for line in result.outlines if line.startswith("known issue: ")]


def test_one_issue_is_kept_for_a_failure(series: Series) -> None:
    result = series.run("x")
    assert series.states == [("open", 0)]
    assert known(result) == []
    [issue] = series.issues
    url = f"{series.github.url}/{REPO}/issues/1"
    assert f"issue: {url}" in result.stdout.str()

    result = series.run("x", more=("--junitxml=own.xml",))
    assert series.states == [("open", 1)]
    [told] = known(result)
    assert told.startswith(f"{url}, since 20")
    [shown] = ElementTree.parse(series.bench.path / "own.xml").iterfind(".//property[@name='dispatch_known_issue']")
    assert shown.get("value") == told
    assert "| x | failed |" in issue.comments[0].body

    result = series.run()
    assert (series.states, known(result)) == ([("open", 1)], [])
    series.run()
    assert series.states == [("closed", 2)]
    assert issue.state_reason == "completed"
    assert issue.comments[-1].body.startswith("Passed 2 times in a row")

    result = series.run("x")
    assert series.states == [("open", 3)]
    assert known(result) == []  # a pass has ended the link

    result = series.run("y", "z")
    assert (series.states, known(result)) == ([("open", 3), ("open", 0)], [])
    series.run("z", "y")  # in any order
    assert series.states == [("open", 3), ("open", 1)]
    for _ in range(2):
        series.run()
    assert series.states == [("closed", 4), ("closed", 2)]


@fault(
    "GitHub",
    "The journal is lost while an issue is kept for a failure",
    outcome="the issue is found by its marker, and commented; passes are counted anew",
    told="as without",
)
def test_an_issue_is_found_again_without_the_journal(series: Series) -> None:
    series.run("x")
    (series.bench.path / "journal.db").unlink()
    series.run("x")
    assert series.states == [("open", 1)]


@fault(
    "GitHub",
    "A person closes the issue of a failure as not planned or as a duplicate, and it fails again",
    outcome="the issue stays closed, without a comment; the run is linked to it",
    told="`… was closed as not planned: neither commented nor changed`",
)
@pytest.mark.parametrize("reason", ["not_planned", "duplicate"])
def test_what_a_person_closed_for_good_stays_so(series: Series, reason: str) -> None:
    series.run("x")
    [issue] = series.issues
    series.github.close_issue(issue, reason)
    result = series.run("x")
    assert series.states == [("closed", 0)]
    why = "as a duplicate" if reason == "duplicate" else "as not planned"
    [line] = [line for line in result.outlines if line.startswith("not filed, ")]
    assert line.endswith(f"/issues/1 was closed {why}: neither commented nor changed")
    assert len(known(result)) == 1


def test_what_a_person_closed_as_done_is_reopened(series: Series) -> None:
    series.run("x")
    series.github.close_issue(series.issues[0])
    series.run("x")
    assert series.states == [("open", 1)]


@fault(
    "GitHub",
    "A person locks the issue of a failure, and it fails again",
    outcome="the issue is left alone",
    told="`… is locked: neither commented nor changed`",
)
def test_a_locked_issue_is_left_alone_and_told(series: Series) -> None:
    series.run("x")
    series.issues[0].locked = True
    result = series.run("x")
    assert series.states == [("open", 0)]
    [line] = [line for line in result.outlines if line.startswith("not filed, ")]
    assert line.endswith("/issues/1 is locked: neither commented nor changed")


@fault(
    "GitHub",
    "A person deletes the issue of a failure, and it fails again",
    outcome="nothing is written; the next such failure is filed anew",
    told="`given up: …: … was deleted`",
)
def test_a_deleted_issue_is_told_and_filed_anew_with_the_next_failure(series: Series) -> None:
    series.run("x")
    series.issues[0].deleted = True
    result = series.run("x")
    [line] = [line for line in result.outlines if line.startswith("not filed, ")]
    assert "/issues/1 was deleted: nothing is written there; the next failure of this kind is filed anew" in line
    assert len(series.issues) == 1
    series.run("x")
    assert len(series.issues) == 2


@fault(
    "Hostile input",
    "A stranger writes an issue with the marker of somebody's failure",
    outcome="it is not used: the failure has an issue of its own",
    told="nothing",
)
def test_an_issue_with_our_marker_that_a_stranger_wrote_is_none_of_ours(series: Series) -> None:
    series.run("x")
    [issue] = series.issues
    (series.bench.path / "journal.db").unlink()
    issue.deleted = True
    forged = series.github.add_issue(REPO, "mine", issue.body.rpartition("\n")[0])
    forged.association, forged.author = "NONE", "mallory"
    series.run("x")
    assert (len(series.issues), forged.comments) == (3, [])


def test_machines_of_one_class_share_an_issue_and_others_have_their_own(series: Series) -> None:
    folder = series.bench.workloads({"a": "fail"})
    (folder / "dispatch.toml").write_text('[[workload]]\nname = "a.efi"\nrequires = ["arch"]\n')
    for labels in ("arch=arm,rack=1", "arch=arm,rack=2", "arch=riscv"):
        machines = f"--dispatch-machine=sim?pace=0.001&labels={labels}"
        series.bench.spawn(*series.options, machines=machines)
    assert series.states == [("open", 1), ("open", 0)]


#: What is under way when the lab is killed: the call whose answer is lost, the workload then, what is to come of it.
KILLED = {
    "commented": (f"POST /repos/{REPO}/issues/*/comments", "fail", ("open", 1)),
    "closed": (f"PATCH /repos/{REPO}/issues/*", "pass", ("closed", 1)),
}


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(
            when,
            marks=fault(
                "Crashes",
                f"A shared lab is killed (SIGKILL) as the issue of a failure is {when}, and GitHub's answer is lost",
                outcome="the next lab on the journal finds out what was done, and does the rest: no comment twice",
                told="`the lab at … is back after …`",
            ),
        )
        for when in KILLED
    ],
)
@pytest.mark.draw(1)
def test_a_lab_that_is_killed_meanwhile(bench: Bench, github: FakeGitHub, tmp_path: Path, when: str) -> None:
    call, scenario, expected = KILLED[when]
    words = ("--machine=sim:2?pace=0.001", f"--api-url={github.url}", f"--issues-repo={REPO}")
    environ = {**os.environ, "GH_ENTERPRISE_TOKEN": github.token}
    bench.workloads({"a": "fail"})
    with SharedLab(tmp_path / "lab", words, environ) as lab:
        mine = {name: value for name, value in os.environ.items() if not name.endswith("_TOKEN")}
        mine["DISPATCH_TOKEN"] = lab.token
        where = (f"--dispatch-lab={lab.url}", f"--dispatch-api-url={github.url}", f"--dispatch-issues-repo={REPO}")
        mode = ("--dispatch-issues=all", "--dispatch-issues-mode=update", "--dispatch-issues-close-after=1")
        command = ("--dispatch-dir=w", *WITHOUT, *where, *mode)
        clean(bench.fork(*command, environ=mine))
        (issue,) = github.issues(REPO)
        github.fail_next(call, drop_after_commit=True)
        bench.workloads({"a": scenario})
        begun = github.requests.copy()
        out, err = bench.path / "out", bench.path / "err"
        process = bench.forks.start(bench.path, *command, out=out, err=err, environ=mine)
        verb = call.split()[0]
        give_up = time.monotonic() + PATIENCE
        while not any(each.startswith(verb) and begun[each] < github.requests[each] for each in github.requests):
            assert time.monotonic() < give_up, out.read_text()
            time.sleep(0.005)
        lab.end(signal.SIGKILL)
        lab.start()
        assert process.wait(120) == (scenario == "fail")
        while (issue.state, len(issue.comments)) != expected:
            assert time.monotonic() < give_up, (issue, out.read_text())
            time.sleep(0.05)
        clean(bench.fork(*command, environ=mine))  # and nothing is done once more
        comments = len(issue.comments)
        assert comments == expected[1] + (scenario == "fail")
        assert len({comment.body.rpartition("<!--")[2] for comment in issue.comments}) == comments


def test_a_shared_lab_and_the_token_of_pytest(bench: Bench, github: FakeGitHub, tmp_path: Path) -> None:
    """The lab has no token: pytest files, and the lab carries links over."""
    words = ("--machine=sim:2?pace=0.001", f"--api-url={github.url}")
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_TOKEN")}
    bench.workloads({"a": "fail"})
    with SharedLab(tmp_path / "lab", words, environ) as lab:
        series = Series(bench, github, f"--dispatch-lab={lab.url}")
        options = [each for each in series.options if not each.startswith("--dispatch-db")]
        bench.workloads({"a": "fail"})
        results = [
            clean(
                bench.fork(
                    *("--dispatch-dir=w", "-p", "no:randomly", *options),
                    environ={**environ, "DISPATCH_TOKEN": lab.token},
                )
            )
            for _ in range(2)
        ]
        assert series.states == [("open", 1)]
        assert [len(known(result)) for result in results] == [0, 1]
        bench.workloads({"a": "pass"})
        for _ in range(2):
            bench.fork("--dispatch-dir=w", *options, environ={**environ, "DISPATCH_TOKEN": lab.token})
        assert series.states == [("closed", 2)]
