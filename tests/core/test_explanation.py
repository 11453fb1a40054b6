"""What is said of a run that waits, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from docs_examples import ROOT, blocks
from random_labs import EVERYTHING, Asked, RandomLab

from pytest_dispatch.core.explanation import Explanation, ObstacleKind, Starts, told_start, told_why
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.health import CHECKS
from pytest_dispatch.core.machine import Hold, Identity
from pytest_dispatch.core.model import KnownBy, Phase, Policy, Priority, Run
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.run_options import Requeue

ASKED = Asked(session="s", requires=(), priority=Priority.NORMAL, group="", chain="", ready=True)


@pytest.fixture
def lab() -> RandomLab:
    lab = RandomLab()
    for session in ("s", "t"):
        lab.queue.table.open(session, Policy(retries=3))
    return lab


def sentence(lab: RandomLab, run: str) -> str:
    return explain(lab.queue, run, lab.now).sentence


def kinds(explanation: Explanation) -> list[ObstacleKind]:
    return [each.kind for each in explanation.obstacles]


def test_a_machine_that_is_free(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", ASKED)
    assert sentence(lab, "s.0") == "It waits for m, which gets it when it next asks for work."


def test_a_machine_that_the_lab_brings_up(lab: RandomLab) -> None:
    lab.queue.machines.declare("m", driven=True)
    lab.ask_for("a", ASKED)
    assert sentence(lab, "s.0") == "It waits for m, which the lab brings up for it."


def test_no_machine_yet(lab: RandomLab) -> None:
    lab.ask_for("a", ASKED)
    assert sentence(lab, "s.0") == "It waits: no machine fits: no machine has asked the lab for work yet."


def test_the_nearest_machine_lacks_a_label(lab: RandomLab) -> None:
    lab.machine("m", {"arch": "arm"})
    lab.ask_for("a", replace(ASKED, requires=("arch=x86",)))
    told = "no machine fits: it requires arch=x86; the nearest is m: it has arch=arm, wanted is arch=x86"
    assert sentence(lab, "s.0") == f"It waits: {told}."
    (machine,) = explain(lab.queue, "s.0", lab.now).machines
    assert (machine.could, machine.why) == (False, "it has arch=arm, wanted is arch=x86")


def test_a_machine_outside_the_group(lab: RandomLab) -> None:
    lab.queue.group_queue.set([Group(id="gpu", labels={"gpu": ""})], lab.now)
    lab.machine("m", {})
    lab.ask_for("a", replace(ASKED, group="gpu"))
    (machine,) = explain(lab.queue, "s.0", lab.now).machines
    assert machine.why == "it is not in group gpu: it has no label gpu"


def test_all_that_holds_it(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", replace(ASKED, ready=False))
    lab.queue.group_queue.hold("s.0", Hold(reason="look first", owner="ada", until=lab.now + 60), lab.now)
    lab.queue.groups.pause("lab", Hold(reason="power cut"), lab.now)
    lab.queue.machines.withhold("m", Hold(reason="new fan", owner="bob"))
    explanation = explain(lab.queue, "s.0", lab.now)
    assert explanation.sentence == (
        "It waits: it is held by ada: look first, until 00:17 UTC; group lab is paused: power cut;"
        " the lab lacks what it needs: its bytes were still being fetched; m is held by bob: new fan."
    )
    assert kinds(explanation) == [ObstacleKind.RUN_HOLD, ObstacleKind.PAUSE, ObstacleKind.NEEDS, ObstacleKind.HOLD]


def test_one_that_is_tried_again_later_is_told_by_its_hold_alone(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", replace(ASKED, ready=False))
    record = lab.queue.transitions.runs.record("s.0")
    record.run = replace(record.run, requeue=Requeue(most=2, done=1))
    lab.queue.group_queue.hold("s.0", Hold(reason="tried again", owner="lab", until=lab.now + 60), lab.now)
    assert kinds(explain(lab.queue, "s.0", lab.now)) == [ObstacleKind.RUN_HOLD]


def test_machines_that_are_busy_or_out_of_use(lab: RandomLab) -> None:
    for name in ("a", "b", "c"):
        lab.ask_for(name, ASKED)
    lab.machine("m", {})
    lab.machine("n", {})
    lab.take("m")
    lab.put("n", "off")
    assert sentence(lab, "s.2") == (
        "It waits: b goes first (earlier in the same line);"
        " none of the 2 machines that fit is free (1 busy, 1 off); m is about to run a."
    )
    lab.passes("s.0")
    assert sentence(lab, "s.0") == "It is over: passed on m at 00:16 UTC."


def test_one_of_a_higher_priority_and_one_of_another_session(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", replace(ASKED, session="t"))
    lab.ask_for("b", ASKED)
    assert "a goes first (sessions take turns)" in sentence(lab, "s.1")
    lab.ask_for("c", replace(ASKED, session="t", priority=Priority.HIGH))
    assert "c goes first (priority high)" in sentence(lab, "s.1")  # and then it is this session's turn
    lab.queue.group_queue.move("t.0")
    assert "2 runs go first (priority high): a and c" in sentence(lab, "s.1")


def test_runs_that_go_first_for_several_reasons(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", ASKED)
    lab.ask_for("b", replace(ASKED, session="t", priority=Priority.URGENT))
    lab.ask_for("c", ASKED)
    assert "2 runs go first (priority urgent, or earlier in the same line): b and a" in sentence(lab, "s.2")


def test_a_group_that_may_have_one_run_under_way(lab: RandomLab) -> None:
    lab.queue.group_queue.set([Group(id="gpu", max_running=1)], lab.now)
    for name in ("m", "n"):
        lab.machine(name, {})
    for name in ("a", "b"):
        lab.ask_for(name, replace(ASKED, group="gpu"))
    lab.take("m")
    assert sentence(lab, "s.1") == "It waits: group gpu may have 1 under way: 1 is."


def test_a_chain_says_what_keeps_its_first(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.put("m", "off")
    for name in ("a", "b"):
        lab.ask_for(name, replace(ASKED, chain="c"))
    assert sentence(lab, "s.1") == "It waits: a of its chain comes first. a: It waits: m is off."


def test_a_machine_to_avoid(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", ASKED)
    lab.take("m")
    lab.queue.scheduler.fault("m", "it broke", lab.now, lab=True)
    assert sentence(lab, "s.0") == "It waits for m, which gets it when it next asks for work."
    lab.machine("n", {})
    lab.queue.machines.withhold("n", Hold(reason="new fan"))
    assert sentence(lab, "s.0") == "It waits for m, which gets it when it next asks for work."
    lab.queue.machines.readmit("n", lab.now)
    explanation = explain(lab.queue, "s.0", lab.now)
    assert (explanation.machine, explanation.obstacles) == ("n", ())
    assert explanation.machines[1].why == "its last attempt was on m, and there are other machines"


def test_a_machine_that_waits_for_approval(lab: RandomLab) -> None:
    lab.queue.unknown.welcome = False
    lab.queue.unknown.asks(Identity(KnownBy.ADDRESS, "10.0.0.9"), lab.now)
    lab.ask_for("a", ASKED)
    assert sentence(lab, "s.0") == "It waits: 10.0.0.9 is unknown, and waits for approval."
    lab.ask_for("b", replace(ASKED, requires=("gpu",)))
    (machine,) = explain(lab.queue, "s.1", lab.now).machines
    assert (machine.could, machine.why) == (False, "it has no label gpu")


def test_a_check_of_a_machines_health(lab: RandomLab) -> None:
    lab.queue.table.open("h", Policy(), source=CHECKS)
    lab.machine("m", {})
    lab.machine("n", {})
    for name in ("m", "n"):
        lab.queue.machines.withhold(name, Hold(reason="three faults"))
    lab.ask_for("check", replace(ASKED, session="h", only="m"))
    explanation = explain(lab.queue, "h.0", lab.now)
    assert explanation.sentence == "It waits for m, which gets it when it next asks for work."  # in spite of the hold
    assert explanation.machines[1].why == "only m may have it"
    lab.queue.machines.readmit("m", lab.now)
    lab.ask_for("a", ASKED)
    assert sentence(lab, "s.1") == "It waits: a check of the health of m goes first."


def test_a_run_that_is_under_way(lab: RandomLab) -> None:
    lab.machine("m", {})
    lab.ask_for("a", ASKED)
    lab.take("m")
    explanation = explain(lab.queue, "s.0", lab.now)
    assert explanation.sentence == "It does not wait: it has been assigned on m since 00:16 UTC."
    assert (explanation.phase, explanation.place, explanation.obstacles) == (Phase.STARTING, 0, ())


def takes(run: Run, machine: str, share: float) -> float:
    assert (run.workload.name, machine) in {(name, where) for name in "abc" for where in ("", "m")}
    return 100.0 if share < 0.5 else 200.0


def test_when_it_should_start(lab: RandomLab) -> None:
    lab.machine("m", EVERYTHING)
    for name in ("a", "b", "c"):
        lab.ask_for(name, ASKED)
    lab.take("m")
    lab.now += 50
    starts = [explain(lab.queue, run, lab.now, takes).starts for run in ("s.1", "s.2")]
    assert starts == [Starts(earliest=1100.0, latest=1200.0), Starts(earliest=1200.0, latest=1400.0)]
    assert explain(lab.queue, "s.1", lab.now).starts is None  # nobody knows how long they take
    lab.queue.groups.pause("lab", Hold(reason="r", until=1300.0), lab.now)
    assert explain(lab.queue, "s.1", lab.now, takes).starts == Starts(earliest=1300.0, latest=1300.0)
    lab.queue.groups.pause("lab", Hold(reason="r"), lab.now)
    assert explain(lab.queue, "s.1", lab.now, takes).starts is None  # nobody knows when that ends


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        (None, ""),
        ((0.0, 0.5), "starts at once"),
        ((90.0, 90.0), "starts in about 90s"),
        ((90.0, 300.0), "starts in 90s to 5m"),
        ((-5.0, 300.0), "starts within 5m"),
        ((1789.0, 1789.0), "starts in about 30m"),
        ((1789.0, 1800.0), "starts in about 30m"),
        ((3.0, 58.0), "starts in 3s to 1m"),
        ((7800.0, 50_000.0), "starts in 2h to 14h"),
    ],
)
def test_how_a_start_is_told(starts: tuple[float, float] | None, told: str) -> None:
    now = 1000.0
    found = None if starts is None else Starts(earliest=now + starts[0], latest=now + starts[1])
    assert told_start(found, now) == told


def test_all_in_one_line(lab: RandomLab) -> None:
    lab.machine("n", {})
    lab.put("n", "off")
    lab.ask_for("a", ASKED)
    explanation = explain(lab.queue, "s.0", lab.now)
    assert told_why(explanation, lab.now) == "a: It waits: n is off. (place 1)"


def test_the_sentences_of_the_page() -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "service.md") if block.directive == "explanations"]
    assert block.text.splitlines() == list(_told_of_a_rack())


def _told_of_a_rack() -> Iterator[str]:
    """A run that waits for what happens to it and to others, one after the other."""
    lab = RandomLab(now=16 * 3600.0)
    lab.queue.table.open("s", Policy())
    lab.queue.group_queue.set([Group(id="boards")], lab.now)
    lab.machine("rpi-02", {"arch": "arm64"})
    lab.ask_for("a", ASKED)
    yield sentence(lab, "s.0")
    lab.ask_for("b", replace(ASKED, requires=("arch=x86_64",)))
    yield sentence(lab, "s.1")
    lab.queue.group_queue.hold("s.0", Hold(reason="look at the log first", owner="ada"), lab.now)
    yield sentence(lab, "s.0")
    lab.queue.group_queue.release("s.0", lab.now)
    lab.queue.groups.pause("boards", Hold(reason="the rack moves", owner="ada", until=18 * 3600.0), lab.now)
    lab.queue.machines.withhold("rpi-02", Hold(reason="three faults in a row", owner="the lab"))
    yield sentence(lab, "s.0")
    lab.queue.groups.resume("boards", lab.now)
    lab.queue.machines.readmit("rpi-02", lab.now)
    for name in ("kernel-c", "kernel-a", "kernel-b"):
        lab.ask_for(name, replace(ASKED, priority=Priority.HIGH))
    lab.take("rpi-02")
    yield sentence(lab, "s.0")


def test_the_page_names_all_obstacles() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / "service.md").read_text("utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(ObstacleKind) <= named
