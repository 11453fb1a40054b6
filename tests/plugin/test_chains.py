"""Chains: stages that run on one machine in order, whatever is selected, however items are ordered."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from xml.etree import ElementTree

import pytest
from faults import fault
from plugin_bench import ENOUGH, HERE, ONE, SIMS, WITHOUT, Bench
from strangers import Stranger

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

#: The names are not in the order of the chain.
STAGES = {"install": [], "boot": ["install"], "check": ["boot"]}

Stages = Mapping[str, list[str]]


def chained(bench: Bench, stages: Stages = STAGES, *others: str, **scenarios: str) -> None:
    """Workloads of a chain, each with its prerequisites, and others; what is not named otherwise passes."""
    bench.workloads({name: scenarios.get(name, "pass") for name in (*stages, *others)})
    tables = []
    for name in (*stages, *others):
        keys = [f'name = "{name}.efi"']
        if name in stages:
            keys += ['chain = "disk"', f"after = {[f'{each}.efi' for each in stages[name]]}"]
        tables.append("\n".join(["[[workload]]", *keys, ""]))
    bench.path.joinpath("w", "dispatch.toml").write_text("\n".join(tables))


def taken(result: pytest.RunResult) -> list[tuple[str, str]]:
    """What machines took, and where; pytest-xdist may go on in the same line."""
    return re.findall(r"📥 (\w+)\.efi assigned on (\S+?)(?:,|w::|[^\x00-\x7f]|$)", result.stdout.str(), re.MULTILINE)


def names(result: pytest.RunResult) -> list[str]:
    return [name for name, _ in taken(result)]


#: The first stage ends once all that is not of the chain has run: on other machines, then.
WATCHING = """
import asyncio
from pathlib import Path
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def play(stage):
    await stage.boot()
    while stage.workload == "install.efi" and len(list(Path().glob("done-*"))) < OTHERS:
        await asyncio.sleep(0.02)
    await stage.report(result="passed")
    if stage.workload not in ("install.efi", "boot.efi", "check.efi"):
        Path(f"done-{stage.workload}").touch()

class Counting(SimMachine):
    def __init__(self, name):
        super().__init__(pace=0.001, scenarios={"pass": Scenario(play=play)})
        self.name = name

    async def on(self):
        with Path(f"started-{self.name}").open("a") as file:
            file.write("x")
        await super().on()

def create(spec, state):
    names = [f"sim-{n}" for n in range(1, spec.count + 1)]
    return [Counting(name).driven(name) for name in names]
