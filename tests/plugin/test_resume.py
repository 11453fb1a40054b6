"""What a resumed session takes from the one that was cut off, what from its own options, and when there is none."""

from __future__ import annotations

import re

import pytest
from faults import fault
from plugin_bench import ENOUGH, ONE, Bench, Scenario

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

#: Ends pytest as soon as one item is through.


def cut_off(bench: Bench, *args: str) -> pytest.RunResult:
    """A session of which one item came to its end; the others never run to theirs."""
    bench.path.joinpath("conftest.py").write_text(ENOUGH)
    result = bench.spawn("-v", *args, machines=ONE)
    bench.path.joinpath("conftest.py").unlink()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    return result


def header_of(result: pytest.RunResult) -> str:
    return next(line for line in result.outlines if line.startswith("dispatch: "))


def taken(result: pytest.RunResult) -> set[str]:
    """Workloads that machines took."""
    return set(re.findall(r"(\S+) assigned on", result.stdout.str()))


@fault(
    "pytest",
    "`--dispatch-resume` when the newest session of the source ended whole",
    outcome="all is run anew: what was left of an older session is out of date",
    told="`nothing to resume` in the header",
)
def test_what_was_left_before_a_session_that_ended_whole_is_not_taken_up(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "hang"})
    cut_off(bench)
    bench.workloads({"a": "fail", "b": "pass"})
    whole = bench.spawn("-v")
    assert "resume" not in header_of(whole)
    again = bench.spawn("-v", "--dispatch-resume")
    assert again.parseoutcomes()["failed"] >= 1
    assert header_of(again).endswith("; nothing to resume")
    assert taken(again) == {"a.efi", "b.efi"}


@pytest.mark.parametrize("inside", [False, True])
def test_the_folder_may_be_spelled_otherwise(bench: Bench, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    bench.pytester.makeini("[pytest]\n")
    path = bench.workloads({"a": "pass", "b": "hang"})
    cut_off(bench)
    bench.workloads({"a": "fail", "b": "pass"})
    if inside:
        monkeypatch.chdir(path)
    again = bench.run("--dispatch-resume", folder="." if inside else str(path))
    assert header_of(again).startswith("dispatch: w; ")
    assert header_of(again).endswith("; resumed")
    assert taken(again) <= {"b.efi"}


@fault(
    "pytest",
    "`--dispatch-resume -k …` leaves some of what is left out",
    outcome="machines get what was selected; the rest waits for the next session that is resumed",
    told="nothing",
)
def test_what_is_not_selected_is_not_run_but_left_for_later(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "hang", "c": "pass", "d": "pass"})
    cut_off(bench)
    some = bench.spawn("-v", "--dispatch-resume", "-k", "c.efi")
    some.assert_outcomes(passed=1, deselected=3)
    assert header_of(some).endswith("; resumed")
    assert taken(some) == {"c.efi"}
    bench.workloads({"a": "fail", "b": "pass", "c": "fail", "d": "pass"})
    rest = bench.spawn("-v", "--dispatch-resume")
    rest.assert_outcomes(passed=4)
    assert taken(rest) == {"b.efi", "d.efi"}


def test_what_has_not_ended_is_what_it_is_now(bench: Bench) -> None:
    """Other bytes, another scenario, another expectation, other limits."""
    hangs: dict[str, Scenario] = dict.fromkeys("bcd", "hang")
    bench.workloads({"a": "pass", **hangs})
    cut_off(bench)
    workloads = bench.workloads({"a": "fail", "b": {"scenario": "hang", "expect": "boot"}, "c": "pass", "d": "hang"})
    workloads.joinpath("c.efi").write_bytes(b"MZ, and longer than before" * 100)  # which passes
    again = bench.spawn("-v", "--dispatch-resume", "--dispatch-report-timeout=5s", "--dispatch-drain=0")
    again.assert_outcomes(passed=3, failed=1)
    assert "no report 5s after it booted" in again.stdout.str()


def test_what_has_ended_is_told_whole(bench: Bench) -> None:
    """With the digest of what was served, also that of a file, and with what its machine showed."""
    bench.workloads({"a": "fail", "b": "pass"})
    cut_off(bench, "--junitxml=first.xml")
    bench.path.joinpath("w", "a.efi").write_bytes(b"MZ, other bytes")
    bench.spawn("--dispatch-resume", "--junitxml=again.xml")
    first, again = (case_of("a.efi", bench.path.joinpath(f"{name}.xml").read_text()) for name in ("first", "again"))
    assert "last console lines" in first
    assert re.search('name="dispatch_digest" value="sha256:[0-9a-f]{64}"', first)
    assert without_times(again) == without_times(first)


def case_of(name: str, xml: str) -> str:
    found = re.search(f'<testcase [^>]*name="{re.escape(name)}".*?</testcase>', xml, re.DOTALL)
    assert found is not None
    return found[0]


def without_times(case: str) -> str:
    """What pytest itself measured differs; and between the clocks of two labs a full second may begin."""
    return re.sub(r' time="[0-9.]+"|\b\d\d:\d\d:\d\d\b', "", case)


@fault(
    "GitHub",
    "issues were kept, and the next session files at another GitHub",
    outcome="unchanged; they stay kept, for their own GitHub alone",
    told="`not filed, kept for a session with --dispatch-api-url …`",
)
def test_kept_issues_are_for_their_own_github(bench: Bench, github: FakeGitHub) -> None:
    def options(github: FakeGitHub) -> list[str]:
        where = ["--dispatch-issues-repo=me/lab", f"--dispatch-api-url={github.url}"]
        return ["--dispatch-issues=all", f"--dispatch-token={github.token}", *where]

    with FakeGitHub() as other:
        for each in (github, other):
            each.add_repo("me/lab")
        github.fail_next("POST /repos/*/issues", status=410, message="Issues has been disabled in this repository.")
        bench.workloads({"secret": "pass"})
        bench.run(*options(github)).stdout.fnmatch_lines(["not filed, kept for the next session: secret.efi: *"])
        bench.workloads({"a": "pass"}, folder="v")
        result = bench.run(*options(other), folder="v")
        result.stdout.fnmatch_lines([f"not filed, kept for a session with --dispatch-api-url {github.url}: secret.efi"])
        assert [issue.title for issue in other.issues("me/lab")] == ["a.efi"]
        result = bench.run(*options(github), folder="v")
        assert "not filed" not in result.stdout.str()
        assert sorted(issue.title for issue in github.issues("me/lab")) == ["a.efi", "secret.efi"]
