"""GitHub issues as the session sees them: what is filed is told. Of GitHub's bad days: `test_github_faults`."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from faults import fault
from plugin_bench import Bench

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture
def filing(github: FakeGitHub) -> tuple[str, ...]:
    """Options with which issues of a folder are filed."""
    return (
        "--dispatch-issues=all",
        "--dispatch-issues-repo=me/lab",
        f"--dispatch-api-url={github.url}",
        f"--dispatch-token={github.token}",
    )


def test_every_outcome_becomes_an_issue(bench: Bench, github: FakeGitHub, filing: tuple[str, ...]) -> None:
    github.add_repo("me/lab")
    bench.workloads({"a": "pass", "b": "fail", "c": "no-boot", "d": "multi-report"})
    result = bench.run(*filing, "--dispatch-retries=0", "--junitxml=own.xml")
    result.assert_outcomes(passed=2, failed=2, errors=1)
    titles = sorted(issue.title for issue in github.issues("me/lab"))
    assert titles == [
        "a.efi", "b.efi", "c.efi could not be run", "d.efi: certificate", "d.efi: platform", "d.efi: summary"
    ]  # fmt: skip
    text = result.stdout.str()
    for issue in github.issues("me/lab"):
        assert f"/me/lab/issues/{issue.number}" in text
    story = text.partition("w: b.efi ")[2].partition("= dispatch =")[0]
    assert "issue: http" in story
    assert bench.path.joinpath("own.xml").read_text().count('name="dispatch_issue"') == 6


def test_a_report_after_the_end_is_filed_and_shown_and_changes_nothing(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...]
) -> None:
    github.add_repo("me/lab")
    github.add_milestone("me/lab", "c1")
    bench.workloads({"a": {"expect": "boot", "scenario": "pass"}})
    said = {"title": "at last", "result": "failed", "labels": ["certificate"], "milestone": "c1"}
    result = bench.spawn(*filing, "-v", "--dispatch-junit=cases.xml", machines=bench.saying(said))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*a.efi: a report came too late on bench-1: at last*"])
    result.stdout.fnmatch_lines(["late report: a.efi: at last, result failed, *s after the end of attempt 1"])
    by_title = {issue.title: issue for issue in github.issues("me/lab")}
    assert sorted(by_title) == ["a.efi passed", "at last"]
    late = by_title["at last"]
    assert late.body.startswith("> This report came ")
    assert (late.labels, late.milestone and late.milestone.title) == (["certificate"], "c1")
    (case,) = ElementTree.parse(bench.path / "cases.xml").iter("testcase")
    shown = [each.get("value", "") for each in case.iter("property") if each.get("name") == "dispatch_late_report"]
    assert [text.partition(",")[0] for text in shown] == ["at last"]
    assert not case.findall("failure")


def test_what_github_drops_in_silence_is_said_once(bench: Bench, github: FakeGitHub, filing: tuple[str, ...]) -> None:
    github.add_repo("me/lab", may_sort=False)
    bench.workloads({"a": "pass"})
    says = [{"title": title, "labels": ["certificate"]} for title in ("one", "two")]
    result = bench.run(*filing, machines=bench.saying(*says))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["dispatch: w; *; issues to me/lab"])
    why = "the token from --dispatch-token may not set them, which takes triage or write access"
    said = f"not filed, labels of one, two: me/lab took the issue and dropped them: {why}"
    assert [line for line in result.outlines if "dropped" in line] == [said]
    assert len(github.issues("me/lab")) == 2


@fault(
    "GitHub",
    "pytest is interrupted while GitHub files an issue",
    outcome="unchanged; the next session recognises the issue, and files the others",
    told="nothing",
)
def test_what_was_interrupted_is_filed_by_the_next_session(
    bench: Bench, github: FakeGitHub, filing: tuple[str, ...]
) -> None:
    github.add_repo("me/lab")
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makeconftest("import pytest\ndef pytest_runtest_logfinish(): pytest.exit('enough')\n")
    gate = github.hold_next("POST /repos/*/issues")
    result = bench.spawn(*filing, machines="--dispatch-machine=sim?pace=0.001")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    gate.open()  # it is filed after all, and nobody was told
    bench.path.joinpath("conftest.py").unlink()
    result = bench.run(*filing, "--dispatch-resume", machines="--dispatch-machine=sim?pace=0.001")
    result.assert_outcomes(passed=2)
    assert sorted(issue.title for issue in github.issues("me/lab")) == ["a.efi", "b.efi"]
    result.stdout.fnmatch_lines(["issue: a.efi: http*", "issue: b.efi: http*"])