"""


def test_stages_run_on_one_machine_in_order_and_others_do_the_rest(bench: Bench) -> None:
    others = "abcdeyz"
    chained(bench, STAGES, *others)
    machines = bench.driver(WATCHING.replace("OTHERS", str(len(others))))
    result = bench.spawn("-v", machines=f"{machines}:2")
    result.assert_outcomes(passed=10)
    ran = taken(result)
    stages = [(name, machine) for name, machine in ran if name in STAGES]
    [where] = {machine for _, machine in stages}
    there = [name for name, machine in ran if machine == where]
    assert [name for name, _ in stages] == list(STAGES)
    assert there[there.index("install") :][:3] == list(STAGES)  # with nothing in between
    assert bench.path.joinpath(f"started-{where}").read_text() == "x"  # it resets itself, and is left alone


def test_machines_that_are_known_by_their_address(bench: Bench) -> None:
    chained(bench, STAGES, "a", "z")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    says = {f"{name}.efi": [{"title": name, "result": "passed"}] for name in (*STAGES, "a", "z")}
    with Stranger("127.0.0.1", port, "127.0.0.2", says), Stranger("127.0.0.1", port, "127.0.0.3", says):
        bind = (f"--dispatch-bind=127.0.0.1:{port}", "--dispatch-no-mdns")
        result = bench.fork("--dispatch-dir=w", *bind, *WITHOUT, "-v")
    result.assert_outcomes(passed=5)
    stages = [(name, machine) for name, machine in taken(result) if name in STAGES]
    assert [name for name, _ in stages] == list(STAGES)
    assert len({machine for _, machine in stages}) == 1


# Choosing


@pytest.mark.parametrize(
    "args",
    [["-k", "check"], ["w::check.efi"], ["-m", "last"], ["-k", "check", "-n2", "-p", "xdist"]],
    ids=["by-words", "by-node-id", "by-mark", "xdist"],
)
@pytest.mark.draw(2)
def test_prerequisites_run_though_their_items_are_not_selected(bench: Bench, args: list[str]) -> None:
    chained(bench)
    bench.pytester.makeini("[pytest]\nmarkers = last: the last stage\n")
    bench.pytester.makeconftest(
        "def pytest_itemcollected(item):\n    if item.name == 'check.efi': item.add_marker('last')\n"
    )
    result = bench.spawn("-v", *args)
    assert result.parseoutcomes()["passed"] == 1
    assert result.ret == pytest.ExitCode.OK
    assert names(result) == list(STAGES)


def test_last_failed_runs_them_too(bench: Bench) -> None:
    chained(bench, boot="fail")
    cache = ("-o", "cache_dir=kept", "-p", "cacheprovider")
    bench.spawn(*cache).assert_outcomes(passed=1, failed=2, skipped=1)  # the case that failed counts too
    chained(bench)
    again = bench.spawn("-v", "--lf", *cache)
    assert again.parseoutcomes()["passed"] == 1
    assert names(again) == ["install", "boot"]


def test_what_no_selected_item_needs_is_left_alone(bench: Bench) -> None:
    chained(bench, {"install": [], "boot": [], "check": ["install"]})
    result = bench.spawn("-v", "-k", "check")
    assert names(result) == ["install", "check"]
    assert names(bench.spawn("-v", "w::install.efi")) == ["install"]


@pytest.mark.parametrize("workers", [(), ("-n2", "-p", "xdist")], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_the_order_of_items_changes_nothing(bench: Bench, workers: tuple[str, ...]) -> None:
    chained(bench)
    shuffled = []
    for seed in (1, 2, 3):
        result = bench.spawn("-v", "-p", "randomly", f"--randomly-seed={seed}", *workers)
        result.assert_outcomes(passed=3)
        assert names(result) == list(STAGES)
        shuffled.append(re.findall(r"(?m)^w::(\w+)\.efi", result.stdout.str()))
    assert workers or any(order != list(STAGES) for order in shuffled)


def test_items_are_listed_as_the_chain_runs(bench: Bench) -> None:
    chained(bench, STAGES, "a", "c", "z")
    result = bench.run("--collect-only", "-q")
    expected = [f"w::{name}.efi" for name in ("a", "c", *STAGES, "z")]
    assert [line for line in result.outlines if line.startswith("w::")] == expected


LATE = """
import pytest

def pytest_itemcollected(item):
    if item.name == "check.efi":
        item.add_marker(pytest.mark.skipif("False", reason="a text is judged only when the item is set up"))
    if item.name == "boot.efi":
        item.add_marker(pytest.mark.skip(reason="not now"))
"""


def test_an_item_that_is_asked_for_late_brings_its_prerequisites(bench: Bench) -> None:
    """Also one that a mark keeps from being shown."""
    chained(bench)
    bench.pytester.makeconftest(LATE)
    result = bench.spawn("-v", "-k", "check")
    assert result.parseoutcomes()["passed"] == 1
    assert names(result) == list(STAGES)
    whole = bench.spawn("-v")
    whole.assert_outcomes(passed=2, skipped=1)
    assert names(whole) == list(STAGES)


def test_a_python_test_brings_them_too(bench: Bench) -> None:
    chained(bench)
    bench.pytester.makepyfile(
        test_own="import pytest\n@pytest.mark.dispatch('check.efi')\ndef test_own(dispatch_workload):\n"
        "    assert dispatch_workload.report().result == 'passed'\n"
    )
    result = bench.spawn("-v", "test_own.py")
    result.assert_outcomes(passed=1)
    assert names(result) == list(STAGES)


# What goes wrong


def test_a_failure_skips_the_rest_with_the_first_cause(bench: Bench) -> None:
    chained(bench, STAGES, "z", install="fail")
    result = bench.spawn("-v", "-rs")
    result.assert_outcomes(failed=2, skipped=2, passed=1)
    assert sorted(names(result)) == ["install", "z"]
    cause = "skipped: install.efi failed: it reported failed: install.efi"
    result.stdout.fnmatch_lines([f"SKIPPED * w::boot.efi:1: {cause}", f"SKIPPED * w::check.efi:1: {cause}"])
    assert "prerequisite" not in result.stdout.str()  # its own item tells


@pytest.mark.parametrize("args", [[], ["-q"], ["-n2", "-p", "xdist"]], ids=["alone", "quiet", "xdist"])
@pytest.mark.parametrize(
    ("plays", "told"),
    [("fail", "failed: it reported failed: install.efi"), ("no-boot", "error: sim-1 never booted it: *")],
)
@fault(
    "pytest",
    "a prerequisite whose item is not selected does not pass",
    outcome="what needs it is skipped; the session fails (exit code 1)",
    told="`prerequisite NAME failed`, and why, in the summary; the skipped items name it too",
)
@pytest.mark.draw(2)
def test_a_prerequisite_without_an_item_makes_the_session_fail(
    bench: Bench, args: list[str], plays: str, told: str
) -> None:
    chained(bench, install=plays)
    result = bench.spawn("-k", "check", "--dispatch-junit=cases.xml", *args, machines=ONE)
    assert result.parseoutcomes()["skipped"] == 1
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"prerequisite install.efi {told}"])
    cases = ElementTree.parse(bench.path / "cases.xml").getroot().iter("testcase")
    tag = {"fail": "failure", "no-boot": "error"}[plays]
    assert {case.get("name"): [e.tag for e in case if e.tag != "properties"] for case in cases} == {
        "check.efi": ["skipped"],
        "install.efi": [tag],
    }


def test_one_that_a_mark_keeps_from_being_shown_does_so_too(bench: Bench) -> None:
    chained(bench, boot="fail")
    bench.pytester.makeconftest(LATE)
    result = bench.spawn()
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["prerequisite boot.efi failed: it reported failed: boot.efi"])


#: The second stage breaks down the first time.
BREAKING = """
from pathlib import Path
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def play(stage):
    if stage.workload == "boot.efi" and not Path("broke").exists():
        Path("broke").touch()
        raise RuntimeError("the power went off")
    await stage.boot()
    await stage.report(result="passed")

