"""What workloads require of machines: said in a file, by a mark and by a hook; and what no machine has."""

from __future__ import annotations

import re

import pytest
from faults import fault
from plugin_bench import Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

LABELLED = ("--dispatch-machine=sim?pace=0.001&labels=gpu,memory=32", "--dispatch-machine=sim?pace=0.001")
NEAREST = "the nearest is sim-1: it has memory=32, wanted is memory>=64"


def requiring(bench: Bench, **requires: list[str]) -> None:
    """Workloads that pass, and what each requires."""
    bench.workloads(dict.fromkeys(requires, "pass"))
    tables = [f'[[workload]]\nname = "{name}.efi"\nrequires = {required}\n' for name, required in requires.items()]
    bench.path.joinpath("w", "dispatch.toml").write_text("".join(tables))


def ran(result: pytest.RunResult) -> dict[str, str]:
    """The machine of each workload, as the summary has it."""
    lines = re.findall(r"(?m)^machine (sim-\d): \d+ \((.*)\)$", result.stdout.str())
    return {name: machine for machine, names in lines for name in names.split(", ")}


def test_a_workload_runs_where_there_is_what_it_requires(bench: Bench) -> None:
    """The one machine has work for two, and the other one is idle."""
    requiring(bench, a=["gpu"], b=["memory>=16", "driver=sim"], c=["!gpu"])
    first, second = LABELLED
    result = bench.run(first, machines=second)
    result.assert_outcomes(passed=3)
    assert ran(result) == {"a.efi": "sim-2", "b.efi": "sim-2", "c.efi": "sim-1"}


def test_it_is_tried_again_where_there_is_no_other_machine_for_it(bench: Bench) -> None:
    bench.workloads({"a": "no-boot", "b": "pass"})
    tables = '[[workload]]\nname = "a.efi"\nrequires = ["gpu"]\n[[workload]]\nname = "b.efi"\n'
    bench.path.joinpath("w", "dispatch.toml").write_text(tables)
    result = bench.run(LABELLED[0], machines=LABELLED[1])
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["a.efi (*) on sim-2, attempt 2 of 2"])


@fault(
    "Machines",
    "a workload requires what none of the machines that the plugin brings up has",
    outcome="error at once, it is not tried again; what others require is run",
    told="`no machine can run it`, what it requires, and what the nearest machine has",
)
def test_what_no_machine_has_is_refused_with_the_nearest(bench: Bench) -> None:
    requiring(bench, a=["gpu", "memory>=64"], b=[])
    result = bench.run(LABELLED[1], machines=LABELLED[0])
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"no machine can run it: it requires gpu, memory>=64; {NEAREST}"])


def test_a_mark_requires_it(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.dispatch("a.efi", requires=["gpu"])
        def test_it(dispatch_workload):
            assert dispatch_workload.machine == "sim-2"
        """
    )
    first, second = LABELLED
    bench.run(first, "test_a_mark_requires_it.py", machines=second).assert_outcomes(passed=1)


@pytest.mark.parametrize("given", ["'gpu'", "[1]", "{}"])
def test_a_mark_that_requires_what_is_no_list(bench: Bench, given: str) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        f"import pytest\n@pytest.mark.dispatch('a.efi', requires={given})\ndef test_it(dispatch_workload): pass\n"
    )
    result = bench.run("test_a_mark_that_requires_what_is_no_list.py")
    assert 'mark dispatch: expected requires=["gpu", "memory>=64"] or the like, got ' in result.stdout.str()
    assert result.ret != pytest.ExitCode.OK


def test_a_hook_requires_it(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_dispatch_workloads(workloads):
            workloads[0] = replace(workloads[0], requires=("memory>=64", "gpu"))
        """
    )
    result = bench.run(LABELLED[1], machines=LABELLED[0])
    result.stdout.fnmatch_lines([f"no machine can run it: it requires gpu, memory>=64; {NEAREST}"])


def test_a_hook_that_requires_what_cannot_be_understood(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_dispatch_workloads(workloads):
            workloads[0] = replace(workloads[0], requires=("gpu > 1",))
        """
    )
    line = bench.refused("--dispatch-dir=w")
    assert line.startswith("pytest_dispatch_workloads: a.efi: requires: expected a requirement such as key=value, ")
    assert line.endswith(", got 'gpu > 1'")


def test_where_no_machine_is_named_it_is_told_when_nobody_took_it(bench: Bench) -> None:
    """Machines of the network may come as long as there is time; what they have is not known."""
    requiring(bench, a=["gpu"])
    result = bench.run("--dispatch-assign-timeout=4s", machines="-v")  # by then its bytes are there
    result.stdout.fnmatch_lines(
        ["*no machine took it: timed out after 4s in the queue;*; it requires gpu; there is no machine"]
    )


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ("a b", "expected a label such as arch=x86_64 or gpu, got 'a b'"),
        ("gpu,driver=x", "expected one value of the label driver, got 'sim' and 'x'"),
    ],
)
def test_labels_that_are_none(bench: Bench, labels: str, complaint: str) -> None:
    bench.workloads({"a": "pass"})
    given = f"sim?labels={labels}"
    line = bench.refused("--dispatch-dir=w", f"--dispatch-machine={given}")
    assert line == f"--dispatch-machine {given}: labels: {complaint}"
