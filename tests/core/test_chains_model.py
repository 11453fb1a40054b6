"""Chains over random histories: whatever befalls runs, machines and the lab, what a chain promises holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from queue_bench import QueueBench, policy, workload
from torture import examples

from pytest_dispatch.core.model import Outcome, Phase, Policy, Run, Workload

MACHINES = ("10.0.0.1", "10.0.0.2")
CHAINS = ("", "c", "d")

machine = st.sampled_from(MACHINES)
place = st.integers(0, 7)
submission = st.tuples(
    st.just("submit"), st.sampled_from(["", "c", "c", "d"]), st.sampled_from([True, True, True, False])
)
passes = st.tuples(st.just("put"), machine, st.just(Outcome.PASSED))
judged = st.tuples(st.just("decide"), place, st.none())
other = st.one_of(
    submission,
    st.tuples(st.just("ready"), place, st.none()),
    st.tuples(st.just("lacks"), place, st.none()),
    st.tuples(st.just("cancel"), place, st.none()),
    st.tuples(st.just("decide"), place, st.sampled_from(Outcome)),
    st.tuples(st.just("head"), machine, st.none()),
    st.tuples(st.just("boot"), machine, st.none()),
    st.tuples(st.just("put"), machine, st.sampled_from(Outcome)),
    st.tuples(st.just("fault"), machine, st.booleans()),
    st.tuples(st.just("after"), st.sampled_from([30.0, 90.0, 400.0, 2000.0]), st.none()),
)
#: Mostly what brings chains forward: `one_of` would take each as often.
event = st.sampled_from([passes] * 5 + [judged] * 2 + [other]).flatmap(lambda kind: kind)
asked = st.lists(submission, min_size=3, max_size=8)
events = st.builds(list.__add__, asked, st.lists(event, min_size=10, max_size=60))
policies = st.builds(policy, retries=st.integers(0, 2), retry_failures=st.integers(0, 1), judged=st.booleans())


class History:
    """A queue to which things happen."""

    def __init__(self, policy: Policy) -> None:
        self.bench = QueueBench(policy=policy)
        self.wanted: dict[str, Workload] = {}

    def happens(self, what: str, where: object, how: object) -> None:
        bench = self.bench
        match what, where:
            case "submit", str(chain):
                name = f"w{len(self.wanted)}"
                self.wanted[name] = replace(workload(name), chain=chain)
                bench.submit(self.wanted[name], ready=bool(how))
            case "after", float(seconds):
                bench.after(seconds)
            case (("head" | "boot" | "put" | "fault"), str(at)):
                self._does(what, at, how)
            case _, int(number) if number < len(self.wanted):
                self._befalls(what, f"w{number}", how)

    def _does(self, what: str, at: str, how: object) -> None:
        bench = self.bench
        bench.head(at)
        held = bench.queue.machines[at].holds
        if what == "boot" and held and bench.get(at) not in ("wait", "poweroff"):
            bench.sent(at)
            bench.post(at)
        elif what == "put" and isinstance(how, Outcome):
            if held and bench.get(at) not in ("wait", "poweroff"):
                bench.sent(at)
                bench.post(at)
            bench.put(at, result=how)
        elif what == "fault":
            bench.fault(at, lab=bool(how))

    def _befalls(self, what: str, name: str, how: object) -> None:
        bench, run_id = self.bench, self.bench.ids[name]
        if what == "ready":
            bench.queue.ready(run_id)
        elif what == "lacks":
            bench.queue.unfetchable(run_id, "gone", bench.now)
        elif what == "cancel":
            bench.queue.cancel(run_id, bench.now)
        else:
            bench.queue.decide(run_id, how if isinstance(how, Outcome) else None, "", bench.now)

    def restart(self) -> None:
        """Another lab takes the session up, and all is asked for again."""
        self.bench = self.bench.restarted()
        self.bench.queue.hold_back("s")
        for name in self.wanted:
            self.bench.submit(self.wanted[name])

    # What holds at any time

    def check(self) -> None:
        self.check_machines()
        for chain in CHAINS[1:]:
            self._check_chain([run for run in self.bench.queue.runs.values() if run.workload.chain == chain])

    def check_machines(self) -> None:
        queue = self.bench.queue
        for run in queue.runs.values():
            attempt = run.attempt
            if attempt.placements and not attempt.ended:
                assert queue.machines[attempt.machine].holds == run.id, "a machine was taken from what it holds"
            if run.outcome is not None:
                assert run.id not in queue.core.transitions.run_index.under_way

    def _check_chain(self, runs: list[Run]) -> None:
        for before, after in pairwise(runs):
            if after.attempts[0].placements:
                assert before.outcome in (Outcome.PASSED, Outcome.SKIPPED), "one began before its turn"
        went_on = [run for run in runs if run.outcome is Outcome.PASSED]
        if went_on:
            where = went_on[0].attempt.machine
            later = runs[runs.index(went_on[0]) + 1 :]
            assert {a.machine for run in later for a in run.attempts if a.machine} <= {where}, "it left its machine"
        under_way = [run for run in runs if run.attempt.phase in (Phase.STARTING, Phase.RUNNING, Phase.SETTLING)]
        assert len(under_way) <= 1

    def end(self) -> None:
        """All deadlines pass, and everything has ended, and is free."""
        for _ in range(12 * max(1, len(self.wanted))):
            self.bench.jump(4000.0)
            self.bench.queue.expire(self.bench.now)
        queue = self.bench.queue
        assert [run.workload.name for run in queue.runs.values() if run.outcome is None] == []
        assert [machine.id for machine in queue.machines.values() if machine.holds] == []
        assert queue.core.transitions.run_index.under_way == set()
        assert queue.core.transitions.run_index.waiting == []
        assert len(queue.core.transitions.ready) == 0


@given(policies, events)
@settings(max_examples=examples(200, 10_000))
def test_a_chain_keeps_to_its_order_and_its_machine(policy: Policy, events: list[tuple[str, object, object]]) -> None:
    history = History(policy)
    for each in events:
        history.happens(*each)
        history.check()
    history.end()


@given(policies, events, st.lists(event, max_size=30))
@settings(max_examples=examples(100, 10_000))
def test_also_across_a_restart(
    policy: Policy, before: list[tuple[str, object, object]], after: list[tuple[str, object, object]]
) -> None:
    history = History(policy)
    for each in before:
        history.happens(*each)
    history.restart()
    for each in after:
        history.happens(*each)
        history.check_machines()
    history.end()
