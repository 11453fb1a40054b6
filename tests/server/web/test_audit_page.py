"""The page Audit: what its filters find, and how an entry tells of a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, signed_in

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.server.api.account_schemas import NewUser, UserChange
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.audit_page import PAGE, View, changes

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        await running.added("ada", Role.ADMIN, password=PASSWORD)
        yield running


def shown(page: SeenPage) -> list[int]:
    return [int(each["id"][2:]) for each in page.all("tr") if each.get("id", "").startswith("a-")]


async def test_filters_are_in_the_address_and_find_what_the_api_finds(lab: ServiceBench) -> None:
    await lab.ask("POST", "/users", NewUser(name="zoe"), token=lab.secrets["ada"])
    await lab.ask("PUT", "/users/zoe", UserChange(role=Role.OPERATOR))
    visitor = await signed_in(lab, "ada")
    for words in ({"who": "ada"}, {"action": "user"}, {"action": "user.change"}, {"target": "zoe"}):
        page = await visitor.see(View().address(**words))
        assert shown(page) == [each["id"] for each in await lab.audit(**words)], words
        [(name, value)] = words.items()
        assert page.field(name) == value
    assert "role: reader → operator" in (await visitor.see("/audit?action=user.change")).words


async def test_days_bound_what_is_found(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    today = datetime.fromtimestamp(lab.bench.lab.lab_state.clock.now(), UTC).strftime("%Y-%m-%d")
    everything = shown(await visitor.see("/audit"))
    assert everything
    assert shown(await visitor.see(f"/audit?since={today}&until={today}")) == everything
    assert shown(await visitor.see("/audit?until=2001-01-01")) == []
    assert shown(await visitor.see("/audit?since=0001-01-01&until=9999-12-31")) == everything
    assert shown(await visitor.see("/audit?since=9999-12-31")) == []
    reply = await visitor.ask("GET", "/audit?since=yesterday")
    assert reply.status == 400
    assert "since: expected a day such as 2026-11-30, got 'yesterday'" in SeenPage(reply.text).words


async def test_pages_lead_on_to_older_entries(lab: ServiceBench) -> None:
    for number in range(PAGE + 5):
        await lab.ask("POST", "/users", NewUser(name=f"user-{number}"))
    visitor = await signed_in(lab, "ada")
    first = await visitor.see("/audit?action=user.create")
    [older] = [each["href"] for each in first.all("a") if each.get("rel") == "next"]
    second = await visitor.see(older)
    assert len(shown(first)) == PAGE
    assert shown(first) + shown(second) == [each["id"] for each in await lab.audit(action="user.create")]
    assert not [each for each in second.all("a") if each.get("rel") == "next"]


def entry(before: dict[str, object], after: dict[str, object]) -> AuditEntry:
    return AuditEntry(at=1.0, who="a", signed_in="", address="", action="x", target="y", before=before, after=after)


def test_what_has_changed_is_told_value_by_value() -> None:
    assert changes(entry({"a": 1, "b": "x", "c": [0]}, {"c": [0], "a": 1, "b": "y", "d": [1, 2]})) == [
        "b: x → y",
        "d: [1, 2]",
    ]
    many = changes(entry({}, {f"v{number}": number for number in range(20)}))
    assert (len(many), many[-1]) == (9, "and 12 more")
    assert changes(entry({}, {"expires": 1796157892.37})) == ["expires: 2026-12-01 20:44 UTC"]
    [long] = changes(entry({}, {"text": "x" * 10_000}))
    assert len(long) < 200
