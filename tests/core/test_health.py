"""When machines are held because of faults of the lab, and how they return."""

from __future__ import annotations

from dataclasses import replace

import pytest
from queue_bench import QueueBench, policy, workload

from pytest_dispatch.core.explanation import ObstacleKind
from pytest_dispatch.core.health import LAB, LONGEST, HealthRules, HealthTable, MachineHealth
from pytest_dispatch.core.machine import Hold, MachineState
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_options import RunOptions

A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
NAMES = ("a", "b", "c", "d", "e")
ERROR, FAILED, PASSED = Outcome.ERROR, Outcome.FAILED, Outcome.PASSED


class HealthBench(QueueBench):
    """A lab with rules of health, in which a run is tried once unless the policy says otherwise."""

    def __init__(self, *names: str, retries: int = 0, checked: bool = True, faults: int = 3) -> None:
        super().__init__(*names, policy=policy(retries=retries))
        self.health.rules = HealthRules(faults=faults, again=600.0)
        self.health.has_check = lambda _machine: checked
        self.queue.open("lab", policy(retries=0), source="lab:health")

    @property
    def health(self) -> HealthTable:
        return self.queue.core.health

    def of(self, machine: str) -> MachineHealth:
        return self.health.of(machine)

    def row(self, machine: str) -> list[str]:
        """The workloads that count against a machine."""
        return [fault.series.name for fault in self.of(machine).faults]

    def hold(self, machine: str) -> str:
        """Why a machine is held; empty if it is not."""
        hold = self.queue.machines[machine].hold
        return hold.reason if hold is not None else ""

    def passes(self, machine: str) -> str:
        name = self.boot(machine)
        self.put(machine, result=PASSED)
        self.head(machine)
        return name

    def checks(self, machine: str, name: str = "check") -> str:
        """A check begins, and the lab has its bytes."""
        wanted = workload(name)
        key = f"{machine}#{len(self.queue.runs)}"
        (run,) = self.queue.core.sessions.submit_all("lab", [(key, wanted)], self.now, {key: RunOptions(only=machine)})
        self.health.begin(machine, run.id)
        self.queue.ready(run.id)
        self.ids[name] = run.id
        return run.id


def test_three_faults_on_different_workloads_in_a_row_hold_a_machine_and_tell_why() -> None:
    bench = HealthBench(*NAMES)
    for name in NAMES[:2]:
        assert bench.fail_before_boot(A) == name
        assert not bench.hold(A)
    bench.fail_before_boot(A)
    hold = bench.queue.machines[A].hold
    assert hold is not None
    assert hold.owner == LAB
    for name in NAMES[:3]:
        assert f"{name} (run {bench.ids[name]}): {A}: the kernel panicked before the download" in bench.hold(A)
    assert bench.hold(A).startswith("3 faults of the lab in a row: ")
    assert bench.hold(A).endswith("; it returns by passing its health workload")
    assert bench.head(A) in ("wait", "poweroff")
    assert bench.head(B) == "d", "the others go on"


def test_a_machine_without_a_health_workload_is_returned_by_hand() -> None:
    bench = HealthBench(*NAMES, checked=False)
    for _ in range(3):
        bench.fail_before_boot(A)
    assert bench.hold(A).endswith(f"return it by hand: dispatch machines return {A}")
    assert bench.of(A).due is None
    bench.queue.machines.readmit(A, bench.now)
    bench.health.returned(A)
    assert bench.of(A) == MachineHealth(), "what was known against it counts no more"
    assert bench.head(A) == "d"


def test_the_number_is_configured_and_none_is_never() -> None:
    two = HealthBench(*NAMES, faults=2)
    never = HealthBench(*NAMES, faults=0)
    for _ in range(2):
        two.fail_before_boot(A)
    for _ in NAMES:
        never.fail_before_boot(A)
    assert two.hold(A)
    assert not never.hold(A)


def test_a_lab_of_one_pytest_holds_no_machine() -> None:
    bench = QueueBench(*NAMES, policy=policy(retries=0))
    for _ in NAMES:
        bench.fail_before_boot(A)
    assert bench.queue.machines[A].hold is None
    assert not bench.queue.core.health


@pytest.mark.parametrize("result", [PASSED, FAILED])
def test_a_workload_that_ran_well_or_failed_by_itself_ends_the_row(result: Outcome) -> None:
    bench = HealthBench(*NAMES)
    bench.fail_before_boot(A)
    bench.fail_before_boot(A)
    bench.boot(A)
    bench.put(A, result=result)
    assert bench.head(A) == "d"
    assert bench.ends("c") == [result]
    assert bench.row(A) == []


