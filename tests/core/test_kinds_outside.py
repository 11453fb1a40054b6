"""What the queue does for kinds that another system carries out: cancels that it confirms, machines that it assigns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from bakery.lifecycle import BAKE, RULES, loaf
from queue_bakery import Bakery

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.explanation import Obstacle, ObstacleKind
from pytest_dispatch.core.lifecycle import CoreEvent, Ending, StateRule, Wait
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.machine_table import stands_as
from pytest_dispatch.core.model import KnownBy, Outcome, Phase, Workload
from pytest_dispatch.core.outlook import nobody_knows
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.requirements import Operator, Requirement, Requirements
from pytest_dispatch.core.runs import Cause
from pytest_dispatch.core.scheduler import Capacity

_ERROR = Outcome.ERROR
WITHDRAWN = StateRule(
    phase=Phase.SETTLING,
    withdrawn=True,
    on={
        "gone": "spoilt",
        CoreEvent.CANCEL: "withdrawing",
        CoreEvent.TIMEOUT: "spoilt",
        CoreEvent.FAULT: "spoilt",
    },
    wait=Wait(limits=("rest",)),
    endings={
        "gone": Ending(Outcome.SKIPPED, "taken back"),
        CoreEvent.TIMEOUT: Ending(_ERROR, "the bakery did not take it back within {rest}"),
        CoreEvent.FAULT: Ending(_ERROR, "{detail}"),
    },
)
BAKING = BAKE.states["baking"]
#: Loaves that the bakery has to take out of the oven.
HEEDED = replace(
    BAKE,
    states={
        **BAKE.states,
        "baking": replace(
            BAKING,
            on={**BAKING.on, CoreEvent.CANCEL: "withdrawing"},
            endings={event: each for event, each in BAKING.endings.items() if event != CoreEvent.CANCEL},
        ),
        "withdrawing": WITHDRAWN,
    },
)


def _flour(workload: Workload) -> Requirements:
    return (Requirement(f"flour:{workload.payload['flour']}", Operator.PRESENT),)


def bakery_of(**changes: object) -> Bakery:
    bakery = Bakery()
    rules = replace(RULES, lifecycles={"baked": HEEDED}, **changes)  # type: ignore[arg-type]  # names of attributes
    bakery.queue = Queue({"bake": rules})
    bakery.queue.table.open("s", _POLICY)
    return bakery


_POLICY = Bakery().queue.table.policy("s")


def cancelled(bakery: Bakery) -> str:
    """A run that was cancelled while it ran."""
    run = bakery.submit("rye")
    bakery.send()
    bakery.move(run, "heat")
    bakery.seen(run, "oven-1")
    bakery.queue.verdicts.cancel(run, bakery.now)
    return run


class TestCancels:
    def test_a_cancel_keeps_the_machine_until_it_is_confirmed(self) -> None:
        bakery = bakery_of()
        run = cancelled(bakery)
        assert (bakery.run(run).attempt.phase, bakery.run(run).outcome) == (Phase.SETTLING, None)
        assert bakery.queue.machines["oven-1"].holds == run
        bakery.move(run, "gone")
        told = bakery.run(run)
        assert (told.outcome, told.reason, told.cancelled) == (Outcome.SKIPPED, "taken back", True)
        assert bakery.queue.machines["oven-1"].holds == ""

    @pytest.mark.parametrize("event", [CoreEvent.FAULT, CoreEvent.TIMEOUT])
    def test_what_was_cancelled_is_never_tried_again(self, event: CoreEvent) -> None:
        bakery = bakery_of()
        run = cancelled(bakery)
        bakery.move(run, event, Cause(detail="the bakery burnt down"))
        assert (bakery.run(run).outcome, len(bakery.run(run).attempts)) == (Outcome.ERROR, 1)
        assert bakery.run(run).cancelled

    def test_a_state_that_ignores_a_cancel_is_refused(self) -> None:
        still = replace(BAKING, on={**BAKING.on, CoreEvent.CANCEL: "baking"})
        states: Mapping[str, StateRule] = {**BAKE.states, "baking": still}
        with pytest.raises(ConfigError, match="state baking: expected cancel to end the attempt"):
            replace(BAKE, states=states)


class TestRequirementsOfAPayload:
    def test_a_machine_must_have_what_the_payload_requires(self) -> None:
        bakery = bakery_of(requires=_flour)
        bakery.submit("rye")
        assert bakery.send(Capacity(kind="bake", labels={"flour:spelt": ""})) == ""
        assert bakery.send(Capacity(kind="bake", labels={"flour:rye": ""})) == "rye"

    def test_a_payload_of_which_nothing_can_be_said_is_refused(self) -> None:
        bakery = bakery_of(requires=_flour)
        with pytest.raises(ConfigError, match="rye: the kind bake cannot make use of its payload: KeyError: 'flour'"):
            bakery.queue.sessions.submit("s", "rye", loaf("rye", payload={}), bakery.now)
        assert not bakery.queue.runs


class TestMachinesOfOthers:
    def test_a_machine_is_as_the_other_system_says_until_it_is_ours(self) -> None:
        bakery = bakery_of()
        machines, now = bakery.queue.machines, bakery.now
        machines.speaks_as("oven-1", KnownBy.AGENT, now)
        stands_as(machines, "oven-1", MachineState.RUNNING, "somebody else's loaf", now)
        seen = bakery.queue.machine("oven-1", now)
        assert (seen.state, seen.reason) == (MachineState.RUNNING, "somebody else's loaf")
        stands_as(machines, "oven-1", MachineState.OFFLINE, "the bakery says so", now)
        assert bakery.oven("oven-1") is MachineState.OFFLINE
        machines.speaks_as("oven-1", KnownBy.AGENT, now)
        assert bakery.oven("oven-1") is MachineState.IDLE

    def test_what_keeps_a_run_from_the_other_system_is_told(self) -> None:
        bakery = bakery_of()
        run = bakery.submit("rye")
        closed = Obstacle(kind=ObstacleKind.OUTSIDE, text="the bakery is closed until 06:00 UTC", until=2000.0)
        bakery.queue.outside["bake"] = lambda asked, _now: [closed] if asked.id == run else []
        told = explain(bakery.queue, run, bakery.now, nobody_knows)
        assert told.sentence == "It waits: the bakery is closed until 06:00 UTC."
        assert told.obstacles == (closed,)
