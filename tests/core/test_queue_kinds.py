"""What the queue promises of any kind, held to a made-up one: placements, chains, leases, requirements, priority."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from bakery.lifecycle import BAKE, RULES, loaf
from queue_bench import KINDS, QueueBench, policy, workload

from pytest_dispatch.core.errors import ConfigError, StaleLeaseError
from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.leases import CONNECTIONS_GONE, PRIVATE, UNHEARD, Lease, LeaseKind
from pytest_dispatch.core.lifecycle import JUDGED, CoreEvent, Lifecycle, Wait
from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Policy, Priority, Report, Run
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.protocol import BootProtocol

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
#: Of a later version, which sends nothing.
SHORT = Lifecycle(
    kind="bake",
    initial="kneaded",
    states={
        "kneaded": replace(BAKE.states["kneaded"], on={**BAKE.states["kneaded"].on, CoreEvent.ASSIGN: "kneaded"}),
        "spoilt": BAKE.states["spoilt"],
    },
    limits=BAKE.limits,
)
ANY = Capacity(kind="bake", labels={})
RYE = Capacity(kind="bake", labels={"flour": "rye"})


class Bakery:
    """A queue with a session `s`, and somebody who sends loaves off."""

    def __init__(self, policy: Policy | None = None, lease: Lease | None = None) -> None:
        self.queue = Queue({**KINDS, "bake": RULES})
        self.now = 1000.0
        self.queue.table.open("s", policy or Policy(), lease or PRIVATE)

    def submit(self, name: str, *, session: str = "s", **said: object) -> str:
        return self.queue.sessions.submit(session, name, loaf(name, **said), self.now).id

    def send(self, capacity: Capacity = ANY) -> str:
        run = self.queue.scheduler.take(capacity, self.now)
        return run.workload.name if run else ""

    def move(self, run_id: str, event: str, cause: Cause | None = None) -> bool:
        return self.queue.transitions.move(run_id, event, self.now, cause or Cause())

    def seen(self, run_id: str, oven: str) -> None:
        self.queue.transitions.bind(run_id, oven, KnownBy.AGENT, self.now)

    def bake(self, run_id: str, oven: str = "", result: Outcome = PASSED) -> None:
        """Heat it, let it say how it went, and be done with it."""
        self.move(run_id, "heat")
        if oven:
            self.seen(run_id, oven)
        self.queue.transitions.report(run_id, 1, Report(title="crust", result=result), self.now)
        self.move(run_id, CoreEvent.COMPLETE)

    def after(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 30, end)
            self.queue.expire(self.now)

    def run(self, run_id: str) -> Run:
        return self.queue.runs[run_id]

    def oven(self, name: str) -> MachineState:
        return self.queue.machine(name, self.now).state


class TestPlacements:
    def test_an_attempt_learns_its_machine_only_after_it_has_started(self) -> None:
        bakery = Bakery()
        run = bakery.submit("rye")
        assert bakery.send() == "rye"
        assert bakery.run(run).attempt.machine == ""
        bakery.move(run, "heat")
        bakery.seen(run, "oven-1")
        assert bakery.run(run).attempt.machine == "oven-1"
        assert bakery.queue.machines["oven-1"].holds == run
        assert bakery.oven("oven-1") is MachineState.RUNNING

    def test_an_attempt_may_use_two_machines_and_lets_go_of_both(self) -> None:
        bakery = Bakery()
        run = bakery.submit("rye")
        bakery.send()
        bakery.seen(run, "oven-1")
        bakery.bake(run, "oven-2")
        bakery.seen(run, "oven-2")  # told twice
        assert [each.machine for each in bakery.run(run).attempt.placements] == ["oven-1", "oven-2"]
        assert [bakery.oven(name) for name in ("oven-1", "oven-2")] == [MachineState.IDLE, MachineState.IDLE]

    def test_it_may_go_back_to_waiting_and_keeps_its_machine(self) -> None:
        bakery = Bakery()
        run = bakery.submit("rye")
        bakery.send()
        bakery.move(run, "heat")
        bakery.seen(run, "oven-1")
        bakery.move(run, "set aside")
        assert bakery.run(run).attempt.phase is Phase.QUEUED
        assert bakery.oven("oven-1") is MachineState.RESERVED
        assert bakery.send() == ""  # it waits there, not here
        bakery.move(run, "heat")
        assert [moment.phase for moment in bakery.run(run).attempt.history][-2:] == [Phase.QUEUED, Phase.RUNNING]

    def test_an_attempt_that_never_had_a_machine_is_tried_again_after_a_fault(self) -> None:
        bakery = Bakery()
        run = bakery.submit("rye")
        bakery.send()
        bakery.move(run, CoreEvent.FAULT, Cause(detail="the bakery answered 500"))
        assert [attempt.outcome for attempt in bakery.run(run).attempts] == [ERROR, None]
        assert bakery.run(run).attempts[0].reason == "the bakery answered 500"

    def test_its_own_limit_ends_it(self) -> None:
        bakery = Bakery(Policy(retries=0))
        run = bakery.submit("rye", limits={"baking": 60.0})
        bakery.send()
        bakery.move(run, "heat")
        bakery.seen(run, "oven-1")
        bakery.after(61)
        assert (bakery.run(run).outcome, bakery.run(run).reason) == (FAILED, "still dough after 1m in oven-1")


class TestOutside:
    def test_the_first_name_stays_and_is_a_change(self) -> None:
        bakery = Bakery()
        run = bakery.submit("rye")
        bakery.send()
        before = bakery.run(run).version
        for name in ("loaf-1", "loaf-2"):
            bakery.queue.transitions.sent_as(run, 1, name, bakery.now)
        assert bakery.run(run).attempt.outside == "loaf-1"
        assert bakery.run(run).version == before + 1
        assert [change.event for change in bakery.queue.transitions.take_changes()][-1] == CoreEvent.OUTSIDE

    def test_a_restart_takes_nothing_away(self) -> None:
        """No report is missed where others are asked: what fails after a restart is as it would have been."""
        before = Bakery(Policy(retries=0))
        run = before.submit("rye")
        before.send()
        before.move(run, "heat")
        before.seen(run, "oven-1")
        after = Bakery()
        after.queue.sessions.restore("s", Policy(retries=0), [before.run(run)], after.now)
        assert [each.id for each in after.queue.sessions.under_way("s")] == [run]
        assert not after.queue.machines.may_ask("oven-1", after.now)
        after.after(301)
        assert (after.run(run).outcome, after.run(run).reason) == (FAILED, "still dough after 5m in oven-1")

    @pytest.mark.parametrize(
        ("changed", "at"), [({"hot": BAKE}, "sent, expecting 'baked'"), ({"baked": SHORT}, "sent, expecting 'baked'")]
    )
    def test_a_kind_that_was_changed_since_is_told(self, changed: dict[str, Lifecycle], at: str) -> None:
        before = Bakery()
        run = before.submit("rye")
        before.send()
        queue = Queue({"bake": replace(RULES, lifecycles=changed)})
        with pytest.raises(
            ConfigError, match=f"kind bake: expected a version .* the state of the run, got rye: {at}; resume"
        ):
            queue.sessions.restore("s", Policy(), [before.run(run)], before.now)

    def test_bytes_that_are_still_fetched_are_told_of_whatever_else_waits(self) -> None:
        bakery = Bakery(Policy(retries=0))
        bakery.submit("rye", limits={"patience": 1e6})
        run = bakery.queue.sessions.submit("s", "a", workload("a"), bakery.now)
        bakery.after(1860)
        assert bakery.run(run.id).reason == "its bytes were still being fetched after 30m"


class TestChoosing:
    def test_only_what_suits(self) -> None:
        bakery = Bakery()
        bakery.submit("spelt", requires=read_requirements(["flour=spelt"], "here"))
        bakery.submit("rye", requires=read_requirements(["flour=rye"], "here"))
        assert (bakery.send(ANY), bakery.send(RYE), bakery.send(RYE)) == ("", "rye", "")

    def test_by_priority_then_in_turn_then_in_order(self) -> None:
        bakery = Bakery()
        bakery.queue.table.open("t", Policy())
        for name in ("a1", "a2"):
            bakery.submit(name)
        bakery.submit("a3", priority=Priority.HIGH)
        for name in ("b1", "b2"):
            bakery.submit(name, session="t")
        assert [bakery.send() for _ in range(6)] == ["a3", "b1", "a1", "b2", "a2", ""]

    def test_nothing_for_a_machine_that_is_held(self) -> None:
        bakery = Bakery()
        bakery.queue.machines.declare("oven-1", Identity(KnownBy.AGENT, "oven-1"))
        bakery.submit("rye")
        bakery.queue.machines.withhold("oven-1", Hold(reason="the door does not close", owner="ada"))
        oven = Capacity(kind="bake", machine="oven-1", known_by=KnownBy.AGENT, labels={})
        assert bakery.send(oven) == ""
        assert bakery.oven("oven-1") is MachineState.HELD
        bakery.queue.machines.readmit("oven-1", bakery.now)
        assert bakery.send(oven) == "rye"

    def test_a_hold_ends_by_itself(self) -> None:
        bakery = Bakery()
        bakery.queue.machines.declare("oven-1", Identity(KnownBy.AGENT, "oven-1"))
        bakery.submit("rye")
        bakery.queue.machines.withhold("oven-1", Hold(reason="it cools down", until=bakery.now + 60))
        oven = Capacity(kind="bake", machine="oven-1", known_by=KnownBy.AGENT, labels={})
        assert (bakery.send(oven), bakery.oven("oven-1")) == ("", MachineState.HELD)
        bakery.after(60)
        assert bakery.oven("oven-1") is not MachineState.HELD
        assert bakery.send(oven) == "rye"

    def test_only_what_is_of_the_kind(self) -> None:
        bakery = Bakery()
        bakery.submit("rye")
        assert bakery.send(Capacity(kind="boot", machine="10.0.0.1", labels={})) == ""
        assert bakery.send() == "rye"

    def test_what_others_have_is_not_what_the_lab_has(self) -> None:
        """Requirements of loaves are not held against machines that boot."""
        bakery = Bakery()
        bakery.queue.machines.declare("bench-1", Identity(KnownBy.TOKEN, "bench-1"), driven=True)
        run = bakery.submit("rye", requires=read_requirements(["flour=rye"], "here"))
        assert bakery.queue.scheduler.lacking(bakery.run(run)) == ""
        assert bakery.queue.transitions.run_index.waiting == set()
        assert bakery.queue.table.patience == math.inf

    def test_a_busy_oven_and_a_held_machine_are_no_others_for_one_that_boots(self) -> None:
        """A workload is tried again on the machine that it was on, if no other may take it."""
        bakery = Bakery()
        queue, protocol = bakery.queue, BootProtocol(bakery.queue)
        loaf_id = bakery.submit("rye")
        run = queue.sessions.submit("s", "a", workload("a"), bakery.now)
        queue.transitions.has_what_it_needs(run.id, bakery.now)
        protocol.ask("10.0.0.1", bakery.now)
        protocol.ask("10.0.0.2", bakery.now)
        bakery.send()
        bakery.move(loaf_id, "heat")
        bakery.seen(loaf_id, "oven-1")
        queue.machines.withhold("10.0.0.2", Hold(reason="its fan is loud"))
        queue.scheduler.fault("10.0.0.1", "it hung", bakery.now)
        answer = protocol.ask("10.0.0.1", bakery.now)
        assert answer.run is not None
        assert answer.run.attempt.number == 2

    def test_what_others_bake_keeps_nobody_waiting_for_a_machine_that_never_comes(self) -> None:
        bakery = Bakery()
        queue = bakery.queue
        loaf_id = bakery.submit("rye", limits={"baking": 7200.0})
        bakery.send()
        bakery.move(loaf_id, "heat")
        run = queue.sessions.submit("s", "a", workload("a"), bakery.now)
        queue.transitions.has_what_it_needs(run.id, bakery.now)
        bakery.after(1860)
        assert bakery.run(run.id).outcome is ERROR
        assert bakery.run(loaf_id).outcome is None

    def test_machines_that_boot_do_not_stay_on_for_loaves(self) -> None:
        bakery = Bakery()
        bakery.submit("rye")
        bakery.send()
        assert not bakery.queue.transitions.run_index.keeps_machines

    @pytest.mark.parametrize(
        ("said", "complaint"),
        [
            ({"expect": "burnt"}, "rye: expected expect= one of baked, hot, got 'burnt'"),
            (
                {"limits": {"bakin": 1.0}},
                "rye: limits of the kind bake: expected patience, delivery, baking, rest, got 'bakin'",
            ),
        ],
        ids=["expect", "limits"],
    )
    def test_what_the_kind_does_not_know(self, said: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Bakery().submit("rye", **said)
        assert str(caught.value) == complaint

    def test_a_kind_that_knows_one_way_and_no_limits(self) -> None:
        waits = {name: replace(rule, wait=rule.wait and Wait(seconds=60.0)) for name, rule in BAKE.states.items()}
        plain = {name: replace(rule, endings=dict.fromkeys(rule.endings, JUDGED)) for name, rule in waits.items()}
        rules = KindRules(name="bake", lifecycles={"": replace(BAKE, states=plain, limits={})})
        for said, complaint in (
            ({"expect": "hot"}, "rye: expected no expect=, which the kind bake does not know, got 'hot'"),
            ({"limits": {"rest": 1.0}}, "rye: limits of the kind bake: expected none, got 'rest'"),
        ):
            with pytest.raises(ConfigError) as caught:
                rules.check(loaf("rye", **said))
            assert str(caught.value) == complaint
        rules.check(loaf("rye"))

    def test_a_kind_that_nobody_knows(self) -> None:
        bakery = Bakery()
        with pytest.raises(ConfigError, match="kind: expected one of bake, boot, got 'brew'"):
            bakery.queue.sessions.submit("s", "k", loaf("beer", kind="brew"), 0.0)


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
        assert bakery.queue.transitions.run_index.waiting == set()  # no other machine is to be switched on for it
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


class TestLeases:
    def test_an_attached_session_ends_a_minute_after_its_connections_are_gone(self) -> None:
        bakery = Bakery(lease=Lease(heard=1000.0))
        waits, runs = bakery.submit("waits"), bakery.submit("runs", priority=Priority.HIGH)
        bakery.send()
        bakery.move(runs, "heat")
        bakery.queue.table.connected("s", 1, +1, bakery.now)
        bakery.after(CONNECTIONS_GONE + 30)
        assert bakery.run(waits).outcome is None  # it is there, and merely silent
        bakery.queue.table.connected("s", 1, -1, bakery.now)
        bakery.after(CONNECTIONS_GONE)
        assert (bakery.run(waits).outcome, bakery.run(waits).cancelled) == (ERROR, True)
        assert bakery.run(runs).outcome is None  # what runs goes on to its outcome
        bakery.queue.transitions.report(runs, 1, Report(title="crust", result=PASSED), bakery.now)
        bakery.move(runs, CoreEvent.COMPLETE)
        assert bakery.run(runs).outcome is PASSED

    def test_one_that_is_connected_and_silent_ends_after_a_quarter_of_an_hour(self) -> None:
        bakery = Bakery(lease=Lease(heard=1000.0, connections=1))
        waits = bakery.submit("waits", limits={"patience": 1e6})
        bakery.after(UNHEARD - 1)
        bakery.queue.table.heard("s", 1, bakery.now)
        bakery.after(UNHEARD - 1)
        assert bakery.run(waits).outcome is None
        bakery.after(1)
        assert bakery.run(waits).cancelled

    @pytest.mark.parametrize(
        ("lease", "ends"),
        [(Lease(kind=LeaseKind.DURABLE, heard=1000.0, lasts=7200.0), True), (Lease(kind=LeaseKind.DETACHED), False)],
    )
    def test_others_last_as_long_as_they_say(self, lease: Lease, ends: bool) -> None:
        bakery = Bakery(lease=lease)
        waits = bakery.submit("waits", limits={"patience": 1e6})
        bakery.after(7199)
        assert bakery.run(waits).outcome is None
        bakery.after(1)
        assert bakery.run(waits).cancelled is ends

    def test_an_older_epoch_is_refused(self) -> None:
        bakery = Bakery(lease=Lease(heard=1000.0, owner="ada"))
        assert bakery.queue.table.take_over("s", Lease(owner="bob"), bakery.now) == 2
        expected = "this session was taken over by bob: expected epoch 2, got 1; open a session of your own, or"
        with pytest.raises(StaleLeaseError, match=expected):
            bakery.queue.table.heard("s", 1, bakery.now)
        bakery.queue.table.heard("s", 2, bakery.now)

    def test_a_proposal_stands_unreviewed_where_nobody_is_there(self) -> None:
        bakery = Bakery(Policy(judged=True), Lease(heard=1000.0))
        early, late = bakery.submit("early"), bakery.submit("late")
        bakery.send()
        bakery.send()
        bakery.bake(early)
        assert bakery.run(early).attempt.proposed is PASSED
        bakery.move(late, "heat")
        bakery.after(CONNECTIONS_GONE)
        bakery.queue.transitions.report(late, 1, Report(title="crust", result=PASSED), bakery.now)
        bakery.move(late, CoreEvent.COMPLETE)
        for run in (early, late):
            assert (bakery.run(run).outcome, bakery.run(run).unreviewed) == (PASSED, True)

    def test_a_session_cancels_only_its_own(self) -> None:
        bakery = Bakery()
        bakery.queue.table.open("t", Policy())
        mine, theirs = bakery.submit("mine"), bakery.submit("theirs", session="t")
        bakery.queue.sessions.close("s", bakery.now)
        assert (bakery.run(mine).cancelled, bakery.run(theirs).outcome) == (True, None)
        assert [run.id for run in bakery.queue.sessions.runs_of("t")] == [theirs]
