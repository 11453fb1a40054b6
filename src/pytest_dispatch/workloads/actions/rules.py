"""The rules of the kind `actions`."""

from __future__ import annotations

from pytest_dispatch.core.kinds import KindRules, PayloadField, Shape
from pytest_dispatch.workloads.actions.lifecycle import LIFECYCLE
from pytest_dispatch.workloads.actions.payload import ACTIONS, check_payload, requires

RULES = KindRules(
    name=ACTIONS,
    lifecycles={"conclusion": LIFECYCLE},
    check_payload=check_payload,
    requires=requires,
    by_hand=(
        PayloadField(name="owner", needed=True, hint="such as my-org"),
        PayloadField(name="repo", needed=True, hint="such as firmware"),
        PayloadField(name="workflow", needed=True, hint="such as test.yml"),
        PayloadField(name="ref", hint="a branch or tag; main if there is none"),
        PayloadField(name="inputs", shape=Shape.TEXTS, hint="one a line, such as board=rpi-4"),
    ),
)
