"""The hooks that users implement: what they may change, what they are told, and what becomes of their mistakes."""

from __future__ import annotations

import json
import re

import pytest
from faults import fault
from plugin_bench import Bench

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

LOG = """
import json, os

def note(*words):
    with open("log.txt", "a") as log:
        log.write(json.dumps([os.environ.get("PYTEST_XDIST_WORKER", "main"), *words]) + "\\n")
"""


def logged(bench: Bench) -> list[list[str]]:
    return [json.loads(line) for line in bench.path.joinpath("log.txt").read_text().splitlines()]


def test_workloads_may_be_changed(bench: Bench) -> None:
    bench.workloads({"a": "no-boot", "b": "pass", "c": "fail"})
    bench.pytester.makeconftest(
        """
        from dataclasses import replace
        from pytest_dispatch import Expect

        def pytest_dispatch_workloads(config, workloads):
            a, b, c = workloads
            z = replace(b, name="z", payload={**c.payload, "media": "img"})
            workloads[:] = [z, replace(a, expect=Expect.RETURN)]
        """
    )
    result = bench.run("-v")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["w::z FAILED*", "w::a.efi PASSED*"])


def test_what_a_hook_adds_from_elsewhere_is_read_there_and_no_path_crosses_the_api(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    elsewhere = bench.path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.efi").write_bytes(b"MZ b")
    (bench.path / "link").symlink_to(elsewhere)
    bench.pytester.makeconftest(
        f"""{LOG}
from dataclasses import replace
from pathlib import Path

def pytest_dispatch_workloads(config, workloads):
    payload = dict(media="efi", location=Path("link/b.efi").absolute(), size=4)
    workloads.append(replace(workloads[0], name="b.efi", payload=payload))

def pytest_dispatch_event(run, event, attempt):
    if event == "assign":
        note(run.workload.name, run.workload.payload["location"])
"""
    )
    result = bench.run("-v")
    result.assert_outcomes(passed=2)
    assert sorted(logged(bench)) == [["main", "a.efi", "folder:w/a.efi"], ["main", "b.efi", "folder:elsewhere/b.efi"]]


def changed(payload: str) -> str:
    """What has another payload in the place of the first."""
    return f"workloads[0] = replace(workloads[0], payload=dict(workloads[0].payload, {payload}))"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("workloads.append('b.efi')", "pytest_dispatch_workloads: expected pytest_dispatch.Workload, got 'b.efi'"),
        ("workloads.append(workloads[0])", "expected the names of workloads to differ, 'a.efi' comes twice"),
        ("workloads[0] = replace(workloads[0], name='a\\nb')", "at most 255 characters, all printable, got 'a\\nb'"),
        (
            "workloads[0] = replace(workloads[0], payload={'media': 'efi'})",
            "pytest_dispatch_workloads: a.efi: payload: expected media, location and size, got media",
        ),
        (changed("media='exe'"), "a.efi: payload: media: expected one of efi, iso, img, got 'exe'"),
        (changed("size=0"), "a.efi: payload: size: expected a number of bytes, got 0"),
        (
            changed("location='https://example.com/a.efi'"),
            "a.efi: payload: location: expected an absolute path, or the API URL of a release asset such as",
        ),
        (changed("location='a.efi'"), "a.efi: payload: location: expected an absolute path or a URL, got 'a.efi'"),
    ],
)
def test_workloads_that_cannot_be(bench: Bench, change: str, expected: str) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        f"from dataclasses import replace\ndef pytest_dispatch_workloads(workloads):\n    {change}\n"
    )
    assert expected in bench.refused("--dispatch-dir=w")


@fault(
    "pytest",
    "`pytest_dispatch_workloads` raises",
    outcome="nothing is run, nothing is started",
    told="one line that names the hook, the exception and the place; exit code 4",
)
@pytest.mark.parametrize("raised", ["ValueError('no\\x1b[2J lab')", "__import__('pytest').fail('no lab')"])
def test_the_hook_for_workloads_raises(bench: Bench, raised: str) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(f"def pytest_dispatch_workloads(workloads):\n    raise {raised}\n")
    line = bench.refused("--dispatch-dir=w")
    assert re.search(r"^pytest_dispatch_workloads raised (ValueError|Failed): no lab \(.*conftest\.py, line 2\)$", line)


