"""The rules of the kind `actions`."""

from __future__ import annotations

from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.workloads.actions.lifecycle import LIFECYCLE
from pytest_dispatch.workloads.actions.payload import ACTIONS, check_payload, requires

RULES = KindRules(
    name=ACTIONS,
    lifecycles={"conclusion": LIFECYCLE},
    check_payload=check_payload,
    requires=requires,
)
