"""pytest-xdist: the controller owns the lab, and everything is as without it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import fault
from plugin_bench import Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

WORKLOADS = {
    "come-back": "come-back",
    "fail": "fail",
    "never": "no-boot",
    "pass": "pass",
    "several": "multi-report",
}
KINDS = ("failure", "error", "skipped")
#: They differ between any two runs.
VARY = ("seconds", "machine", "reason")


def _told(path: Path) -> list[str]:
    """What is said of each case, in no order: workers end theirs as they come."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return sorted(f"{c.get('name')} {sorted(e.tag for e in c if e.tag in KINDS)} {_properties(c)}" for c in cases)


def _properties(case: ElementTree.Element) -> dict[str | None, str | None]:
    found = {p.get("name"): p.get("value") for p in case.iter("property")}
    return {name: value for name, value in found.items() if not any(word in str(name) for word in VARY)}


def test_workers_tell_the_same(bench: Bench) -> None:
    bench.workloads(WORKLOADS)
    alone = bench.spawn("--junitxml=alone.xml", "--dispatch-junit=alone-cases.xml", "--dispatch-db=alone.db")
    workers = bench.spawn(
        "-n2", "-p", "xdist", "--junitxml=workers.xml", "--dispatch-junit=workers-cases.xml", "--dispatch-db=w.db"
    )
    assert alone.parseoutcomes() == workers.parseoutcomes()
    assert alone.ret == workers.ret
    for name in ("", "-cases"):
        assert _told(bench.path / f"alone{name}.xml") == _told(bench.path / f"workers{name}.xml")


def test_a_node_id_and_a_deselection_reach_the_workers(bench: Bench) -> None:
    bench.workloads(WORKLOADS)
    bench.spawn("-n2", "w::pass.efi", "w::several.efi", "-k", "pass").assert_outcomes(passed=1)


#: So many workers are killed, one after the other, while they wait for `a`.
MORTAL = """
import os, pathlib, signal, threading

def pytest_runtest_setup(item):
    died = len(list(pathlib.Path().glob("died-*")))
    if item.name == "a.efi" and died < TIMES:
        pathlib.Path(f"died-{died}").touch()
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGKILL]).start()

def pytest_testnodedown(node, error):
    if error:
        pathlib.Path(f"down-{node.gateway.id}").touch()
"""

#: Machines on which `a` does not report before their death is known.
PATIENT = """
import asyncio
from pathlib import Path
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def play(stage):
    await stage.boot()
    while stage.workload == "a.efi" and len(list(Path().glob("down-*"))) < TIMES:
        await asyncio.sleep(0.02)
    await stage.report(result="passed")

def create(spec, state):
    return [SimMachine(pace=0.001, scenarios={"pass": Scenario(play=play)}).driven(f"bench-{n}") for n in range(4)]
"""


def dying(bench: Bench, times: int, *args: str) -> pytest.RunResult:
    """A session of which so many workers die."""
    bench.workloads(dict.fromkeys("abcdef", "pass"))
    bench.pytester.makeconftest(MORTAL.replace("TIMES", str(times)))
    machines = bench.driver(PATIENT.replace("TIMES", str(times)))
    return bench.spawn("-v", "--junitxml=own.xml", "--dispatch-junit=cases.xml", *args, machines=machines)


def _went_wrong(path: Path) -> dict[str | None, list[str]]:
    """What each case of a JUnit file has of failures and the like."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {case.get("name"): [e.tag for e in case if e.tag in KINDS] for case in cases}


@fault(
    "pytest",
    "a pytest-xdist worker is killed while it waits for a workload",
    outcome="the workload runs on; another worker takes its item over, and tells its outcome",
    told="`node down`, `replacing crashed worker`",
)
def test_a_worker_that_dies(bench: Bench) -> None:
    result = dying(bench, 1, "-n4")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=6)
    text = result.stdout.str()
    assert "replacing crashed worker" in text
    assert text.count("a.efi assigned on") == 1
    for name in ("own.xml", "cases.xml"):
        assert _went_wrong(bench.path / name) == {f"{name}.efi": [] for name in "abcdef"}


@fault(
    "pytest",
    "a second worker is killed that waits for the same workload",
    outcome="the workload's item is an error; all others go on",
    told="`worker 'gw1' crashed while running 'w::a.efi'`",
)
def test_workers_that_die_of_the_same_item(bench: Bench) -> None:
    result = dying(bench, 2, "-n1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(["*worker 'gw*' crashed while running 'w::a.efi'"])
    for name in ("own.xml", "cases.xml"):
        assert _went_wrong(bench.path / name)["a.efi"] == ["error"]


def test_a_worker_that_dies_where_items_are_not_handed_over(bench: Bench) -> None:
    result = dying(bench, 1, "-n1", "--dist=loadfile")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["errors"] == 1
    result.stdout.fnmatch_lines(["ERROR w::a.efi - worker 'gw0' crashed while running 'w::a.efi'"])
