"""The kind `deployment`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.workloads.deployments.rules import RULES

if TYPE_CHECKING:
    from pytest_dispatch.lab.kind_services import Resources, Service


def _service(resources: Resources) -> Service:
    from pytest_dispatch.workloads.deployments.service import DeploymentService  # with its HTTP client

    return DeploymentService(resources)


DEPLOYMENT_KIND = Kind(RULES, _service, on_demand=True)