def test_one_workload_again_and_again_holds_no_machine() -> None:
    bench = HealthBench("a", retries=5)
    for _ in range(6):
        assert bench.fail_before_boot(A) == "a"
    assert bench.row(A) == ["a"]
    assert not bench.hold(A)


def test_a_run_that_fails_on_two_machines_is_held_and_counts_against_neither() -> None:
    bench = HealthBench("a", retries=5)
    bench.fail_before_boot(A)
    assert bench.row(A) == ["a"]
    bench.fail_before_boot(B)
    hold = bench.queue.core.transitions.held[bench.ids["a"]]
    assert hold.owner == LAB
    assert hold.reason.startswith(f"faults of the lab on 2 machines ({A}, {B}), at last: {B}: the kernel panicked")
    assert hold.until == bench.now + 86_400.0
    assert (bench.row(A), bench.row(B)) == ([], [])
    assert bench.head(C) == "wait", "it is tried on no third one"
    bench.queue.core.group_queue.release(bench.ids["a"], bench.now)
    assert bench.head(C) == "a"


def test_a_held_run_is_tried_again_when_its_hold_ends() -> None:
    bench = HealthBench("a", retries=5)
    bench.fail_before_boot(A)
    bench.fail_before_boot(B)
    bench.jump(86_401.0)
    bench.queue.expire(bench.now)
    assert bench.head(C) == "a"


def test_workloads_that_fail_everywhere_do_not_hold_all_machines() -> None:
    """Each is tried on one machine after the other, in runs of their own."""
    bench = HealthBench()
    held = 0
    for machine in (A, B, C, D):
        bench.head(machine)
        for name in NAMES:
            bench.submit(workload(name), session=_another(bench))
            if not bench.hold(machine):
                bench.fail_before_boot(machine)
            bench.cancel(name)
        held += bool(bench.hold(machine))
    assert held == 1
    assert {series.name for series in bench.health.suspects} == set(NAMES)


def _another(bench: HealthBench) -> str:
    session = f"s{bench.now}"
    bench.jump(1.0)
    bench.queue.open(session, policy(retries=0))
    return session


def test_a_suspect_workload_that_ends_well_somewhere_counts_again() -> None:
    bench = HealthBench("a", retries=5)
    bench.fail_before_boot(A)
    bench.fail_before_boot(B)
    assert [series.name for series in bench.health.suspects] == ["a"]
    bench.queue.core.group_queue.release(bench.ids["a"], bench.now)
    assert bench.passes(C) == "a"
    assert not bench.health.suspects


def test_what_is_not_the_machines_fault_does_not_count() -> None:
    bench = HealthBench(*NAMES)
    bench.head(A)
    bench.queue.unfetchable(bench.ids["a"], "GitHub answered 502", bench.now)
    assert bench.ends("a") == [ERROR]
    bench.head(A)
    bench.queue.fault(A, "the disk is full", bench.now, lab=True, excused=True)
    bench.head(A)
    bench.cancel("c")
    assert [bench.attempt(name).excused for name in ("a", "b", "c")] == [True] * 3
    assert bench.row(A) == []


def test_a_timeout_of_a_machine_counts() -> None:
    bench = HealthBench(*NAMES)
    bench.download(A)
    bench.after(901.0)
    assert bench.ends("a") == [ERROR]
    assert bench.row(A) == ["a"]


def test_nobody_is_blamed_for_a_run_that_no_machine_took() -> None:
    bench = HealthBench("a")
    bench.after(1801.0)
    assert bench.ends("a") == [ERROR]
    assert not bench.health


def test_a_machine_that_a_person_holds_stays_theirs() -> None:
    bench = HealthBench(*NAMES)
    bench.fail_before_boot(A)
    bench.fail_before_boot(A)
    bench.head(A)
    bench.queue.machines.withhold(A, Hold(reason="its fan is loud", owner="ada", since=bench.now))
    bench.fault(A)
    assert bench.hold(A) == "its fan is loud"
    assert not bench.of(A).holding


