"""A made-up kind, as an installed package brings one: loaves that are baked in somebody else's ovens."""

from __future__ import annotations

from bakery.lifecycle import RULES
from pytest_dispatch.lab.kind_services import Kind, Resources, Service


def _service(resources: Resources) -> Service:
    from bakery.service import BakeService  # with its HTTP client: for the lab alone

    return BakeService(resources)


KIND = Kind(RULES, _service)
