"""Services of kinds: when they are created, and started."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from labs import running_lab

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.core.model import Policy, Workload
from pytest_dispatch.lab.kind_services import Kind, Resources, Service
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.workloads.actions.lifecycle import LIFECYCLE

pytestmark = pytest.mark.anyio

RULES = KindRules(
    name="bread",
    lifecycles={"baked": replace(LIFECYCLE, kind="bread")},
)


class Bakery(Service):
    """One that notes when it is created and started."""

    seen: list[str]

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.seen.append("created")

    def start(self) -> list[asyncio.Task[None]]:
        self.seen.append("started")
        return []


def bakery() -> tuple[Kind, list[str]]:
    seen: list[str] = []
    service = type("SeenBakery", (Bakery,), {"seen": seen})
    return Kind(RULES, service, on_demand=True), seen


async def test_one_on_demand_comes_with_the_first_workload_of_a_private_lab(tmp_path: Path) -> None:
    kind, seen = bakery()
    async with running_lab(tmp_path, kinds=[kind]) as bench:
        assert seen == []
        assert "bread" in bench.lab.kinds
        session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port)
        for key in ("first", "second"):
            await bench.lab.session_service.submit(session, [(key, Workload(name=key, kind="bread", payload={}))])
            assert seen == ["created", "started"]


async def test_one_on_demand_of_a_lab_that_many_share_is_there_from_the_start(tmp_path: Path) -> None:
    kind, seen = bakery()
    async with running_lab(tmp_path, kinds=[kind], private=False):
        assert seen == ["created", "started"]


async def test_one_that_cannot_be_created_is_the_lab_s_fault(tmp_path: Path) -> None:
    def oven(_resources: Resources) -> Service:
        raise RuntimeError("no oven")

    async with running_lab(tmp_path, kinds=[Kind(RULES, oven, on_demand=True)]) as bench:
        broken = "the lab is broken: service of the kind bread raised RuntimeError: no oven"
        with pytest.raises(LabError, match=broken):
            bench.lab.check("", [Workload(name="loaf", kind="bread", payload={})])
        assert broken in str(bench.lab.broken)