class TestChecks:
    """A machine that is held because of its health, and checks of it."""

    @pytest.fixture
    def bench(self) -> HealthBench:
        bench = HealthBench(*NAMES)
        for _ in range(3):
            bench.fail_before_boot(A)
        return bench

    def test_go_to_that_machine_alone_although_it_is_held(self, bench: HealthBench) -> None:
        bench.checks(A)
        assert bench.head(B) == "d"
        assert bench.head(C) == "e"
        assert bench.head(D) in ("wait", "poweroff")
        assert bench.head(A) == "check"

    def test_go_before_all_others_on_a_machine_that_is_not_held(self) -> None:
        bench = HealthBench(*NAMES)
        bench.head(A)
        bench.cancel("a")
        bench.checks(A)
        assert bench.head(A) == "check"

    def test_return_it_by_a_pass(self, bench: HealthBench) -> None:
        run = bench.checks(A)
        assert bench.passes(A) == "check"
        assert not bench.hold(A)
        assert (bench.of(A).outcome, bench.of(A).last, bench.of(A).run) == (PASSED, run, "")
        assert (bench.of(A).faults, bench.of(A).holding, bench.of(A).tries) == ((), False, 0)
        assert bench.held(A) == bench.ids["d"], "it works again"

    def test_keep_it_by_a_failure_with_the_new_reason_and_back_off(self, bench: HealthBench) -> None:
        waits = []
        for _ in range(3):
            bench.checks(A)
            bench.boot(A)
            bench.put(A, title="no memory", result=FAILED)
            bench.head(A)
            waits.append((bench.of(A).due or 0.0) - bench.now)
            assert bench.hold(A).startswith("its health workload check (run ")
            assert "failed: it reported failed: no memory; checked again in" in bench.hold(A)
            assert "; held first for: 3 faults of the lab in a row: a (run " in bench.hold(A)
            assert "it returns by" not in bench.hold(A)
        assert waits == [600.0, 1200.0, 2400.0]
        assert bench.of(A).tries == 3
        assert A not in bench.queue.machines.held_lately or bench.of(A).tries

    def test_wait_a_day_at_most(self, bench: HealthBench) -> None:
        for _ in range(20):
            bench.checks(A)
            bench.fail_before_boot(A)
        assert bench.of(A).due == bench.now + LONGEST

    def test_that_come_to_nothing_say_nothing_of_it(self, bench: HealthBench) -> None:
        run = bench.checks(A)
        before = bench.hold(A)
        bench.queue.unfetchable(run, "GitHub answered 502", bench.now)
        assert (bench.hold(A), bench.of(A).tries, bench.of(A).due) == (before, 0, bench.now + 600.0)

    def test_of_a_machine_that_does_not_come_end(self, bench: HealthBench) -> None:
        bench.checks(A)
        for _ in range(40):
            bench.jump(60.0)
            bench.head(B)
            bench.queue.expire(bench.now)
        assert f"no machine but {A} will do, and it did not come" in bench.run("check").reason
        assert bench.of(A).tries == 1

    def test_that_fail_hold_a_machine(self) -> None:
        bench = HealthBench()
        bench.head(A)
        bench.checks(A)
        bench.fail_before_boot(A)
        assert bench.hold(A).startswith("its health workload check (run ")
        assert bench.of(A).holding

    def test_that_fail_on_two_machines_hold_one(self) -> None:
        bench = HealthBench()
        for machine in (A, B, C):
            bench.head(machine)
            bench.checks(machine)
            bench.fail_before_boot(machine)
        assert [bool(bench.hold(machine)) for machine in (A, B, C)] == [True, False, False]

    def test_on_demand_leave_a_persons_hold(self) -> None:
        bench = HealthBench()
        bench.head(A)
        bench.queue.machines.withhold(A, Hold(reason="its fan is loud", owner="ada", since=bench.now))
        bench.checks(A)
        assert bench.passes(A) == "check"
        assert bench.hold(A) == "its fan is loud"

    def test_of_a_machine_that_is_gone_from_the_configuration_do_not_begin(self, bench: HealthBench) -> None:
        bench.checks(A)
        bench.queue.machines[A].leave(bench.now)
        assert bench.head(A) in ("wait", "poweroff")

    def test_wait_while_their_group_is_paused(self, bench: HealthBench) -> None:
        bench.checks(A)
        bench.queue.core.groups.pause("lab", Hold(reason="it is night"), bench.now)
        assert bench.head(A) == "wait"
        bench.queue.core.groups.resume("lab", bench.now)
        assert bench.head(A) == "check"

    def test_wake_no_other_machine(self, bench: HealthBench) -> None:
        for name in ("d", "e"):
            bench.cancel(name)
        bench.checks(A)
        index = bench.queue.core.transitions.run_index
        assert not index.calls_for_machines
        assert not index.keeps_machines
        assert not index.needs_something

    def test_have_a_held_machine_wait(self, bench: HealthBench) -> None:
        for name in ("d", "e"):
            bench.cancel(name)
        assert bench.head(A) == "wait", "a machine that nobody can power on stays on for its check"
        assert bench.head(B) == "poweroff"


