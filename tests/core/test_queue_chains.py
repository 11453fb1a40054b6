"""Chains in the queue: one machine for all runs of one, in their order, until one does not pass."""

from __future__ import annotations

from dataclasses import replace

from queue_bakery import ANY, RYE, Bakery
from queue_bench import QueueBench, policy, workload

from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Identity, MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Report
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.protocol import BootProtocol

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


class TestChains:
    def three(self, bakery: Bakery) -> list[str]:
        return [bakery.submit(name, chain="loaf") for name in ("knead", "bake", "slice")]

    def test_one_after_the_other_under_one_reservation(self) -> None:
        bakery = Bakery()
        knead, bake, cut = self.three(bakery)
        assert (bakery.send(), bakery.send()) == ("knead", "")
        bakery.bake(knead, "oven-1")
        assert bakery.run(bake).attempt.state == "sent"  # on the same machine, at once
        assert bakery.queue.machines["oven-1"].holds == bake
        bakery.bake(bake)
        assert bakery.run(cut).attempt.machine == "oven-1"
        bakery.bake(cut)
        assert [bakery.run(each).outcome for each in (knead, bake, cut)] == [PASSED] * 3
        assert bakery.oven("oven-1") is MachineState.IDLE

    def test_a_failure_skips_the_rest_with_the_first_cause(self) -> None:
        bakery = Bakery()
        knead, bake, cut = self.three(bakery)
        bakery.send()
        bakery.bake(knead, "oven-1", FAILED)
        assert [bakery.run(each).outcome for each in (knead, bake, cut)] == [FAILED, SKIPPED, SKIPPED]
        assert bakery.run(cut).reason == "skipped: knead failed: it reported failed: crust"
        assert bakery.oven("oven-1") is MachineState.IDLE

    def test_a_fault_is_tried_again_where_the_chain_runs(self) -> None:
        bakery = Bakery()
        knead, bake, _ = self.three(bakery)
        bakery.send()
        bakery.bake(knead, "oven-1")
        bakery.move(bake, CoreEvent.FAULT, Cause(detail="a power cut"))
        assert [attempt.machine for attempt in bakery.run(bake).attempts] == ["oven-1", "oven-1"]
        bakery.move(bake, CoreEvent.FAULT, Cause(detail="a power cut"))
        assert bakery.oven("oven-1") is MachineState.IDLE

    def test_a_fault_of_the_first_is_tried_again_on_any_machine(self) -> None:
        bakery = Bakery()
        knead, bake, _ = self.three(bakery)
        bakery.send()
        bakery.move(knead, "heat")
        bakery.seen(knead, "oven-1")
        bakery.move(knead, CoreEvent.FAULT, Cause(detail="a power cut"))
        assert bakery.oven("oven-1") is MachineState.IDLE
        assert bakery.send() == "knead"
        bakery.move(knead, "heat")
        bakery.seen(knead, "oven-2")
        bakery.queue.transitions.report(knead, 2, Report(title="crust", result=PASSED), bakery.now)
        bakery.move(knead, CoreEvent.COMPLETE)
        assert bakery.queue.machines["oven-2"].holds == bake

    def test_a_fault_of_the_last_is_tried_again_there_though_a_verdict_takes_its_time(self) -> None:
        bakery = Bakery(Policy(judged=True, retry_failures=1))
        runs = self.three(bakery)
        bakery.send()
        for run, oven in zip(runs, ("oven-1", "", ""), strict=True):
            bakery.bake(run, oven, FAILED if run == runs[2] else PASSED)
            assert bakery.queue.machines["oven-1"].holds == run
            bakery.queue.verdicts.amend(run, None, "", bakery.now)
        assert [attempt.machine for attempt in bakery.run(runs[2]).attempts] == ["oven-1", "oven-1"]

    def test_who_comes_later_is_skipped_too(self) -> None:
        bakery = Bakery()
        knead, bake, _ = self.three(bakery)
        bakery.send()
        bakery.bake(knead, "oven-1")
        bakery.bake(bake, result=FAILED)
        late = bakery.run(bakery.submit("eat", chain="loaf"))
        assert (late.outcome, late.reason) == (SKIPPED, "skipped: bake failed: it reported failed: crust")

    def test_who_comes_later_goes_on_there_once_the_machine_is_free(self) -> None:
        bakery = Bakery()
        runs = self.three(bakery)
        bakery.send()
        for run, oven in zip(runs, ("oven-1", "", ""), strict=True):
            bakery.bake(run, oven)
        other = bakery.submit("rye")
        bakery.send()
        bakery.seen(other, "oven-1")
        late = bakery.submit("eat", chain="loaf")
        assert bakery.send() == ""
        assert bakery.queue.machines["oven-1"].holds == other
        assert bakery.queue.transitions.run_index.waiting == []  # no other machine is to be switched on for it
        bakery.bake(other)
        assert bakery.queue.machines["oven-1"].holds == late
        assert bakery.run(late).attempt.state == "sent"

    def test_one_that_cannot_run_keeps_those_before_it_from_nothing(self) -> None:
        bakery = Bakery()
        knead, bake, cut = self.three(bakery)
        eat = bakery.submit("eat", chain="loaf")
        bakery.send()
        bakery.queue.transitions.lacks(cut, "no knife", bakery.now)
        assert [bakery.run(each).outcome for each in (knead, bake, cut, eat)] == [None, None, ERROR, SKIPPED]
        bakery.bake(knead, "oven-1")
        bakery.bake(bake)
        assert [bakery.run(each).outcome for each in (knead, bake)] == [PASSED, PASSED]
        assert bakery.run(eat).reason == "skipped: slice error: no knife"
        assert bakery.oven("oven-1") is MachineState.IDLE

    def test_cancelling_one_cancels_the_rest_which_may_be_asked_for_again(self) -> None:
        before = Bakery()
        runs = self.three(before)
        before.send()
        before.bake(runs[0], "oven-1")
        before.queue.verdicts.cancel(runs[1], before.now)
        told = [(before.run(each).outcome, before.run(each).cancelled) for each in runs]
        assert told == [(PASSED, False), (ERROR, True), (SKIPPED, True)]
        assert before.run(runs[2]).reason == "cancelled in the kitchen; bake cancelled: cancelled at the bakery"
        assert before.oven("oven-1") is MachineState.IDLE
        after = Bakery()
        after.queue.sessions.restore("s", Policy(), [before.run(each) for each in runs], after.now)
        after.queue.sessions.hold_back("s", after.now)
        again = self.three(after)
        assert again[0] == runs[0]
        assert after.queue.machines["oven-1"].holds == again[1]
        after.bake(again[1])
        after.bake(again[2])
        assert [after.run(each).outcome for each in again] == [PASSED] * 3

    def test_what_is_not_asked_for_again_keeps_no_machine(self) -> None:
        before = Bakery()
        runs = self.three(before)
        before.send()
        before.bake(runs[0], "oven-1")
        after = Bakery(Policy(retries=1))
        after.queue.sessions.restore("s", Policy(), [before.run(each) for each in runs], after.now)
        after.queue.sessions.hold_back("s", after.now)
        after.move(runs[1], CoreEvent.FAULT, Cause(detail="a power cut"))  # it was under way, and is to be tried again
        assert after.oven("oven-1") is MachineState.IDLE
        after.submit("slice", chain="loaf")
        assert after.queue.machines["oven-1"].holds == runs[2]

    def test_patience_begins_with_ones_turn(self) -> None:
        bakery = Bakery()
        knead, bake, _ = self.three(bakery)
        bakery.send()
        bakery.after(590)
        bakery.move(knead, "heat")
        bakery.after(290)
        bakery.bake(knead, "oven-1")
        assert bakery.run(bake).attempt.state == "sent"
        bakery.after(610)
        reason = "no oven within 10m at the bakery; no machine but oven-1 will do: knead ran there"
        assert bakery.run(bake).attempts[0].reason == reason

    def test_its_machine_is_to_have_all_that_any_of_them_requires(self) -> None:
        bakery = Bakery()
        bakery.submit("knead", chain="loaf")
        assert len(bakery.queue.transitions.ready) == 1
        bakery.submit("bake", chain="loaf", requires=read_requirements(["flour=rye"], "here"))
        bakery.submit("slice", chain="loaf", requires=read_requirements(["knife", "flour=rye"], "here"))
        assert [bakery.send(each) for each in (ANY, RYE)] == ["", ""]
        both = {"flour": "rye", "knife": ""}
        assert bakery.send(Capacity(kind="bake", labels=both)) == "knead"

    def test_what_its_machine_lacks_is_said_of_all_of_them(self) -> None:
        queue = Bakery().queue
        needs = {"a": [], "b": ["flour=rye"], "c": ["knife", "flour=rye"]}
        stages = [replace(workload(n), chain="c", requires=read_requirements(r, "here")) for n, r in needs.items()]
        first, *_ = queue.sessions.submit_all("s", [(each.name, each) for each in stages], 1000.0)
        queue.machines.declare("oven-1", Identity(KnownBy.AGENT, "oven-1"))
        assert queue.scheduler.lacking(first).startswith("its chain requires flour=rye, knife; ")

    def test_nobody_else_gets_the_machine_while_a_verdict_is_awaited(self) -> None:
        bakery = Bakery(Policy(judged=True))
        knead, bake, _ = self.three(bakery)
        bakery.send()
        bakery.bake(knead, "oven-1")
        assert bakery.queue.machines["oven-1"].holds == knead
        bakery.queue.verdicts.amend(knead, None, "", bakery.now)
        assert bakery.queue.machines["oven-1"].holds == bake

    def test_it_goes_on_after_a_restart(self) -> None:
        before = Bakery()
        runs = self.three(before)
        before.send()
        before.bake(runs[0], "oven-1")
        after = Bakery()
        after.queue.sessions.restore("s", Policy(), [before.run(each) for each in runs], after.now)
        assert after.queue.machines["oven-1"].holds == runs[1]
        after.bake(runs[1])
        after.bake(runs[2])
        assert [after.run(each).outcome for each in runs] == [PASSED] * 3

    def test_firmware_that_asks_too_early_waits_for_its_next_stage(self) -> None:
        queue = Bakery().queue
        protocol = BootProtocol(queue)
        stages = (replace(workload(name), chain="c") for name in "ab")
        first, second = (queue.sessions.submit("s", each.name, each, 1000.0) for each in stages)
        other = queue.sessions.submit("s", "c", workload("c"), 1000.0)
        for run in (first, other):
            queue.transitions.has_what_it_needs(run.id, 1000.0)
        protocol.send("10.0.0.1", 1000.0)
        protocol.sent("10.0.0.1", first.id, 1000.0)
        protocol.boot("10.0.0.1", 1001.0)
        protocol.report("10.0.0.1", Report(title="done", result=PASSED), 1002.0)
        answer = protocol.ask("10.0.0.1", 1003.0)
        assert (queue.runs[first.id].outcome, answer.run, answer.soon) == (PASSED, None, True)
        queue.transitions.has_what_it_needs(second.id, 1004.0)
        answer = protocol.ask("10.0.0.1", 1005.0)
        assert answer.run is not None
        assert answer.run.id == second.id

    def test_machines_that_boot(self) -> None:
        bench = QueueBench(policy=policy(retries=1))
        for name in "abc":
            bench.submit(replace(workload(name), chain="c"), ready=name != "b")
        bench.submit(workload("other"))
        assert (bench.boot("10.0.0.1"), bench.boot("10.0.0.2")) == ("a", "other")
        bench.put("10.0.0.1", result=PASSED)
        bench.after(90)  # it is silent since, so its run is over; the bytes for the next one are still to come
        assert (bench.run("a").outcome, bench.held("10.0.0.1"), bench.state("b")) == (PASSED, "s.0", "unassigned")
        assert bench.head("10.0.0.1") == "wait"
        bench.queue.ready("s.1")
        assert (bench.held("10.0.0.1"), bench.state("b")) == ("s.1", "assigned")
        bench.put("10.0.0.2", result=PASSED)
        bench.after(600)
        assert bench.head("10.0.0.2") == "poweroff"  # it gets nothing of the chain, though that one's machine is silent
        bench.after(3600)
        reason = "10.0.0.1 was given it and did not begin to download it within 30m; no machine but 10.0.0.1 will do: a"
        assert (bench.ends("b"), bench.machines("b")) == ([ERROR, ERROR], ["10.0.0.1", "10.0.0.1"])
        assert bench.run("b").reason == f"{reason} ran there"
        assert bench.run("c").reason == f"skipped: b error: {reason} ran there"
        assert bench.held("10.0.0.1") == ""

    def test_bytes_that_never_come_let_the_machine_go(self) -> None:
        bench = QueueBench()
        for name in "ab":
            bench.submit(replace(workload(name), chain="c"), ready=name != "b")
        bench.boot("10.0.0.1")
        bench.put("10.0.0.1", result=PASSED)
        assert bench.head("10.0.0.1") == "wait"
        bench.queue.unfetchable(bench.ids["b"], "gone", bench.now)
        assert (bench.run("b").outcome, bench.held("10.0.0.1")) == (ERROR, "")
        assert bench.head("10.0.0.1") == "poweroff"

    def test_bytes_that_are_too_slow_let_the_machine_go(self) -> None:
        bench = QueueBench()
        for name in "ab":
            bench.submit(replace(workload(name), chain="c"), ready=name != "b")
        bench.boot("10.0.0.1")
        bench.put("10.0.0.1", result=PASSED)
        bench.after(90)
        bench.after(1900)
        assert (bench.run("b").outcome, bench.held("10.0.0.1")) == (ERROR, "")