def create(spec, state):
    return [SimMachine(pace=0.001, scenarios={"pass": Scenario(play=play)}).driven(f"sim-{n}") for n in (1, 2)]
"""


def test_a_stage_is_tried_again_on_its_machine(bench: Bench) -> None:
    chained(bench)
    result = bench.spawn("-v", machines=bench.driver(BREAKING))
    result.assert_outcomes(passed=3)
    assert names(result) == ["install", "boot", "boot", "check"]
    assert len({machine for _, machine in taken(result)}) == 1
    assert "flaky: boot.efi passed on attempt 2" in result.stdout.str()


# Cut off, and resumed


def test_a_resumed_session_goes_on_with_it_where_it_was(bench: Bench) -> None:
    chained(bench, STAGES, boot="hang")
    bench.path.joinpath("conftest.py").write_text(ENOUGH)
    first = bench.spawn("-v")
    assert first.ret == pytest.ExitCode.INTERRUPTED
    bench.path.joinpath("conftest.py").unlink()
    chained(bench)
    again = bench.spawn("-v", "--dispatch-resume")
    again.assert_outcomes(passed=3)
    assert names(again) == ["boot", "check"]
    assert {machine for _, machine in taken(again)} == {taken(first)[0][1]}


@pytest.mark.parametrize("workers", [(), ("-n2", "-p", "xdist")], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_a_prerequisite_that_failed_before_the_session_was_resumed_counts(
    bench: Bench, workers: tuple[str, ...]
) -> None:
    chained(bench, STAGES, install="fail")
    bench.path.joinpath("conftest.py").write_text(ENOUGH)
    assert bench.spawn().ret == pytest.ExitCode.INTERRUPTED
    bench.path.joinpath("conftest.py").unlink()
    again = bench.spawn("-v", "--dispatch-resume", "-k", "check", *workers)
    assert again.parseoutcomes()["skipped"] == 1
    assert names(again) == []
    assert again.ret == pytest.ExitCode.TESTS_FAILED
    again.stdout.fnmatch_lines(["prerequisite install.efi failed: it reported failed: install.efi"])


#: What is no stage fails once the second stage runs.
FAILING = """
import asyncio
from pathlib import Path
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def play(stage):
    await stage.boot()
    if stage.workload == "boot.efi":
        Path("second").touch()
        await asyncio.Event().wait()
    while stage.workload == "a.efi" and not Path("second").exists():
        await asyncio.sleep(0.02)
    await stage.report(result="failed" if stage.workload == "a.efi" else "passed")

def create(spec, state):
    return [SimMachine(pace=0.001, scenarios={"pass": Scenario(play=play)}).driven(f"sim-{n}") for n in (1, 2)]
