"""A kind of workloads that a package brings: its loaves are items like any other, wherever they are baked."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bakeries import Bakery, install, running_bakery, want
from faults import fault
from plugin_bench import APART, IN_THREAD, SIMS, Bench
from vt100 import OnTerminal
from waiting import PATIENCE

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

GOOD = ["accepted", "oven-A", "passed: a fine crust"]
MOVED = ["accepted", "oven-A", "oven-A+oven-B", "aside", "oven-B", "passed: baked twice"]
BURNT = ["oven-A", "failed: black all over"]
KIND = ("-p", "bakery.plugin", "--strict-markers")
NO_MACHINES = "-v"  # what is said in place of machines of ours


@pytest.fixture
def bakery(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bakery]:
    with running_bakery(tmp_path_factory.mktemp("outside") / "bakery") as bakery:
        monkeypatch.setenv("BAKERY_URL", bakery.url)
        yield bakery


@pytest.fixture
def kitchen(bench: Bench, bakery: Bakery) -> Bench:
    """A bench with the package, and an empty folder."""
    install(bench.path)
    bench.path.joinpath("w").mkdir()
    return bench


def bake(bench: Bench, *args: str, machines: str = NO_MACHINES, **loaves: Any) -> pytest.RunResult:
    want(bench.path, **loaves)
    return bench.spawn(*KIND, *args, machines=machines)


def facts(folder: Path, name: str) -> list[tuple[str, str]]:
    """What the JUnit file of the session tells of an item."""
    case = re.search(rf'(?s)<testcase [^>]*name="{name}".*?</testcase>', folder.joinpath("all.xml").read_text())
    assert case is not None
    return re.findall(r'<property name="dispatch_(\w+)" value="(.*?)"', case[0])


def told_of(result: pytest.RunResult, name: str) -> list[str]:
    """What the lines of `-v` tell of a loaf, without their signs."""
    found = (re.match(rf"\S+ ({name}:? .*)", line) for line in result.outlines)
    return [line[1] for line in found if line]


def test_loaves_pass_and_fail_in_their_own_words(kitchen: Bench) -> None:
    result = bake(kitchen, APART, rye=[GOOD], spelt=[BURNT])
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "dispatch: w; 2 bake",
            "it reported failed: black all over",
            "spelt on oven-A, attempt 1 of 1",
            "machine oven-A: 2 (*)",
        ]
    )
    assert told_of(result, "rye") == [
        "rye sent",
        "rye sent as loaf-1",
        "rye baking",
        "rye baking on oven-A",
        "rye: a report came on oven-A: a fine crust",
        "rye baked on oven-A (passed)",
    ]


def test_a_machine_that_is_learnt_late_and_a_second_one_after_a_wait(kitchen: Bench) -> None:
    result = bake(kitchen, "--junitxml=all.xml", rye=[MOVED])
    result.assert_outcomes(passed=1)
    assert told_of(result, "rye")[2:] == [
        "rye baking",
        "rye baking on oven-A",
        "rye baking on oven-A, oven-B",
        "rye aside on oven-A, oven-B",
        "rye baking on oven-A, oven-B",
        "rye: a report came on oven-A, oven-B: baked twice",
        "rye baked on oven-A, oven-B (passed)",
    ]
    told = facts(kitchen.path, "rye")
    assert [value for name, value in told if name == "machine"] == ["oven-A", "oven-B"]
    assert {name for name, _ in told if name.startswith("seconds_")} == {
        f"seconds_{state}" for state in ("kneaded", "sent", "baking", "aside")
    }


def test_an_issue_and_a_failure_name_both_machines(kitchen: Bench, github: FakeGitHub) -> None:
    github.add_repo("me/lab")
    where = ["--dispatch-issues-repo=me/lab", f"--dispatch-api-url={github.url}", f"--dispatch-token={github.token}"]
    result = bake(kitchen, "--dispatch-issues=all", *where, rye=[["oven-A+oven-B", "failed: black all over"]])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["rye on oven-A, oven-B, attempt 1 of 1"])
    [issue] = github.issues("me/lab")
    assert issue.title == "black all over"
    assert "- machine: `oven-A, oven-B`" in issue.body
    assert "- states: kneaded " in issue.body


@pytest.mark.parametrize(
    ("steps", "limit", "outcome", "words"),
    [
        (["accepted"], "delivery", "errors", "no oven within 1s at the bakery"),
        (["oven-A"], "baking", "failed", "still dough after 1s in oven-A"),
        (["oven-A", "aside"], "rest", "errors", "no oven within 1s on the side"),
    ],
    ids=["sent", "baking", "aside"],
)
@pytest.mark.draw(1)
def test_time_runs_out(kitchen: Bench, bakery: Bakery, steps: list[str], limit: str, outcome: str, words: str) -> None:
    said = {"payload": {"does": [steps]}, "limits": {limit: 1.0}}
    result = bake(kitchen, "--dispatch-retries=0", rye=said)
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([words])
    assert "taken back rye" in bakery.asked


def test_time_runs_out_where_nobody_takes_it(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("BAKERY_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        result = bake(kitchen, rye={"payload": {"does": [GOOD]}, "limits": {"patience": 1.0}})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no oven within 1s in the kitchen"])


@fault(
    "Machines",
    "others who carry a workload out say that they broke it",
    outcome="error, tried again",
    told="`flaky`, and what they said",
)
def test_it_is_tried_again_after_a_fault(kitchen: Bench, bakery: Bakery) -> None:
    result = bake(kitchen, rye=[["oven-A", "broken: a power cut"], GOOD])
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flaky: rye passed on attempt 2 (the lab's fault before: a power cut)"])
    assert [line for line in bakery.asked if line.startswith("sent")] == ["sent rye 1", "sent rye 2"]


def test_it_is_given_up_after_the_first_failure(kitchen: Bench, bakery: Bakery) -> None:
    result = bake(kitchen, "-x", a=[BURNT], b=[["oven-B"]])
    result.assert_outcomes(failed=1)
    assert "taken back b" in bakery.asked


@fault(
    "Machines",
    "a machine is kept out of use after an outcome, as for cleaning",
    outcome="unchanged; neither the item nor the end of the session waits for it",
    told="nothing",
)
def test_a_machine_that_is_held_afterwards_keeps_nobody_waiting(kitchen: Bench) -> None:
    """Neither the item, whose outcome is known, nor the end of the session, which waits for machines to power off."""
    result = bake(kitchen, rye={"payload": {"does": [GOOD], "dirty": True}})
    result.assert_outcomes(passed=1)
    assert "to power off" not in result.stdout.str()


def test_a_held_machine_is_told_to_tests(kitchen: Bench) -> None:
    kitchen.path.joinpath("test_oven.py").write_text(
        """