def test_the_hook_for_workloads_ends_pytest(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("import pytest\ndef pytest_dispatch_workloads(): pytest.exit('no lab', 7)\n")
    assert bench.run().ret == 7


def test_all_workloads_removed(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("def pytest_dispatch_workloads(workloads): workloads.clear()")
    result = bench.run()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["dispatch: w; no workload; *"])


@fault(
    "pytest",
    "`pytest_dispatch_verdict` raises, or gives what is no outcome",
    outcome="the workload's item is an error, and is not tried again; all others go on",
    told="the hook, the exception and its place, or what was expected",
)
def test_a_verdict_of_ones_own(bench: Bench) -> None:
    verdicts = ["passed", "failed", "error", "skipped", "luck", "raise", "fail", "none"]
    bench.workloads(dict.fromkeys(verdicts, "pass"))
    bench.pytester.makeconftest(
        """
        import pytest
        from pytest_dispatch import Outcome

        def pytest_dispatch_verdict(run):
            assert run.attempt.reports[0].result == "passed"
            name = run.workload.name.removesuffix(".efi")
            if name == "raise":
                raise LookupError("no such\\x1b[2J lab")
            if name == "fail":
                pytest.fail("not like this")
            if name == "failed":
                return Outcome.FAILED
            return None if name == "none" else name
        """
    )
    result = bench.run("-v", "--dispatch-retries=0")
    result.assert_outcomes(passed=2, failed=1, errors=4, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "w::failed.efi FAILED*",
            "the verdict hook says failed",
            "the verdict hook says error",
            "w::skipped.efi SKIPPED (the verdict hook says skipped)*",
            "pytest_dispatch_verdict: expected one of passed, failed, error, skipped, got 'luck'",
            "pytest_dispatch_verdict raised LookupError: no such lab (*conftest.py, line 8)",
            "pytest_dispatch_verdict raised Failed: not like this (*conftest.py, line 10)",
        ]
    )
    assert "\x1b" not in result.stdout.str()


@pytest.mark.parametrize("what", ["raise LookupError('no such lab')", "return 'luck'"])
def test_a_verdict_hook_that_breaks_has_nothing_booted_again(bench: Bench, github: FakeGitHub, what: str) -> None:
    github.add_repo("me/lab")
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(LOG + f"def pytest_dispatch_verdict(run):\n    note(run.workload.name)\n    {what}\n")
    result = bench.run(
        "--dispatch-retries=3", "--dispatch-issues=all", "--dispatch-issues-repo=me/lab",
        f"--dispatch-api-url={github.url}", f"--dispatch-token={github.token}",
    )  # fmt: skip
    result.assert_outcomes(errors=1)
    assert logged(bench) == [["main", "a.efi"]]
    [issue] = github.issues("me/lab")
    assert "- outcome: error, attempt 1 of 1" in issue.body


def test_a_verdict_of_error_is_tried_again(bench: Bench) -> None:
    """It may be that of a lab that has a bad day, which a hook sees in a report."""
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        "def pytest_dispatch_verdict(run): return 'error' if len(run.attempts) == 1 else 'passed'\n"
    )
    bench.run("--dispatch-retries=1").assert_outcomes(passed=1)


def test_hooks_that_raise_without_end_are_told_of_in_some_lines(bench: Bench) -> None:
    bench.workloads({f"w{number}": "pass" for number in range(8)})
    bench.pytester.makeconftest("def pytest_dispatch_event(run, event): raise LookupError(run.workload.name + event)\n")
    result = bench.run()
    result.assert_outcomes(passed=8)
    assert result.stdout.str().count("pytest_dispatch_event raised LookupError: w") == 20
    result.stdout.fnmatch_lines(["… and * more of hooks"])


