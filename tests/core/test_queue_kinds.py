"""What the queue promises of any kind, held to a made-up one: placements, chains, leases, requirements, priority."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from bakery.lifecycle import BAKE, RULES, loaf
from queue_bakery import ANY, RYE, Bakery
from queue_bench import workload

from pytest_dispatch.core.errors import ConfigError, StaleLeaseError
from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.leases import CONNECTIONS_GONE, UNHEARD, Lease, LeaseKind
from pytest_dispatch.core.lifecycle import JUDGED, CoreEvent, Lifecycle, Wait
from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Policy, Priority, Report
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
        assert bakery.queue.transitions.run_index.waiting == []
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