import time

import pytest


@pytest.mark.dispatch("rye")
def test_oven(dispatch_workload, dispatch_lab):
    dispatch_workload.report()
    give_up = time.monotonic() + 60
    while (oven := dispatch_lab.machines[0]).state != "held":
        assert time.monotonic() < give_up
    assert (oven.name, oven.reason, oven.ran) == ("oven-A", "it is being cleaned", ("rye",))
    assert oven.since > 0
"""
    )
    bake(kitchen, "test_oven.py", rye={"payload": {"does": [GOOD], "dirty": True}}).assert_outcomes(passed=1)


def chain(**does: list[str]) -> dict[str, Any]:
    """Stages of one loaf, each after the one before."""
    names = list(does)
    return {
        name: {"payload": {"does": [steps]}, "chain": "loaf", "after": names[place - 1 : place] if place else []}
        for place, (name, steps) in enumerate(does.items())
    }


@pytest.mark.parametrize("how", [(), ("-n2",)], ids=["alone", "-n2"])
@pytest.mark.draw(1)
def test_a_chain_of_three_runs_in_its_order_where_it_began(
    kitchen: Bench, bakery: Bakery, how: tuple[str, ...]
) -> None:
    result = bake(kitchen, "--junitxml=all.xml", "-k", "slice", *how, **chain(knead=GOOD, bake=GOOD, slice=GOOD))
    result.assert_outcomes(passed=1)
    assert [line for line in bakery.asked if line.startswith("sent")] == ["sent knead 1", "sent bake 1", "sent slice 1"]
    assert ("machine", "oven-A") in facts(kitchen.path, "slice")


def test_a_chain_that_fails_skips_the_rest_with_the_first_cause(kitchen: Bench, bakery: Bakery) -> None:
    result = bake(kitchen, "-rs", **chain(knead=GOOD, bake=BURNT, slice=GOOD))
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*skipped: bake failed: it reported failed: black all over*"])
    assert bakery.count("sent slice 1") == 0


def test_beside_workloads_that_boot(kitchen: Bench) -> None:
    """Each goes where it belongs, whatever each requires; and the machines are powered off."""
    kitchen.workloads({"a": "pass", "b": "no-boot"})
    only = {"payload": {"does": [GOOD]}, "requires": ["ovens=stone"]}
    result = bake(kitchen, machines="--dispatch-machine=sim:2?pace=0.001", rye=only, spelt=[MOVED])
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines_random(["dispatch: w; 2 bake, 2 efi; boot URL *", "machine oven-A: 2 (*)"])
    assert "to power off, at most" not in result.stdout.str()


@fault(
    "Machines",
    "no machine of ours can be brought up, and others carry some workloads out",
    outcome="error for those that boot; the others go on",
    told="`no machine is left`",
)
def test_machines_of_ours_that_are_lost_are_none_of_its_business(kitchen: Bench) -> None:
    kitchen.workloads({"a": "pass"})
    broken = kitchen.driver(BROKEN)
    result = bake(kitchen, machines=broken, rye=[MOVED])
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["no machine is left: bench-1: no power"])


BROKEN = """
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.sim.driver import SimMachine

