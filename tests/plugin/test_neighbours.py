"""Beside other plugins: each item is asked for once, each workload is run once, and every verdict stays what it is."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from faults import fault
from plugin_bench import BESIDE, HERE, NEIGHBOURS, SIMS, Bench

#: As they are installed, each by itself.
ALONE = ("-p", "no:hypothesispytest", "-p", "no:schemathesis")
ONE = "--dispatch-machine=sim?pace=0.001"

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
    assigned = re.findall(r"📌 (\S+) assigned on", text)
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
        "    item.add_marker(pytest.mark.timeout(3 if item.name == 'a.efi' else 300))\n"
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
    assert sorted(re.findall(r"📌 (\S+) assigned on", text)) == sorted(items)


def test_forked_is_not_installed(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.pytester.runpytest_inprocess(*bench.command("--forked"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --forked*"])
