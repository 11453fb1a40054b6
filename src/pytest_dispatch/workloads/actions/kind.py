"""The kind `actions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.lab.kind_services import Kind
from pytest_dispatch.workloads.actions.rules import RULES

if TYPE_CHECKING:
    from pytest_dispatch.lab.kind_services import Resources, Service


def _service(resources: Resources) -> Service:
    from pytest_dispatch.workloads.actions.service import ActionsService  # with its HTTP client

    return ActionsService(resources)


ACTIONS_KIND = Kind(RULES, _service, on_demand=True)