class Broken(SimMachine):
    async def on(self):
        raise MachineError("no power")

def create(spec, state):
    return [Broken().driven("bench-1")]
"""


def test_the_live_table_shows_it(kitchen: Bench) -> None:
    want(kitchen.path, rye=[["oven-A+oven-B"]], spelt=[["oven-C", "aside"]])
    words, environ = kitchen.command(*KIND, machines="--dispatch-drain=0"), {"TERM": "xterm", "NO_COLOR": "1"}
    with closing(OnTerminal(kitchen.forks, words, kitchen.path, {**os.environ, **environ})) as shown:
        assert shown.until(lambda screen: re.search(r"⚡ baking  rye +oven-A, oven-B +\d+s", screen.text) is not None)
        assert shown.until(lambda screen: re.search(r"⏳ aside +spelt +oven-C +\d+s", screen.text) is not None)
        assert shown.until(lambda screen: "⏳ 1 aside  ⚡ 1 baking" in screen.text)


def test_with_xdist(kitchen: Bench) -> None:
    result = bake(kitchen, "-p", "xdist", "-n", "2", rye=[MOVED], spelt=[BURNT], wheat=[GOOD])
    result.assert_outcomes(passed=2, failed=1)


MARKED = """
import pytest

@pytest.mark.dispatch("rye")
def test_one(dispatch_workload):
    assert dispatch_workload.report().title == "a fine crust"
    assert dispatch_workload.machine == "oven-A"

@pytest.mark.dispatch("rye", expect="hot")
def test_two(dispatch_workload):
    assert dispatch_workload.run.outcome == "passed"

@pytest.mark.dispatch("rye", expect="burnt")
def test_three(dispatch_workload):
    pass
