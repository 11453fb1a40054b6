"""The phases of an item are those of its boot: whose fault something is, where it is told, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import fault
from plugin_bench import Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

KINDS = ("failure", "error", "skipped")

EVERYTHING: Mapping[str, str | Mapping[str, str]] = {
    "pass": "pass",
    "multi": "multi-report",
    "again": "duplicate",
    "drop": "drop-download",
    "fail": "fail",
    "hang": {"scenario": "hang", "report-timeout": "0.3s"},
    "back": "come-back",
    "dead": "no-boot",
}
OUTCOMES = {"passed": 4, "failed": 4, "errors": 1}  # the failed case counts too

#: A machine whose power fails when a workload says so; registered as a package of a third party would.
FRAIL = """
from dataclasses import replace
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.sim.driver import SimMachine


class Frail:
    def __init__(self, console):
        self.console = console

    async def read(self):
        async for sign in self.console.read():
            yield sign
            if "POST: 200" in sign.text:
                yield Sign(text="click", fault="its power failed", lab=True)


def create(spec, state):
    machine = SimMachine(pace=0.001).driven("frail-1")
    return [replace(machine, console=Frail(machine.console))]
"""


class Suite:
    """A JUnit file that pytest wrote."""

    def __init__(self, path: Path) -> None:
        root = ElementTree.parse(path).getroot()
        self.cases = list(root.iter("testcase"))
        [suite] = root.iter("testsuite")
        self.counts = {name: int(suite.get(name, "")) for name in ("errors", "failures", "skipped", "tests")}

    def outcomes(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each case's name, and what went wrong with it."""
        return sorted(
            (case.get("name", ""), tuple(found.tag for found in case if found.tag in KINDS)) for case in self.cases
        )

    def properties(self, name: str) -> dict[str, str]:
        return {
            entry.get("name", ""): entry.get("value", "")
            for case in self.cases
            if case.get("name") == name
            for entry in case.iter("property")
        }


# All of them


def test_whose_fault_it_is_with_and_without_xdist(bench: Bench) -> None:
    bench.workloads(EVERYTHING)
    plain, spread = (
        bench.run(*extra, f"--junitxml={name}.xml", f"--dispatch-junit={name}-cases.xml", "--dispatch-retries=0")
        if not extra
        else bench.spawn(*extra, f"--junitxml={name}.xml", f"--dispatch-junit={name}-cases.xml", "--dispatch-retries=0")
        for name, extra in (("plain", ()), ("spread", ("-n", "2", "-v")))
    )
    for result in (plain, spread):
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        text = result.stdout.str()
        assert re.search(r"4 failed, 4 passed, 1 error", text)
        assert text.count("ERROR at setup of w: dead.efi") == 1
        result.stdout.fnmatch_lines(
            [
                "FAILED w::back.efi - sim-? came back without reporting",
                "SUBFAILED[[]memory[]] w::fail.efi - expected 4 memory channels, found 3",
                "FAILED w::fail.efi - it reported failed: fail.efi",
                "FAILED w::hang.efi - no report 0.3s after it booted on sim-?",
            ],
        ) if result is plain else None
    here, there = Suite(bench.path / "plain.xml"), Suite(bench.path / "spread.xml")
    assert here.outcomes() == there.outcomes()
    assert here.counts == there.counts
    for name in EVERYTHING:
        one, other = here.properties(f"{name}.efi"), there.properties(f"{name}.efi")
        assert set(one) == set(other)
        for fact in ("dispatch_digest", "dispatch_outcome", "dispatch_attempts"):
            assert one[fact] == other[fact]
    cases, others = Suite(bench.path / "plain-cases.xml"), Suite(bench.path / "spread-cases.xml")
    assert cases.outcomes() == others.outcomes()
    assert dict(cases.outcomes())["dead.efi"] == ("error",)
    assert dict(cases.outcomes())["hang.efi"] == ("failure",)
    assert ("network", ()) in cases.outcomes()


