"""pytest-xdist: the controller owns the lab, and everything is as without it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from plugin_bench import Bench

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


def _told(path: Path) -> dict[str | None, tuple[list[str], dict[str | None, str | None]]]:
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {case.get("name"): (sorted(e.tag for e in case if e.tag in KINDS), _properties(case)) for case in cases}


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
