"""The rules of the kind `deployment`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.kinds import KindRules, PayloadField, Shape
from pytest_dispatch.workloads.deployments.lifecycle import LIFECYCLE
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT, DeploymentPayload, check_payload, requires

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Workload


def _derived(workload: Workload, limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return how long a reservation may last: what the job asks for, and then some."""
    return {"reserve": max(limits["reserve"], DeploymentPayload.of(workload).reserved + limits["reserve"])}


RULES = KindRules(
    name=DEPLOYMENT,
    lifecycles={"deployed": LIFECYCLE},
    derived=_derived,
    check_payload=check_payload,
    requires=requires,
    by_hand=(
        PayloadField(name="agent", needed=True, hint="the name of a Testflinger agent"),
        PayloadField(
            name="job", shape=Shape.JSON, needed=True, hint='JSON, such as {"provision_data": {"distro": "noble"}}'
        ),
        PayloadField(name="busy", choices=lambda: ("skip", "wait"), hint="what becomes of it if the agent is busy"),
    ),
)