@fault(
    "pytest",
    "`pytest_dispatch_issue` raises, or gives what is no issue",
    outcome="the issue is filed as it would be without the hook",
    told="the hook, the exception and its place, or what was expected, at the end of the session",
)
def test_issues_may_be_changed(bench: Bench, github: FakeGitHub) -> None:
    github.add_repo("me/lab")
    bench.workloads(
        {"drop": "pass", "change": "fail", "keep": "fail", "odd": "fail", "raise": "fail", "once": "no-boot"}
    )
    bench.pytester.makeconftest(
        LOG
        + """
from dataclasses import replace

def pytest_dispatch_issue(run, issue):
    name = run.workload.name.removesuffix(".efi")
    note(name, issue.title)
    if name == "raise":
        raise ValueError("no")
    changed = replace(issue, title="[lab] " + issue.title, marker="mine", labels=("hot",))
    return {"drop": False, "change": changed, "odd": 7}.get(name)
"""
    )
    result = bench.run(
        "--dispatch-issues=all", "--dispatch-issues-repo=me/lab", f"--dispatch-api-url={github.url}",
        f"--dispatch-token={github.token}", "--junitxml=own.xml",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    titles = sorted(issue.title for issue in github.issues("me/lab"))
    assert titles == ["[lab] change.efi", "keep.efi", "odd.efi", "once.efi could not be run", "raise.efi"]
    assert sorted(name for _, name, _ in logged(bench)) == ["change", "drop", "keep", "odd", "once", "raise"]
    result.stdout.fnmatch_lines_random(
        [
            "issue: http*/me/lab/issues/*",
            "issue: change.efi: http*",
            "pytest_dispatch_issue raised ValueError: no (*conftest.py, line *)",
            "pytest_dispatch_issue: expected an Issue, False or None, got 7",
        ]
    )
    assert 'name="dispatch_issue" value="http' in bench.path.joinpath("own.xml").read_text()


def test_issues_of_failures_alone(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a.efi": ("application/vnd.dispatch+efi", b"MZ" * 99)})
    bench.pytester.makeconftest(LOG + "def pytest_dispatch_issue(run, issue): note(issue.title)\n")
    args = ["--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}", "--dispatch-issues=failed"]
    result = bench.pytester.runpytest_inprocess(
        *args, f"--dispatch-token={github.token}", *bench.command()[1:], "--dispatch-cache=assets"
    )
    result.assert_outcomes(passed=1)
    assert not github.issues("me/lab")
    assert not bench.path.joinpath("log.txt").exists()
    assert github.downloads == {"a.efi": 1}
    without = bench.pytester.runpytest_inprocess(*args, *bench.command()[1:], "--dispatch-cache=assets")
    without.stdout.fnmatch_lines(["dispatch: me/lab@v1; 1 efi; *; no token: issues are not filed (it comes by *)"])
    assert "GITHUB_TOKEN is for github.com, unless GITHUB_API_URL names this server" in without.stdout.str()
    assert github.downloads == {"a.efi": 1}


@fault(
    "pytest",
    "`pytest_dispatch_event` raises",
    outcome="nothing changes; the hook is called for later events all the same",
    told="the hook, the exception and its place, once, at the end of the session",
)
@pytest.mark.parametrize("distributed", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_everything_that_happens_is_told_once_and_in_order(bench: Bench, distributed: tuple[str, ...]) -> None:
    bench.workloads({"a": "multi-report", "b": "pass"})
    bench.pytester.makeconftest(
        LOG
        + """
def pytest_dispatch_workloads(workloads):
    note("workloads", str(len(workloads)))

def pytest_dispatch_verdict(run):
    note("verdict", run.workload.name)

def pytest_dispatch_event(run, event, attempt):
    note(run.workload.name, event, run.attempts[attempt - 1].state)
    assert run.workload.name == "a.efi", "only a"
"""
    )
    result = bench.spawn(*distributed) if distributed else bench.run()
    result.assert_outcomes(passed=2)
    log = logged(bench)
    assert {worker for worker, *_ in log} == {"main"}
    assert [words for _, *words in log if words[0] == "workloads"] == [["workloads", "2"]]
    assert sorted(words[1] for _, *words in log if words[0] == "verdict") == ["a.efi", "b.efi"]
    events = [
        (event, state) for _, name, event, state in (entry for entry in log if len(entry) == 4) if name == "a.efi"
    ]
    assert events[:6] == [
        ("assign", "assigned"), ("send", "downloading"), ("sent", "downloaded"),
        ("boot", "booting"), ("report", "reported"), ("report", "reported"),
    ]  # fmt: skip
    assert events[-1] == ("complete", "finished")
    assert result.stdout.str().count("pytest_dispatch_event raised AssertionError: only a") == 1


def test_a_plugin_that_comes_late_is_heard_too(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        class Mine:
            def pytest_dispatch_verdict(self, run):
                return "failed"

        @pytest.hookimpl(trylast=True)
        def pytest_configure(config):
            config.pluginmanager.register(Mine())
        """
    )
    bench.run().assert_outcomes(failed=1)
