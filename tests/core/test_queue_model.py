"""The queue against a plain reference model, driven by hypothesis; `make torture` drives it for longer."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queue_bench import Queue, said
from queue_bench import workload as boot_workload
from queue_reference import SIZE, Reference, Work
from torture import examples, larger

from pytest_dispatch.core.model import Idle, Outcome, Policy, Report, Run, Workload
from pytest_dispatch.workloads.boot.lifecycle import Expect
from pytest_dispatch.workloads.boot.rules import RULES

LONGEST = 20_000.0  # seconds: more than all deadlines of an attempt together
INSTANT = 1 / 1024  # seconds: no two requests come at the very same time

machines = st.sampled_from(["m1", "m2", "m3", "m4"])
which = st.integers(min_value=0, max_value=7)
titles = st.sampled_from(["one", "two"])
results = st.sampled_from([None, *Outcome])
jumps = st.sampled_from([0.1, 25.0, 31.0, 61.0, 299.0, 301.0, 700.0, 1100.0, 4000.0])
policies = st.builds(
    Policy,
    limits=st.fixed_dictionaries(
        {
            "assign": st.sampled_from([600.0, 1800.0]),
            "boot": st.sampled_from([100.0, 900.0]),
            "report": st.sampled_from([50.0, 1000.0]),
        }
    ),
    retries=st.integers(0, 2),
    retry_failures=st.integers(0, 1),
    idle=st.sampled_from(Idle),
    judged=st.booleans(),
)


class QueueMachine(RuleBasedStateMachine):
    """Random machines, drops, repeats, time jumps, reports, faults, cancels and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.now = 1_000_000.0
        self.asked = 0
        self.journal: dict[str, Run] = {}
        self.ids: dict[str, str] = {}  # by key, of the runs that the model has

    @initialize(policy=policies)
    def begin(self, policy: Policy) -> None:
        self.policy = policy
        self.model = Reference(policy)
        self.queue.open("s", policy)

    # What sessions do

    @precondition(lambda self: len(self.model.works) < 7)
    @rule(expect=st.sampled_from([Expect.REPORT, Expect.REPORT, Expect.BOOT, Expect.RETURN]), ready=st.booleans())
    def submit(self, expect: Expect, ready: bool) -> None:
        key = f"w{self.asked}"
        self.asked += 1
        run = self.queue.submit("s", key, workload(key, expect), self.now)
        assert run.id not in self.journal, "an id was given twice"
        self.ids[key], self.journal[run.id] = run.id, run
        self.model.submit(key, expect, self.now)
        if ready:
            self.ready(len(self.model.works) - 1)

    @precondition(lambda self: self.model.works)
    @rule(index=which, expect=st.sampled_from(Expect), report=st.sampled_from([None, 20.0, 2000.0]))
    def submit_again(self, index: int, expect: Expect, report: float | None) -> None:
        work = self.work(index)
        before, asked = self.run_of(work), workload(work.key, expect, report)
        self.model.submit_again(work, expect, RULES.limits_of(asked, self.policy), self.now)
        self.asked_again(before, asked)

    @precondition(lambda self: self.model.works)
    @rule(index=which)
    def ready(self, index: int) -> None:
        work = self.work(index)
        self.model.ready(work)
        self.queue.ready(self.ids[work.key])

    @precondition(lambda self: self.model.works)
    @rule(index=which, really=st.integers(0, 5))
    def unfetchable(self, index: int, really: int) -> None:
        if not really:
            work = self.work(index)
            self.model.unfetchable(work, self.now)
            self.queue.unfetchable(self.ids[work.key], "gone", self.now)

    @precondition(lambda self: self.model.works)
    @rule(index=which, really=st.integers(0, 5))
    def cancel(self, index: int, really: int) -> None:
        if not really:
            work = self.work(index)
            self.model.cancel(work, self.now)
            self.queue.cancel(self.ids[work.key], self.now)

    @precondition(lambda self: self.model.works and self.policy.judged)
    @rule(index=which, outcome=results)
    def decide(self, index: int, outcome: Outcome | None) -> None:
        work = self.work(index)
        expected = self.model.decide(work, outcome, self.now)
        assert self.queue.decide(self.ids[work.key], outcome, "because", self.now) is expected

    @rule(really=st.integers(0, 5))
    def crash(self, really: int) -> None:
        if really:
            return
        self.take_changes()
        self.queue = Queue()
        self.queue.restore("s", self.policy, self.journal.values(), self.now)
        self.model = self.model.restarted(self.now)

    @precondition(lambda self: any(work.last.state == "unassigned" and not work.unasked for work in self.model.works))
    @rule(really=st.integers(0, 2))
    def crash_and_resume(self, really: int) -> None:
        if really:
            return
        self.crash(0)
        self.queue.hold_back("s")
        self.model.hold_back()

    # While a resumed session has not asked for all again

    @precondition(lambda self: self.held_back())
    @rule(index=which, what=st.sampled_from(["ready", "unfetchable", "cancel", "expire"]))
    def what_is_held_back_stays_so(self, index: int, what: str) -> None:
        held = self.held_back()
        work = held[index % len(held)]
        run = self.run_of(work)
        match what:
            case "ready":
                self.queue.ready(run.id)
            case "unfetchable":
                self.queue.unfetchable(run.id, "gone", self.now)
            case "cancel":
                self.queue.cancel(run.id, self.now)
            case _:
                self.jump(4000.0, looked=True)
        assert self.run_of(work) is run
        assert self.queue.held_back(run)

    @precondition(lambda self: self.held_back())
    @rule(index=which)
    def is_asked_for_late(self, index: int) -> None:
        """And has all its time from then on."""
        most = 0.7 * self.policy.limits["assign"]
        self.jump(most, looked=True)
        held = self.held_back()
        self.submit_again(self.model.works.index(held[index % len(held)]), Expect.REPORT, None)
        self.jump(most, looked=True)

    # What machines and workloads do

    @rule(machine=machines)
    def head(self, machine: str) -> None:
        self.now += INSTANT
        expected = self.model.ask(machine, self.now)
        assert said(self.queue.ask(machine, self.now)) == expected

    @rule(machine=machines)
    def get(self, machine: str) -> None:
        self.now += INSTANT
        expected = self.model.send(machine, self.now)
        answer = said(self.queue.send(machine, self.now))
        assert answer == expected
        if answer == Idle.POWEROFF:
            self.model.powered_off(machine)
            self.queue.powered_off(machine, self.now)

    @rule(machine=machines)
    def progress(self, machine: str) -> None:
        self.model.heard(machine, self.now)
        self.queue.heard(machine, self.now)

    @precondition(lambda self: self.model.works)
    @rule(machine=machines, index=which, own=st.integers(0, 4), broken=st.booleans())
    def download_ends(self, machine: str, index: int, own: int, broken: bool) -> None:
        """Mostly of what the machine holds, sometimes of what it held, or never did."""
        box = self.model.boxes.get(machine)
        work = box.holds if own and box is not None and box.holds is not None else self.work(index)
        if broken:
            self.model.broke(machine, work, self.now)
            self.queue.broke(machine, self.ids[work.key], self.now)
        else:
            self.model.sent(machine, work, self.now)
            self.queue.sent(machine, self.ids[work.key], self.now)

    @rule(machine=machines)
    def post(self, machine: str) -> None:
        expected = self.model.boot(machine, self.now)
        assert self.queue.boot(machine, self.now) == expected

    @rule(machine=machines, title=titles, result=results)
    def put(self, machine: str, title: str, result: Outcome | None) -> None:
        expected = self.model.report(machine, title, result, self.now)
        assert self.queue.report(machine, Report(title=title, result=result), self.now)[0] == expected

    @rule(machine=machines, lab=st.booleans())
    def fault(self, machine: str, lab: bool) -> None:
        expected = self.model.fault(machine, self.now, lab=lab)
        assert self.queue.fault(machine, "smoke", self.now, lab=lab) is expected

    @rule(machine=machines)
    def boots_well(self, machine: str) -> None:
        """What machines mostly do, in one go, so that attempts get far."""
        self.head(machine)
        self.get(machine)
        self.download_ends(machine, 0, 1, broken=False) if self.model.works else None
        self.post(machine)

    # What time does

    @rule(seconds=jumps, looked=st.booleans())
    def jump(self, seconds: float, looked: bool) -> None:
        self.now += seconds
        if looked:
            self.model.expire(self.now)
            self.queue.expire(self.now)

    # What must hold at any time

    @invariant()
    def as_the_model_has_it(self) -> None:
        for work in self.model.works:
            assert seen(self.run_of(work)) == told(work)
            assert self.queue.held_back(self.run_of(work)) is work.held_back
        for name, box in self.model.boxes.items():
            machine = self.queue.machines[name]
            assert (machine.off, machine.heard) == (box.off, box.heard)
            assert machine.holds == (self.ids[box.holds.key] if box.holds else "")
            assert machine.ran == [self.ids[work.key] for work in box.ran]
        assert set(self.queue.machines) == set(self.model.boxes)
        assert self.queue.unasked == {self.ids[work.key] for work in self.model.works if work.unasked}

    @invariant()
    def no_workload_is_held_twice_or_lost(self) -> None:
        holders = [machine.holds for machine in self.queue.machines.values() if machine.holds]
        assert len(holders) == len(set(holders))
        under_way = {run.id for run in self.queue.runs.values() if run.attempt.machine and not run.attempt.ended}
        assert set(holders) == under_way
        for run in self.queue.runs.values():
            assert all(attempt.ended and attempt.outcome is not None for attempt in run.attempts[:-1])
            verdict_due = run.attempt.ended and run.attempt.outcome is None
            assert verdict_due == (run.attempt.proposed is not None and run.outcome is None)
            assert (run.outcome is not None) == (run.attempt.outcome is not None)

    @invariant()
    def attempts_stay_within_their_budget(self) -> None:
        most = 1 + max(self.policy.retries, 1) + self.policy.retry_failures if hasattr(self, "policy") else 0
        assert all(len(run.attempts) <= most for run in self.queue.runs.values())

    @invariant()
    def take_changes(self) -> None:
        """What is journalled is all that there is, outcomes are set once, and versions grow."""
        for change in self.queue.take_changes():
            before = self.journal[change.run.id]
            assert change.run.version > before.version
            assert before.outcome is None or change.run.outcome is before.outcome
            assert change.at <= self.now
            self.journal[change.run.id] = change.run
        for run in self.queue.runs.values():
            assert unmoved(self.journal[run.id]) == unmoved(run)

    def teardown(self) -> None:
        """When nobody does anything any more, all comes to an end, and it is known when."""
        held = {self.ids[work.key] for work in self.held_back()}
        self.wait_long()
        left = [run for run in self.queue.runs.values() if run.outcome is None]
        assert [run.id for run in left if not self.queue.held_back(run)] == []
        assert held <= {run.id for run in left}
        for run in left:
            self.asked_again(run, run.workload)
        self.wait_long()
        assert [run.id for run in self.queue.runs.values() if run.outcome is None] == []
        assert [machine.id for machine in self.queue.machines.values() if machine.holds] == []

    # Inside

    def held_back(self) -> list[Work]:
        return [work for work in self.model.works if work.held_back] if hasattr(self, "model") else []

    def wait_long(self) -> None:
        for _ in range(8):
            self.now += LONGEST
            self.queue.expire(self.now)

    def asked_again(self, before: Run, asked: Workload) -> None:
        """Ask for a run once more, and journal it as the lab does: what was held back is what is asked for now."""
        self.take_changes()  # first: what they show is from before
        unasked, unended = before.id in self.queue.unasked, before.outcome is None
        after = self.queue.submit("s", before.key, asked, self.now)
        assert before.id not in self.queue.unasked
        assert after is self.queue.runs[before.id]
        if unasked and unended:
            limits, expect = RULES.limits_of(asked, self.policy), asked.expect or self.policy.expect or Expect.REPORT
            assert (after.workload, after.limits, after.expect) == (asked, limits, expect)
            known = self.journal[before.id]
            self.journal[before.id] = replace(known, workload=asked, limits=limits, expect=expect)
        else:
            assert after is before

    def work(self, index: int) -> Work:
        return self.model.works[index % len(self.model.works)]

    def run_of(self, work: Work) -> Run:
        return self.queue.runs[self.ids[work.key]]