"""


def test_what_is_cancelled_in_the_middle_leaves_nothing_running_and_can_be_resumed(bench: Bench) -> None:
    chained(bench, STAGES, "a")
    first = bench.spawn("-v", "-x", machines=bench.driver(FAILING))
    first.assert_outcomes(failed=1)
    text = first.stdout.str()
    assert "boot.efi cancelled on sim-" in text
    assert "check.efi cancelled" in text
    assert "gave up waiting" not in text  # every machine took the power-off program
    assert "prerequisite" not in text
    again = bench.spawn("-v", "--dispatch-resume")
    again.assert_outcomes(failed=1, passed=3)
    assert names(again) == ["boot", "check"]


# What is said wrong


WRONG = {
    "no-chain": (
        {"after": '["b.efi"]'},
        "after: expected workloads of its own chain, but it is in none; give it a chain",
    ),
    "no-list": ({"chain": '"c"', "after": '"b.efi"'}, "after: expected a list of names of workloads such as"),
    "no-text": ({"chain": "1"}, "chain: expected printable text, got 1"),
    "unknown": (
        {"chain": '"c"', "after": '["x.efi"]'},
        "a.efi: after: expected a workload that chain 'c' lists before it, there is no 'x.efi'",
    ),
    "elsewhere": (
        {"chain": '"c"', "after": '["b.efi"]'},
        "a.efi: after: expected a workload that chain 'c' lists before it, 'b.efi' is in no chain",
    ),
    "itself": (
        {"chain": '"c"', "after": '["a.efi"]'},
        "a.efi: after: expected a workload that chain 'c' lists before it, 'a.efi' is itself",
    ),
    "other": (
        {"chain": '"c"', "after": '["d.efi"]'},
        "a.efi: after: expected a workload that chain 'c' lists before it, 'd.efi' is in chain 'd'",
    ),
    "later": (
        {"chain": '"d"', "after": '["d.efi"]'},
        "a.efi: after: expected a workload that chain 'd' lists before it, 'd.efi' is listed after it: move it up",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_in_one_line(bench: Bench, name: str) -> None:
    keys, told = WRONG[name]
    bench.workloads(dict.fromkeys("abd", "pass"))
    said = "".join(f"{key} = {value}\n" for key, value in keys.items())
    tables = f'[[workload]]\nname = "a.efi"\n{said}[[workload]]\nname = "b.efi"\n'
    bench.path.joinpath("w", "dispatch.toml").write_text(f'{tables}[[workload]]\nname = "d.efi"\nchain = "d"\n')
    assert told in bench.refused("--dispatch-dir=w", SIMS, *HERE)


HOOK = """
from dataclasses import replace

def pytest_dispatch_workloads(workloads):
    workloads[:] = [replace(each, SAID) for each in workloads]
"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("chain=7", "a.efi: chain: expected a name of at most"),
        ("chain='c', after='a.efi'", "a.efi: after: expected a list of names of workloads, got 'a.efi'"),
        ("chain='c', after=[1]", "a.efi: after: expected a list of names of workloads, got [1]"),
    ],
)
def test_what_a_hook_says_wrong_is_too(bench: Bench, said: str, told: str) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(HOOK.replace("SAID", said))
    assert told in bench.refused("--dispatch-dir=w", SIMS, *HERE)


def test_a_hook_makes_a_chain(bench: Bench) -> None:
    bench.workloads(dict.fromkeys("abc", "pass"))
    bench.pytester.makeconftest(HOOK.replace("SAID", "chain='c'") + "    workloads.reverse()\n")
    result = bench.spawn("-v")
    result.assert_outcomes(passed=3)
    assert names(result) == ["c", "b", "a"]
    assert len({machine for _, machine in taken(result)}) == 1


def test_a_verdict_hook_decides_before_the_next_stage_begins(bench: Bench) -> None:
    chained(bench)
    bench.pytester.makeconftest(
        "def pytest_dispatch_verdict(run):\n"
        "    return 'failed' if run.workload.name == 'boot.efi' and run.attempt.number == 1 else None\n"
    )
    result = bench.spawn("-v", "--dispatch-retry-failures=1")
    result.assert_outcomes(passed=3)
    assert names(result) == ["install", "boot", "boot", "check"]
    assert len({machine for _, machine in taken(result)}) == 1
    refused = bench.spawn("-v")
    refused.assert_outcomes(passed=1, failed=1, skipped=1)
    assert names(refused) == ["install", "boot"]
