"""A lifecycle that would leave somebody waiting, or without words, is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.lifecycle import JUDGED, CoreEvent, Ending, Lifecycle, StateRule, Wait
from pytest_dispatch.core.model import Outcome, Phase

ENDS: dict[str, str] = {CoreEvent.TIMEOUT: "done", CoreEvent.FAULT: "done", CoreEvent.CANCEL: "done"}
JUDGES: dict[str, Ending] = dict.fromkeys(ENDS, JUDGED)
QUEUED = StateRule(
    phase=Phase.QUEUED, on={CoreEvent.ASSIGN: "works", **ENDS}, wait=Wait(limits=("patience",)), endings=JUDGES
)
WORKS = StateRule(
    phase=Phase.RUNNING,
    on={"wait": "waits", CoreEvent.COMPLETE: "done", **ENDS},
    wait=Wait(seconds=5),
    endings={**JUDGES, CoreEvent.COMPLETE: JUDGED},
)
DONE = StateRule(phase=Phase.OVER, on={CoreEvent.REPORT: "done"})


def lifecycle(**changes: StateRule) -> Lifecycle:
    return Lifecycle(
        kind="bake",
        states={"waits": QUEUED, "works": WORKS, "done": DONE, **changes},
        initial="waits",
        limits={"patience": 60},
        counted=frozenset({"wait"}),
    )


def test_an_event_leads_to_the_state_that_the_table_says() -> None:
    bake = lifecycle()
    assert bake.follow("waits", CoreEvent.ASSIGN) == "works"
    assert bake.follow("works", "wait") == "waits"  # phases may go back
    assert bake.follow("works", CoreEvent.ASSIGN) is None
    assert bake.follow("done", CoreEvent.REPORT) == "done"
    assert bake.phase("works") is Phase.RUNNING
    assert bake.ending("works", CoreEvent.COMPLETE) is JUDGED


def test_the_diagram_shows_all_states() -> None:
    assert lifecycle().diagram().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> waits",
        "    waits --> works: assign",
        "    waits --> done: timeout, fault, cancel",
        "    works --> waits: wait",
        "    works --> done: complete, timeout, fault, cancel",
        "    done --> [*]",
    ]


T = TypeVar("T")


def without(table: Mapping[str, T], event: str) -> dict[str, T]:
    return {each: value for each, value in table.items() if each != event}


LOST = StateRule(phase=Phase.OVER)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"works": replace(WORKS, wait=None)}, "state works: expected a deadline"),
        (
            {"works": replace(WORKS, on=without(WORKS.on, "timeout"), endings=without(WORKS.endings, "timeout"))},
            "state works: expected timeout to end the attempt",
        ),
        (
            {"works": replace(WORKS, on={**WORKS.on, "fault": "works"}, endings=without(WORKS.endings, "fault"))},
            "state works: expected fault to end the attempt",
        ),
        (
            {"works": replace(WORKS, endings=without(WORKS.endings, "complete"))},
            "state works: expected an ending for each event that ends the attempt, and no other: complete",
        ),
        (
            {"works": replace(WORKS, endings={**WORKS.endings, "wait": JUDGED})},
            "state works: expected an ending for each event that ends the attempt, and no other: wait",
        ),
        (
            {"works": replace(WORKS, on={**WORKS.on, "burn": "ashes"})},
            "state works: burn: expected one of its states, got 'ashes'",
        ),
        ({"works": replace(WORKS, then="burn")}, "state works: then: expected one of its events, got 'burn'"),
        (
            {"works": replace(WORKS, endings={**WORKS.endings, "fault": Ending(Outcome.ERROR, "{oven} broke")})},
            "state works: fault: unknown fields in its text: oven",
        ),
        (
            {"works": replace(WORKS, wait=Wait(limits=("heat",), at_most="mood"))},
            "state works: unknown limits: heat, mood",
        ),
        (
            {"done": replace(DONE, on={"wait": "waits"})},
            "state done: expected nothing to lead out of a state whose phase is over",
        ),
        (
            {"done": replace(DONE, wait=Wait(seconds=1))},
            "state done: expected nothing to lead out of a state whose phase is over",
        ),
        ({"lost": LOST}, "state lost: expected a way that leads to it, got none"),
        ({"waits": WORKS}, "initial: expected a state whose phase is queued, got 'waits'"),
    ],
)
def test_a_table_with_a_mistake_is_refused(changes: dict[str, StateRule], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lifecycle(**changes)
    assert str(caught.value) == f"lifecycle of bake: {complaint}"