def test_a_machine_that_cannot_be_started_is_held_where_a_check_may_return_it() -> None:
    for checked in (True, False):
        bench = HealthBench(checked=checked)
        bench.head(A)
        bench.queue.core.scheduler.broke(A, "no power", bench.now)
        assert bool(bench.hold(A)) is checked
        state = bench.queue.core.machine(A, bench.now).state
        assert state is (MachineState.HELD if checked else MachineState.BROKEN)


def test_a_check_of_a_machine_that_breaks_fails() -> None:
    bench = HealthBench()
    bench.head(A)
    bench.queue.core.scheduler.broke(A, "no power", bench.now)
    bench.checks(A)
    bench.queue.core.scheduler.broke(A, "no power at all", bench.now)
    assert bench.run("check").outcome is ERROR
    assert bench.of(A).tries == 1
    assert "no power at all" in bench.hold(A)


def test_health_is_as_an_earlier_lab_knew_it() -> None:
    bench = HealthBench(*NAMES)
    bench.fail_before_boot(A)
    bench.fail_before_boot(A)
    other = HealthBench("x")
    other.head(A)
    other.cancel("x")
    other.health.recall({A: bench.of(A)}, bench.health.suspects, bench.now)
    assert not other.health.changed, "the journal has it"
    other.submit(workload("c"))
    other.fail_before_boot(A)
    assert other.hold(A)


class TestExplanations:
    """Why a run waits, where health has to do with it."""

    def test_a_check_does_not_wait_for_the_end_of_the_hold_that_it_passes(self) -> None:
        bench = HealthBench(*NAMES)
        for _ in range(3):
            bench.fail_before_boot(A)
        run = bench.checks(A)
        explanation = explain(bench.queue.core, run, bench.now)
        assert [each.kind for each in explanation.obstacles] == []
        assert explanation.machine == A
        assert bench.head(A) == "check"

    def test_a_check_goes_before_what_waits(self) -> None:
        bench = HealthBench("a", "b")
        assert bench.passes(A) == "a"
        bench.checks(A)
        bench.cancel("b")
        bench.submit(workload("c"))
        (obstacle,) = explain(bench.queue.core, bench.ids["c"], bench.now).obstacles
        assert (obstacle.kind, obstacle.runs) == (ObstacleKind.AHEAD, (bench.ids["check"],))
        assert obstacle.text == f"a check of the health of {A} goes first"
        bench.cancel("check")
        assert explain(bench.queue.core, bench.ids["c"], bench.now).obstacles == ()
        assert bench.head(A) == "c"

    def test_a_machine_is_kept_for_the_run_that_goes_on_there(self) -> None:
        bench = HealthBench()
        bench.submit(replace(workload("a"), chain="c"))
        later = bench.submit(replace(workload("b"), chain="c"), ready=False)
        assert bench.boot(A) == "a"
        bench.put(A, result=PASSED)
        assert bench.head(A) == "wait"
        explanation = explain(bench.queue.core, later.id, bench.now)
        assert [each.why for each in explanation.machines] == [f"{A} is kept for it"]

    def test_the_lab_tells_its_hold_of_a_run(self) -> None:
        bench = HealthBench("a", retries=5)
        bench.fail_before_boot(A)
        bench.fail_before_boot(B)
        kinds = [each.kind for each in explain(bench.queue.core, bench.ids["a"], bench.now).obstacles]
        assert ObstacleKind.RUN_HOLD in kinds

    def test_machines_that_wait_for_approval_are_told(self) -> None:
        bench = HealthBench("a")
        bench.queue.core.unknown.welcome = False
        assert bench.head(A) == "wait"
        (obstacle,) = explain(bench.queue.core, bench.ids["a"], bench.now).obstacles
        assert (obstacle.kind, obstacle.name) == (ObstacleKind.APPROVAL, A)
        bench.submit(replace(workload("gpu"), requires=read_requirements(["gpu"], "")))
        (obstacle,) = explain(bench.queue.core, bench.ids["gpu"], bench.now).obstacles
        assert f"; {A} asked to boot, and nobody has approved that" in obstacle.text
