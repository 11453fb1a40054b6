"""Beside other plugins: each item is asked for once, each workload is run once, and every verdict stays what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import fault
from plugin_bench import BESIDE, HERE, NEIGHBOURS, ONE, SIMS, Bench

#: Each run loads all of them: of those here, a quick run takes a few.
pytestmark = pytest.mark.draw(3, of="neighbours")

#: As they are installed, each by itself.
ALONE = ("-p", "no:hypothesispytest", "-p", "no:schemathesis")
HTML = ("html", "html_fixtures", "metadata")

#: What each does beside a session. The order is shuffled, coverage is measured, failures are looked at again.
OPTIONS = (
    *("--reruns=1", "--timeout=300", "--cov=covered", "--cov-report=term", "-p", "randomly", "-v"),
    *("-o", "asyncio_default_fixture_loop_scope=function"),
)

VERDICTS = {"a.efi": [], "b.efi": ["failure"], "c.efi": ["failure"], "d.efi": ["error"], "e.efi": []}


def only(*names: str) -> tuple[str, ...]:
    """All neighbours are away but these."""
    return tuple(arg for name in NEIGHBOURS if name not in names for arg in ("-p", f"no:{name}"))


def beside(bench: Bench, *args: str, machines: str = SIMS) -> pytest.RunResult:
    return bench.start(*HERE, *ALONE, "--dispatch-dir=w", machines, *args)


def wrong(path: Path) -> dict[str | None, list[str]]:
    """What went wrong with each item, by a JUnit file."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    kinds = ("failure", "error")
    return {case.get("name"): sorted({e.tag for e in case if e.tag in kinds}) for case in cases}


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_all_of_them_together(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "come-back", "d": "no-boot", "e": "duplicate"})
    bench.path.joinpath("covered.py").write_text("def half():\n    pass\n")
    bench.pytester.makepyfile(test_own=BESIDE)
    files = ("--dispatch-junit=cases.xml", "--dispatch-retries=0")
    result = beside(bench, *OPTIONS, *files, *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    for plugin in ("asyncio", "cov", "randomly", "rerunfailures", "timeout"):
        assert re.search(rf"plugins:.*\b{plugin}-", text)
    assert text.count("boot URL ") == 1
    told = wrong(bench.path / "cases.xml")
    assert {name: told[name] for name in VERDICTS} == VERDICTS
    assert told["test_async"] == []
    assigned = re.findall(r"📥 (\S+) assigned on", text)
    assert sorted(assigned) == ["a.efi", "a.efi", "b.efi", "c.efi", "d.efi", "e.efi"]  # `a` is wanted twice
    assert re.search(r"covered\.py +2 +1 +50%", text)


@fault(
    "pytest",
    "pytest-rerunfailures runs a failed item again",
    outcome="the workload is not run again, the item looks at the same run once more; `--dispatch-retry-failures` is"
    " what runs workloads again",
    told="as pytest-rerunfailures tells it",
)
def test_rerunfailures(bench: Bench) -> None:
    bench.workloads({"a": "fail"})
    result = beside(bench, *only("rerunfailures"), "--reruns=2", "-v")
    assert result.stdout.str().count("a.efi assigned on") == 1
    result.stdout.fnmatch_lines(["*2 failed, 2 rerun*"])


@fault(
    "pytest",
    "pytest-timeout ends an item before its workload has reported",
    outcome="the item fails; its workload is cancelled, and its machine goes on with the next one",
    told="`Failed: Timeout`, as pytest-timeout tells it",
)
def test_timeout(bench: Bench) -> None:
    bench.workloads({"a": "hang", "b": {"scenario": "pass"}})
    bench.pytester.makeconftest(
        "import pytest\n"
        "def pytest_itemcollected(item):\n"
        "    # of the call, which begins when it runs\n"
        "    item.add_marker(pytest.mark.timeout(3 if item.name == 'a.efi' else 300, func_only=True))\n"
    )
    result = bench.pytester.runpytest_subprocess(*HERE, *ALONE, *only("timeout"), "--dispatch-dir=w", ONE, timeout=120)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["machine sim-1: 2 (a.efi, b.efi)", "FAILED w::a.efi - *Timeout*"])


def test_randomly(bench: Bench) -> None:
    """The order of items is another; a machine takes them as their bytes are there."""
    bench.workloads(dict.fromkeys("abcdefgh", "pass"))
    result = beside(bench, *only("randomly"), "-p", "randomly", "-p", "no:cacheprovider", "-v", machines=ONE)
    result.assert_outcomes(passed=8)
    text = result.stdout.str()
    items = re.findall(r"(?m)^w::(\S+) PASSED", text)
    assert sorted(re.findall(r"📥 (\S+) assigned on", text)) == sorted(items)


