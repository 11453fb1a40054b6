"""Lines about what happens, with -v and without a terminal: each is one line, and stands beside pytest's own."""

from __future__ import annotations

import re

import pytest
from plugin_bench import Bench

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


def test_no_line_runs_into_one_of_pytests(bench: Bench) -> None:
    names = [f"w{number:02}" for number in range(24)]
    bench.workloads(dict.fromkeys(names, "pass"))
    result = bench.spawn("-v", machines="--dispatch-machine=sim:5?pace=0.005")
    result.assert_outcomes(passed=len(names))
    assert not [line for line in result.outlines if re.search(r"\Sw::|.\s*w::", line)]
    assert not [line for line in result.outlines if len(re.findall("[📥⚡📝🏁]", line)) > 1]
    for state in ("assigned", "downloaded", "booting", "reported", "finished"):
        assert sum(f".efi {state} on sim-" in line for line in result.outlines) == len(names)


@pytest.mark.parametrize("interrupt", ["raise KeyboardInterrupt", "import pytest; pytest.exit('enough')"])
def test_what_is_left_undone_is_said(bench: Bench, interrupt: str) -> None:
    bench.workloads({"a": "pass", "b": "hang"})
    bench.pytester.makeconftest(f"def pytest_runtest_logfinish(): {interrupt}\n")
    result = bench.spawn(machines="--dispatch-machine=sim:2?pace=0.001")  # one hangs, be it the first
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["1 of 2 workloads have no outcome yet; --dispatch-resume goes on with them"])


STRANGER = """
import http.client, urllib.parse
from pytest_dispatch.plugin.lab_session import LAB_SESSION

def pytest_runtest_setup(item):
    port = urllib.parse.urlsplit(item.config.stash[LAB_SESSION].client.url).port
    for _ in range(2):
        lab = http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.0.9", 0))
        lab.request("POST", "/dispatch")
        assert lab.getresponse().status == 417
        lab.close()
"""
STRANGERS_TOO = "--dispatch-allow=127.0.0.0/8"
REFUSED = "refused: 127.0.0.9 at [0-9:]{8}: 417, has no workload here that was downloading; .*boot\\?"


@pytest.mark.parametrize(("args", "at_once"), [([], 1), (["-v"], 1), (["-q"], 0)])
def test_a_machine_that_is_refused_is_said_at_once_and_at_the_end(bench: Bench, args: list[str], at_once: int) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(STRANGER)
    result = bench.spawn(*args, STRANGERS_TOO, machines="--dispatch-machine=sim:1?pace=0.1")
    result.assert_outcomes(passed=1)
    said, told = result.stdout.str().split("== dispatch ==")
    assert len(re.findall(f"(?m)^{REFUSED}$", said)) == at_once
    assert re.search(rf"(?m)^{REFUSED} \(2 times, the last at [0-9:]{{8}}\)$", told)


def test_who_gives_up_waiting_is_told_who_was_refused(bench: Bench) -> None:
    bench.workloads({"a": "hang"})
    interrupt = """
def pytest_dispatch_event(run, event):
    import _thread
    if event == "boot":
        _thread.interrupt_main()
"""
    bench.pytester.makeconftest(STRANGER + interrupt)
    result = bench.spawn(STRANGERS_TOO, machines="--dispatch-machine=sim:1?pace=0.1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert re.search(f"(?m)^{REFUSED}", result.stdout.str().split("== dispatch ==")[1])


def test_issues_that_are_not_filed_yet_are_said(bench: Bench, github: FakeGitHub) -> None:
    github.add_repo("me/lab")
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("def pytest_runtest_logfinish(): raise KeyboardInterrupt\n")
    where = ("--dispatch-issues-repo=me/lab", f"--dispatch-api-url={github.url}", f"--dispatch-token={github.token}")
    github.fail_next("POST /repos/*/issues", status=502, times=9)
    result = bench.spawn("-q", "--dispatch-issues=all", *where, machines="--dispatch-machine=sim:1?pace=0.001")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["issues not filed yet: 1; the next session files them", "not filed, *a.efi*502*"])


COMMANDS = (
    "::set-output name=x::y",
    "##[error]x",
    "##vso[task.setvariable variable=x]y",
    "##teamcity[testFailed name='x']",
)


@pytest.mark.parametrize("options", [("-vv",), ("-q", "-rA"), ("-vv", "-n1")], ids=" ".join)
@pytest.mark.draw(1)
def test_what_workloads_say_is_no_command_to_a_runner_of_ci(
    bench: Bench, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    said = "\n".join(COMMANDS)
    words = " ".join(COMMANDS)
    padded = ["x" * more + COMMANDS[0] for more in range(70, 80)]  # one of which pytest breaks ahead of the colons
    skipped = [{"name": f"skip {text}", "outcome": "skipped", "message": text} for text in [said, *padded]]
    failed = [{"name": command, "outcome": "failed", "message": said} for command in COMMANDS]
    report = {"title": words, "body": said, "labels": [COMMANDS[0]], "cases": [*skipped, *failed]}
    bench.workloads({"a": "pass"})
    result = bench.spawn(*options, "--dispatch-junit=cases.xml", machines=bench.saying(report))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "set-output" in result.stdout.str()
    for line in result.outlines + result.errlines:
        assert not line.strip().startswith("::")
        assert not any(command in line for command in ("##[", "##vso[", "##teamcity["))