"""


def test_marks(kitchen: Bench) -> None:
    """Also the mark by which its items are selected, though marks are strict."""
    kitchen.path.joinpath("test_own.py").write_text(MARKED)
    result = bake(kitchen, "test_own.py", rye=[GOOD])
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*mark dispatch: expected expect= one of baked, hot, got 'burnt'"])
    bake(kitchen, "-m", "dispatch_bake", rye=[GOOD]).assert_outcomes(passed=1)
    listed = kitchen.spawn(*KIND, "--markers", machines=NO_MACHINES)
    listed.stdout.fnmatch_lines(["@pytest.mark.dispatch_bake: an item whose workload is of the kind bake."])


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"expect": "burnt"}, "rye: expected expect= one of baked, hot, got 'burnt'"),
        (
            {"limits": {"bakin": 1.0}},
            "rye: limits of the kind bake: expected patience, delivery, baking, rest, got 'bakin'",
        ),
        ({"kind": "brew"}, "rye: expected one of the kinds actions, bake, boot, deployment, got 'brew'"),
    ],
    ids=["expect", "limits", "kind"],
)
def test_what_the_kind_does_not_know_is_refused(kitchen: Bench, said: dict[str, object], complaint: str) -> None:
    result = bake(kitchen, rye={"payload": {"does": [GOOD]}, **said})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {complaint}"]


def test_the_whole_session_expects_what_the_kind_knows(kitchen: Bench) -> None:
    """And those that boot go on as they do."""
    kitchen.workloads({"a": "pass"})
    result = bake(kitchen, "--dispatch-expect=hot", "-v", machines=SIMS, rye=[["oven-A"]])
    result.assert_outcomes(passed=2)


@fault(
    "pytest",
    "`--dispatch-resume`, and the package that brings the kind of a workload is gone",
    outcome="nothing is run",
    told="one line: the kind, and those that there are; exit code 4",
)
def test_a_session_is_resumed_without_the_package(kitchen: Bench, bakery: Bakery) -> None:
    cut = Cut(kitchen, bakery, "seen", "seen rye", APART)
    cut.kill(cut.process.pid)
    shutil.rmtree(kitchen.path / "bakery-1.0.dist-info")
    kitchen.workloads({"a": "pass"})
    again = kitchen.spawn("--dispatch-resume")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in again.errlines if line] == [
        "ERROR: kind: expected one of actions, boot, deployment, got 'bake'"
    ]


def test_an_empty_folder_without_loaves_is_refused(kitchen: Bench) -> None:
    result = bake(kitchen)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: w: no workload in this folder: expected *"])


class Cut:
    """A session that is to be cut off once the bakery was asked something, which it does not answer until then."""

    def __init__(self, kitchen: Bench, bakery: Bakery, hold: str, asked: str, *args: str) -> None:
        bakery.hold(hold)
        want(kitchen.path, rye=[MOVED])
        command = kitchen.command(*KIND, *args, machines=NO_MACHINES)
        self._log = kitchen.path / "out.txt"
        self.process = kitchen.forks.start(kitchen.path, *command, out=self._log)
        bakery.until(asked, lambda: self.process.poll() is None)

    @property
    def lab(self) -> int:
        """The id of the lab's process."""
        [lab] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(lab)

    def kill(self, pid: int, how: signal.Signals = signal.SIGKILL) -> None:
        os.kill(pid, how)
        self.process.wait(PATIENCE)


#: What the bakery does not answer, and what it was asked by then.
POINTS = {
    "it is reserved, and not sent": ("key", "asked for 0.1"),
    "it is sent, and has no name here": ("sent", "sent rye 1"),
    "its name is noted": ("seen", "seen rye"),
}


@pytest.mark.parametrize("whom", ["the lab", "pytest"])
@pytest.mark.parametrize(("hold", "asked"), POINTS.values(), ids=POINTS)
@fault(
    "Crashes",
    "the lab or pytest is killed (SIGKILL) while others are asked to run a workload, before, within or after that",
    outcome="`--dispatch-resume` finds what was sent by its key or its name outside, and sends nothing twice",
    told="`resumed` in the line at the top",
)
@pytest.mark.draw(2)
def test_what_was_sent_is_adopted_and_never_sent_again(
    kitchen: Bench, bakery: Bakery, hold: str, asked: str, whom: str
) -> None:
    cut = Cut(kitchen, bakery, hold, asked, APART)
    cut.kill(cut.lab if whom == "the lab" else cut.process.pid)
    bakery.go_on()
    again = bake(kitchen, "--dispatch-resume", rye=[MOVED])
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["dispatch: w; 1 bake; resumed"])
    assert bakery.count("sent rye 1") == 1
    assert bakery.count("taken back rye") == 0


def test_ctrl_c_leaves_it_where_it_is_for_the_next_session(kitchen: Bench, bakery: Bakery) -> None:
    cut = Cut(kitchen, bakery, "seen", "seen rye", IN_THREAD)
    cut.kill(cut.process.pid, signal.SIGINT)
    bakery.go_on()
    again = bake(kitchen, "--dispatch-resume", rye=[MOVED])
    again.assert_outcomes(passed=1)
    assert [line for line in bakery.asked if line.startswith(("sent", "taken"))] == ["sent rye 1"]