def test_facts_in_junit_files(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    bench.run("--junitxml=own.xml", "--dispatch-junit=deep/cases.xml")
    facts = Suite(bench.path / "own.xml").properties("a.efi")
    assert re.fullmatch(r"sim-\d", facts["dispatch_machine"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", facts["dispatch_digest"])
    assert (facts["dispatch_attempts"], facts["dispatch_outcome"]) == ("1", "passed")
    seconds = {name for name in facts if name.startswith("dispatch_seconds_")}
    assert {name.rpartition("_")[2] for name in seconds} == {
        "unassigned", "assigned", "downloading", "downloaded", "booting", "reported"
    }  # fmt: skip
    assert all(float(facts[name]) >= 0 for name in seconds)
    cases = Suite(bench.path / "deep" / "cases.xml")
    assert cases.counts == {"tests": 5, "failures": 2, "errors": 0, "skipped": 0}
    assert {case.get("classname") for case in cases.cases} == {"w::a.efi", "w::b.efi"}
    assert {case.get("time") for case in cases.cases if case.get("name") == "network"} == {"0.25"}
    assert cases.properties("b.efi")["dispatch_reason"] == "it reported failed: b.efi"


# A failure's text


@pytest.mark.parametrize("style", ["long", "native", "line"])
def test_a_failure_tells_its_story_without_a_traceback(bench: Bench, style: str) -> None:
    bench.workloads({"a": "fail"})
    result = bench.run(f"--tb={style}", "--showlocals")
    text = result.stdout.str()
    assert ".py" not in text
    assert "FAILED w::a.efi - it reported failed: a.efi" in text
    if style != "line":
        result.stdout.fnmatch_lines(
            [
                "*w: a.efi*",
                "a.efi (sha256:*) on sim-?, attempt 1 of 1",
                "  * unassigned *s",
                "  * booting * s",
                "  * finished *",
                "report: a.efi, result failed",
                "  A check failed.",
                "  failed case memory: expected 4 memory channels, found 3",
                "last console lines",
                "*a.efi: memory: FAILED: expected 4 memory channels, found 3",
            ]
        )


def test_a_fault_of_the_lab_is_tried_again_and_told_once(bench: Bench) -> None:
    bench.workloads({"a": "no-boot"})
    result = bench.run()
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "attempt 1 of 2" in text
    assert "attempt 2 of 2" in text
    assert "a workload without a beacon needs --dispatch-expect return" in text


def test_a_fault_of_the_lab_after_the_boot_is_an_error_too(bench: Bench) -> None:
    bench.workloads({"a": "hang", "b": "hang"})
    frail = bench.driver(FRAIL)
    result = bench.run("--junitxml=own.xml", "--dispatch-retries=0", "-v", machines=frail)
    result.assert_outcomes(errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["w::a.efi ERROR*", "*_ ERROR at setup of w: a.efi _*", "frail-1: its power failed *"])
    assert "FAILED" not in result.stdout.str()
    suite = Suite(bench.path / "own.xml")
    assert suite.outcomes() == [("a.efi", ("error",)), ("b.efi", ("error",))]
    assert suite.counts == {"errors": 2, "failures": 0, "skipped": 0, "tests": 2}


def test_passing_at_a_further_attempt_is_shown_as_flaky(bench: Bench) -> None:
    bench.workloads({"a": "fail"})
    bench.pytester.makeconftest(
        """
        def pytest_dispatch_verdict(run):
            return "failed" if len(run.attempts) == 1 else "passed"
        """
    )
    result = bench.run("--dispatch-retry-failures=1", "-v", "--junitxml=own.xml")
    assert result.ret == 0  # the case of the first attempt has failed, and does not count
    result.stdout.fnmatch_lines(
        [
            "w::a.efi SUBSKIPPED[[]memory[]] *failed, but the run is passed: expected*",
            "w::a.efi PASSED*",
            "flaky: a.efi passed on attempt 2 (a failure before: *)",
        ]
    )
    assert Suite(bench.path / "own.xml").properties("a.efi")["dispatch_attempts"] == "2"


def test_expecting_less_than_a_report(bench: Bench) -> None:
    bench.workloads({"a": "come-back", "b": "no-boot"})
    bench.run("--dispatch-expect=return").assert_outcomes(passed=2)
    bench.run("-k", "a.efi", "--dispatch-expect=boot").assert_outcomes(passed=1)
    bench.workloads(
        {"a": {"scenario": "come-back", "expect": "boot"}, "b": {"scenario": "no-boot", "expect": "return"}}
    )
    bench.run().assert_outcomes(passed=2)


# What workloads say


def test_the_worst_of_several_reports_decides(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    reports = {"title": "one", "result": "passed"}, {"title": "two", "labels": ["FAIL"]}, {"title": "three"}
    result = bench.run(machines=bench.saying(*reports))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["it reported with the label FAIL: two", "report: one, result passed", "report: two", "report: three"]
    )


def test_a_workload_that_skips_itself(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    cases = [{"name": "x", "outcome": "skipped", "message": "no such card"}]
    machines = bench.saying({"title": "no board", "result": "skipped", "cases": cases})
    result = bench.run("-rs", "-v", "--junitxml=own.xml", "--dispatch-junit=cases.xml", machines=machines)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "w::a.efi SUBSKIPPED[[]x[]] (no such card)*",
            "w::a.efi SKIPPED (it reported skipped: no board)*",
            "*SKIPPED* [[]1[]] w::a.efi*: it reported skipped: no board",
        ]
    )
    assert "items.py" not in bench.path.joinpath("own.xml").read_text()
    assert Suite(bench.path / "own.xml").outcomes() == [("a.efi", ("skipped", "skipped"))]  # as pytest has it
    assert Suite(bench.path / "cases.xml").outcomes() == [("a.efi", ("skipped",)), ("x", ("skipped",))]


def test_an_error_that_the_workload_reports(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    machines = bench.saying({"title": "no disk", "result": "error", "cases": [{"name": "x", "outcome": "failed"}]})
    result = bench.run("--dispatch-retries=0", machines=machines)
    result.assert_outcomes(errors=1)
    assert "it reported error: no disk" in result.stdout.str()


def test_cases_that_fail_without_a_word(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    cases = [
        {"name": "x", "outcome": "failed"},
        {"name": "y", "outcome": "error", "message": "broken"},
        {"name": "z", "outcome": "passed"},
    ]
    result = bench.run("-v", machines=bench.saying({"title": "t", "cases": cases}))
    result.stdout.fnmatch_lines(
        ["*SUBPASSED[[]z[]]*", "*SUBFAILED[[]x[]]*", "*SUBFAILED[[]y[]]*", "the case failed", "broken"]
    )
    result.stdout.fnmatch_lines(["2 of 3 cases did not pass: x, y"])


def test_a_result_that_its_cases_contradict_is_no_pass(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    cases = [{"name": "x", "outcome": "failed", "message": "3 of 4"}]
    result = bench.run("-v", machines=bench.saying({"title": "t", "result": "passed", "cases": cases}))
    result.stdout.fnmatch_lines(["*SUBFAILED[[]x[]]*", "w::a.efi FAILED*"])
    result.stdout.fnmatch_lines(["it reported passed, but 1 of 1 cases did not pass: x: 3 of 4"])


def test_results_that_break_off_are_told_wherever_results_are(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    machines = bench.saying({"title": "t", "body": "TAP version 13\n1..5\nok 1 - a\nok 2 - b\nSegmentation fault\n"})
    result = bench.run("-v", "--junitxml=own.xml", "--dispatch-junit=cases.xml", machines=machines)
    result.stdout.fnmatch_lines(["*SUBPASSED[[]b[]]*", "*SUBFAILED[[]TAP[]]*", "w::a.efi FAILED*"])
    result.stdout.fnmatch_lines(["1 of 3 cases did not pass: TAP: 2 of 5 planned tests ran"])
    result.stdout.fnmatch_lines(["  failed case TAP: 2 of 5 planned tests ran"])
    for name in ("own.xml", "cases.xml"):
        assert "2 of 5 planned tests ran" in bench.path.joinpath(name).read_text()
    assert ("TAP", ("failure",)) in Suite(bench.path / "cases.xml").outcomes()


def test_nothing_hostile_reaches_a_terminal_or_xml(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    evil = "\x1b[2J\x1b]0;mine\x07\x00\ufffe\x85\u202egood"
    cases = [
        {"name": f"c{evil}", "outcome": "failed", "message": f"m{evil}\nnext"},
        {"name": "s", "outcome": "skipped", "message": evil},
    ]
    report = {"title": f"t{evil}", "body": f"b{evil}\r\nmore", "labels": [evil], "cases": cases}
    machines = bench.saying(report)
    result = bench.spawn("-v", "-rA", "--junitxml=own.xml", "--dispatch-junit=cases.xml", machines=machines)
    shown = result.stdout.str()
    result.stdout.fnmatch_lines(["*SUBFAILED[[]c*good[]]*", "m*good", "next", "report: t*good", "  b*good", "  more"])
    for character in "\x1b\x07\x00\x85\u202e":
        assert character not in shown
    for name in ("own.xml", "cases.xml"):
        outcomes = Suite(bench.path / name).outcomes()  # it is XML at all
        assert ("a.efi", ("failure",)) in outcomes or any("failure" in kinds for _, kinds in outcomes)
    assert "\x1b" not in bench.path.joinpath("cases.xml").read_text()


# Around the workload


@fault(
    "pytest",
    "a user's fixture fails before its workload has booted, or after it has ended",
    outcome="the item is an error; the workload is cancelled or keeps its outcome, and its machine goes on",
    told="the fixture's own traceback",
)
def test_fixtures_that_fail_before_and_after(bench: Bench) -> None:
    bench.workloads({"a": "hang", "b": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def around(request):
            assert request.node.name != "a.efi", "not today"
            yield
            assert not request.node.name, "never tidy"
        """
    )
    result = bench.pytester.runpytest_inprocess(*bench.command(machines="--dispatch-machine=sim?pace=0.001"))
    result.assert_outcomes(passed=1, errors=2)  # one machine: b was run because a let it go
    result.stdout.fnmatch_lines(["*not today*", "*never tidy*", "machine sim-1: *b.efi*"])


@fault(
    "The disk",
    "the journal cannot be written any more",
    outcome="every item that waits is an error; what was acknowledged before is in the journal",
    told="the journal's own error, once for each item",
)
def test_a_lab_that_breaks_is_told_once_for_each_item(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "pass", "c": "pass"})
    bench.pytester.makeconftest(
        """
        import sqlite3
        from contextlib import closing
        from pathlib import Path

        def pytest_runtest_setup(item):
            if item.name == "a.efi":
                with closing(sqlite3.connect("j.db")) as db, db:
                    db.execute("DROP TABLE dispatch_moments")
                Path("go").touch()
        """
    )
    result = bench.run("--dispatch-db=j.db", "-v", machines=bench.gated("1?pace=0.001"))
    result.assert_outcomes(errors=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert len(re.findall("(?m)^ERROR w::", text)) == 3
    assert "FAILED" not in text
    result.stdout.fnmatch_lines(["w::a.efi ERROR*", "*journal *j.db: cannot write it*"])