@pytest.mark.parametrize(
    ("plugin", "options"),
    [("repeat", ["--count=3"]), ("flakefinder", ["--flake-finder", "--flake-runs=3"])],
    ids=["pytest-repeat", "pytest-flakefinder"],
)
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_each_repetition_boots(bench: Bench, plugin: str, options: list[str], workers: tuple[str, ...]) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makepyfile(
        test_own="import pytest\n@pytest.mark.dispatch('b.efi')\ndef test_own(dispatch_workload): pass\n"
    )
    result = beside(bench, *only(plugin), *options, *workers, "-v", "--junitxml=j.xml")
    result.assert_outcomes(passed=9)
    assigned = re.findall(r"📥 (\S+) assigned on", result.stdout.str())
    assert sorted(assigned) == ["a.efi"] * 3 + ["b.efi"] * 6
    assert len(wrong(bench.path / "j.xml")) == 9


def test_whose_fault_it_was_in_the_reports_of_others(bench: Bench) -> None:
    """One fault of the lab found while it is set up, one while it runs; a failure of the workload; a test's mistake."""
    bench.workloads({"a": "fail", "b": "no-boot", "c": "pass", "d": "pass"})
    bench.pytester.makeconftest(
        "def pytest_dispatch_verdict(run): return 'error' if run.workload.name == 'c.efi' else None"
    )
    bench.pytester.makepyfile(test_own="import pytest\n@pytest.mark.dispatch('z.efi')\ndef test_own(): pass\n")
    files = ("--alluredir=allure", "--json-report", "--html=report.html", "--junitxml=j.xml")
    others = only("allure_pytest", *HTML, "pytest_jsonreport")
    beside(bench, *others, *files, "--dispatch-retries=0").assert_outcomes(passed=1, failed=2, errors=3)
    allure = [json.loads(path.read_text()) for path in bench.path.glob("allure/*-result.json")]
    expected = {"a.efi": "failed", "b.efi": "broken", "c.efi": "broken", "d.efi": "passed", "test_own": "broken"}
    assert {result["name"]: result["status"] for result in allure} == expected
    told = json.loads(bench.path.joinpath(".report.json").read_text())["tests"]
    assert {test["nodeid"].rpartition("::")[2]: "setup" in test and test["setup"]["outcome"] for test in told} == {
        "a.efi": "passed", "b.efi": "failed", "c.efi": "failed", "d.efi": "passed", "test_own": "failed"
    }  # fmt: skip
    assert wrong(bench.path / "j.xml") == {
        "a.efi": ["failure"], "b.efi": ["error"], "c.efi": ["error"], "d.efi": [], "test_own": ["error"]
    }  # fmt: skip
    html = bench.path.joinpath("report.html").read_text()
    shown = {name: re.search(rf"col-result[^>]*&gt;(\w+)&lt;.{{0,80}}{name}", html) for name in ("b.efi", "c.efi")}
    assert {name: found and found[1] for name, found in shown.items()} == {"b.efi": "Error", "c.efi": "Error"}


def test_names_are_no_markup_to_pytest_html(bench: Bench) -> None:
    folder = bench.path / "w"
    folder.mkdir()
    (folder / "<img src=x onerror=alert(1)>.efi").write_bytes(b"MZ")
    result = beside(bench, *only(*HTML), "--html=report.html")
    assert result.ret == 0
    html = bench.path.joinpath("report.html").read_text()
    assert "w::%3Cimg src=x onerror=alert(1)%3E.efi" in html
    assert "<img src=x" not in html
    assert "&lt;img src=x" not in html  # which its script makes elements of


def test_order_and_dependency(bench: Bench) -> None:
    bench.workloads({"a": "fail", "b": "pass", "c": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        MARKS = {
            "a.efi": [pytest.mark.order(2), pytest.mark.dependency()],
            "b.efi": [pytest.mark.order(3), pytest.mark.dependency(depends=["a.efi"])],
            "c.efi": [pytest.mark.order(1)],
        }

        def pytest_itemcollected(item):
            for mark in MARKS[item.name]:
                item.add_marker(mark)
        """
    )
    result = beside(bench, *only("dependency", "pytest_order"), "-v")
    assert re.findall(r"(?m)^w::(\S+) (PASSED|FAILED|SKIPPED)", result.stdout.str()) == [
        ("c.efi", "PASSED"), ("a.efi", "FAILED"), ("b.efi", "SKIPPED")
    ]  # fmt: skip


def test_forked_is_not_installed(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.pytester.runpytest_inprocess(*bench.command("--forked"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --forked*"])
