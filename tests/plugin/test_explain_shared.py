"""Why workloads wait in a lab that others use too, and a group that it does not have."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from plugin_bench import WITHOUT, Bench, clean
from shared_labs import SharedLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    folder = tmp_path_factory.mktemp("lab")
    with SharedLab(folder, ("--machine=sim:1?pace=0.001",), dict(os.environ)) as lab:
        yield lab


def session(bench: Bench, lab: SharedLab, *args: str) -> pytest.RunResult:
    environ = {**os.environ, "DISPATCH_TOKEN": lab.token}
    command = ("--dispatch-dir=w", f"--dispatch-lab={lab.url}", *WITHOUT, *args)
    return clean(bench.fork(*command, environ=environ))


def test_a_group_that_it_does_not_have(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "pass"})
    result = session(bench, lab, "--dispatch-group=lap")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in (*result.outlines, *result.errlines) if "the lab has no group" in line]
    assert said == ["ERROR: a.efi: the lab has no group 'lap': did you mean lab?"]


def test_each_workload_that_waits(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "hang", "b": "pass"})
    hangs = ("--dispatch-report-timeout=3s", "--dispatch-retries=0")
    result = session(bench, lab, "--dispatch-explain", *hangs)
    result.assert_outcomes(passed=1, failed=1)
    (line,) = [line for line in result.outlines if line.startswith("⏳ ")]
    assert line.startswith("⏳ b.efi: It waits: sim-1 has run a.efi since ")
    assert line.endswith(" UTC. (place 1)")
