"""What pytest prints of one item is bounded, whatever its workload sends; the JUnit file has the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults import fault
from junitparser import JUnitXml, TestCase
from plugin_bench import Bench

from pytest_dispatch.plugin.item_details import (
    CHARACTERS,
    LINES,
    PRINTED,
    SUBTESTS,
    ItemDetails,
    attach,
    beginning,
    take_off,
)

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


def junit_cases(path: Path) -> list[TestCase]:
    return [case for suite in JUnitXml.fromfile(str(path)) for case in suite]


@fault(
    "Hostile input",
    "the messages of failed cases have millions of lines",
    outcome="the item is judged as ever; terminal and `--junitxml` get the beginning of each message",
    told="`… more characters: see --dispatch-junit`, where they are",
)
@pytest.mark.draw(1, of="volumes")
def test_long_messages_are_printed_in_part(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    message = "".join(f"{n % 10}\n" for n in range(200_000))
    reports = [
        {"title": f"report {n}", "cases": [{"name": f"case {n}", "outcome": "failed", "message": message}]}
        for n in range(8)
    ]
    result = bench.run("--dispatch-junit=cases.xml", "--junitxml=items.xml", "-rA", machines=bench.saying(*reports))
    result.assert_outcomes(failed=9)
    printed = result.stdout.str()
    assert len(printed) < 50_000
    assert printed.count("more characters: see --dispatch-junit") == 8
    assert bench.path.joinpath("items.xml").stat().st_size < 50_000
    _, *cases = junit_cases(bench.path / "cases.xml")
    assert [case.result[0].text for case in cases] == [message.strip()] * 8


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
@fault(
    "Hostile input",
    "thousands of cases of one workload fail",
    outcome="all are counted and in the JUnit file",
    told=f"the first {PRINTED} are printed, the others counted as `further failed cases`",
)
@pytest.mark.draw(1)
def test_many_failed_cases_are_printed_in_part(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.workloads({"a": "pass"})
    cases = [{"name": f"case {n}", "outcome": "failed", "message": f"why {n}"} for n in range(PRINTED + 150)]
    run = bench.spawn if workers else bench.run
    machines = bench.saying({"title": "r", "cases": cases})
    result = run("--dispatch-junit=cases.xml", *workers, machines=machines)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{PRINTED + 1} failed, 150 further failed cases in *"])
    printed = result.stdout.str()
    assert printed.count("\nSUBFAILED") == PRINTED
    assert f"why {PRINTED - 1}\n" in printed
    assert f"why {PRINTED}\n" not in printed
    found = junit_cases(bench.path / "cases.xml")
    assert [case.name for case in found] == ["a.efi", *(case["name"] for case in cases)]
    assert [case.result[0].text.split("\n")[-1] for case in found[1:]] == [case["message"] for case in cases]


@fault(
    "Hostile input",
    "a workload sends more cases than pytest takes as sub-tests",
    outcome="those beyond are judged, and in the JUnit file",
    told=f"the first {SUBTESTS:,} are sub-tests, the others counted in the summary",
)
@pytest.mark.draw(1, of="volumes")
def test_cases_without_end_are_sub_tests_in_part(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    cases = [{"name": f"case {n}", "outcome": "passed"} for n in range(SUBTESTS)]
    last = [{"name": "skips", "outcome": "skipped"}, {"name": "fails", "outcome": "failed", "duration": 1.5}]
    machines = bench.saying({"title": "1", "cases": cases}, {"title": "2", "cases": last})
    result = bench.run("--dispatch-junit=cases.xml", "-s", "--no-header", machines=machines)
    result.stdout.fnmatch_lines(
        [f"JUnit file with {SUBTESTS + 3} cases: *", "*::a.efi: 2 further cases: see --dispatch-junit"]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = junit_cases(bench.path / "cases.xml")
    assert len(found) == 1 + len(cases) + len(last)
    kinds = {case.name: (type(case.result[0]).__name__, case.time) for case in found if case.result}
    assert kinds["skips"] == ("Skipped", 0.0)
    assert kinds["fails"] == ("Failure", 1.5)


def test_a_report_takes_the_rest_along_through_json() -> None:
    """As pytest-xdist sends it."""
    report = pytest.TestReport("w::a", ("w", 0, "a"), {}, "failed", "why", "call")
    attach(report, ItemDetails(text="all", cases=[("c", "failed", 0.5, "why")]), quiet=True)
    sent = pytest.TestReport._from_json(json.loads(json.dumps(report._to_json())))
    rest = take_off(sent)
    assert (rest.text, [tuple(case) for case in rest.cases]) == ("all", [("c", "failed", 0.5, "why")])
    assert take_off(sent) == ItemDetails()


@pytest.mark.parametrize(
    ("text", "printed", "more"),
    [
        ("", "", 0),
        ("a\nb", "a\nb", 0),
        ("a\n" * (LINES - 1) + "a", "a\n" * (LINES - 1) + "a", 0),
        ("a\n" * LINES + "b", "a\n" * (LINES - 1) + "a", 2),
        ("x" * CHARACTERS, "x" * CHARACTERS, 0),
        ("x" * 2 * CHARACTERS, "x" * CHARACTERS, CHARACTERS),
    ],
)
def test_the_beginning_of_a_message(text: str, printed: str, more: int) -> None:
    rest = f"\n… {more:,} more characters: see --dispatch-junit" if more else ""
    assert beginning(text) == printed + rest