def workload(name: str, expect: Expect, report: float | None = None) -> Workload:
    return boot_workload(name, expect, size=SIZE, limits={"report": report} if report is not None else {})


def unmoved(run: Run) -> Run:
    """The run without what an event that changes nothing else leaves: when it came."""
    return replace(run, attempts=tuple(replace(attempt, heard=0.0) for attempt in run.attempts))


def seen(run: Run) -> object:
    attempts = [
        (
            attempt.state,
            attempt.machine,
            attempt.ran,
            attempt.counts.get("sent", 0),
            attempt.counts.get("break", 0),
            [(report.title, report.result, report.late) for report in attempt.reports],
            attempt.outcome,
            attempt.proposed if attempt.outcome is None else None,
        )
        for attempt in run.attempts
    ]
    return attempts, run.outcome, run.cancelled


def told(work: Work) -> object:
    attempts = [
        (
            attempt.state,
            attempt.machine,
            attempt.booted,
            attempt.downloads,
            attempt.breaks,
            attempt.reports,
            attempt.outcome,
            attempt.proposed if attempt.outcome is None else None,
        )
        for attempt in work.tries
    ]
    return attempts, work.outcome, work.cancelled


QueueMachine.TestCase.settings = settings(
    max_examples=examples(80, 5000),
    stateful_step_count=larger(50, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
TestQueue = QueueMachine.TestCase
