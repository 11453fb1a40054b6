"""The life of a loaf: it learns its oven only after it has started, may be moved to another, and be set aside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.lifecycle import JUDGED, CoreEvent, Ending, Lifecycle, StateRule, Wait
from pytest_dispatch.core.model import Outcome, Phase, Workload

_ENDS: dict[str, str] = {CoreEvent.TIMEOUT: "spoilt", CoreEvent.FAULT: "spoilt", CoreEvent.CANCEL: "spoilt"}


def _endings(where: str, limit: str) -> dict[str, Ending]:
    return {
        CoreEvent.TIMEOUT: Ending(Outcome.ERROR, f"no oven within {{{limit}}} {where}"),
        CoreEvent.FAULT: Ending(Outcome.ERROR, "{detail}"),
        CoreEvent.CANCEL: Ending(Outcome.ERROR, f"cancelled {where}"),
    }


BAKE = Lifecycle(
    kind="bake",
    elsewhere=True,  # ovens are not ours, and ask us for nothing
    initial="kneaded",
    limits={"patience": 600.0, "delivery": 600.0, "baking": 300.0, "rest": 600.0},
    states={
        "kneaded": StateRule(
            phase=Phase.QUEUED,
            on={CoreEvent.ASSIGN: "sent", **_ENDS},
            wait=Wait(limits=("patience",)),
            endings=_endings("in the kitchen", "patience"),
        ),
        "sent": StateRule(
            phase=Phase.STARTING,
            on={"heat": "baking", **_ENDS},
            wait=Wait(limits=("delivery",)),
            endings=_endings("at the bakery", "delivery"),
        ),
        "baking": StateRule(
            phase=Phase.RUNNING,
            on={
                "set aside": "aside",
                CoreEvent.REPORT: "baking",
                CoreEvent.COMPLETE: "baked",
                **_ENDS,
            },
            wait=Wait(limits=("baking",)),
            endings={
                **_endings("in the oven", "baking"),
                CoreEvent.TIMEOUT: Ending(Outcome.FAILED, "still dough after {baking} in {machine}"),
                CoreEvent.COMPLETE: JUDGED,
            },
        ),
        "aside": StateRule(
            phase=Phase.QUEUED,
            on={"heat": "baking", **_ENDS},
            wait=Wait(limits=("rest",)),
            endings=_endings("on the side", "rest"),
        ),
        "baked": StateRule(phase=Phase.OVER, on={CoreEvent.REPORT: "baked"}),
        "spoilt": StateRule(phase=Phase.OVER, on={CoreEvent.REPORT: "spoilt"}),
    },
)

HOT = replace(BAKE, states={**BAKE.states, "baking": replace(BAKE.states["baking"], then=CoreEvent.COMPLETE)})

RULES = KindRules(name="bake", lifecycles={"baked": BAKE, "hot": HOT})


def loaf(name: str, **said: Any) -> Workload:
    """Return a loaf as a workload."""
    return Workload(**{"name": name, "kind": "bake", "payload": {"flour": "rye"}, **said})
