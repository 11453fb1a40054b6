"""The page Builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from made_up_history import make_history
from past_runs import runs_through
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.lab.builds import ROWS
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database

pytestmark = pytest.mark.anyio

RUNS = 30_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        await running.added("eve", Role.READER, password=PASSWORD)
        yield running


@pytest.fixture
async def past(lab: ServiceBench, tmp_path: Path) -> ServiceBench:
    database = Database(tmp_path / "journal.db")
    make_history(database.engine, RUNS)
    database.engine.dispose()
    return lab


def cells(page: SeenPage) -> list[str]:
    return [each["href"] for each in page.all("a") if each.get("class") == "cell"]


async def test_each_cell_leads_to_its_latest_run(past: ServiceBench) -> None:
    visitor = await signed_in(past, "eve")
    page = await visitor.see("/builds")
    assert "lab/firmware:" in page.words
    assert "v19 v18" in page.words, "releases, newest first"
    assert cells(page)
    runs = [each.removeprefix("/runs/") for each in cells(page) if each.startswith("/runs/")]
    for each in runs[:5]:
        assert (await past.ask("GET", f"/history?q=run:{each}")).json["runs"]
    searches = [each for each in cells(page) if each.startswith("/history?q=")]
    assert "No run is like that" not in (await visitor.see(searches[0])).words


async def test_pages_of_workloads_have_all_of_them_once(past: ServiceBench) -> None:
    visitor = await signed_in(past, "eve")
    pages = [await visitor.see("/builds")]
    while following := [each["href"] for each in pages[-1].all("a") if each.get("rel") == "next"]:
        pages.append(await visitor.see(following[0]))
    names = [each["id"] for page in pages for each in page.all("tr") if each.get("id", "").startswith("b-")]
    assert len(names) > 2 * ROWS
    assert len(set(names)) == len(names)


async def test_behind_the_end_is_the_last_page(past: ServiceBench) -> None:
    page = await (await signed_in(past, "eve")).see("/builds?source=lab/firmware&first=5000")
    assert cells(page)
    assert [each["href"] for each in page.all("a") if each.get("rel") == "prev"]
    assert not [each for each in page.all("a") if each.get("rel") == "next"]


async def test_all_that_failed_is_a_search(past: ServiceBench) -> None:
    visitor = await signed_in(past, "eve")
    page = await visitor.see("/builds?source=lab/firmware")
    [failed] = [each for each in page.links if each.startswith("/history?q=source")]
    assert "No run is like that" not in (await visitor.see(failed)).words


async def test_a_project_that_has_not_run_for_long_is_found(past: ServiceBench, tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    with database.engine.begin() as db:
        old = db.execute(sa.select(schema.history).order_by(schema.history.c.id).limit(1)).mappings().one()
        db.execute(sa.insert(schema.history), {**old, "id": old["id"] - 1, "run": "r-1", "origin": "me/old@v1"})
        counted = {"origin": "me/old@v1", "machine": "", "outcome": "passed", "flaky": False, "bucket": 1, "count": 1}
        db.execute(sa.insert(schema.series), {"kind": old["kind"], "name": old["name"], **counted})
    database.engine.dispose()
    page = await (await signed_in(past, "eve")).see("/builds?source=me/old")
    assert cells(page) == ["/runs/r-1"]


async def test_an_empty_lab_and_an_unknown_source_say_so(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    assert "Nothing has ended yet" in (await visitor.see("/builds")).words
    assert "No run of it is in history." in (await visitor.see("/builds?source=none")).words


async def test_what_others_write_is_text(lab: ServiceBench) -> None:
    name = "<img src=x onerror=alert(1)>.efi"
    await runs_through(lab.bench, name)
    page = await (await signed_in(lab, "eve")).see("/builds?source=" + quote(name))
    assert name in page.text
    page = await (await signed_in(lab, "eve")).see("/builds")
    assert name in page.text
    assert not page.all("img")


async def test_a_token_for_other_groups_sees_nothing_of_it(past: ServiceBench) -> None:
    visitor = Visitor(past, token=await past.token_elsewhere("eve"))
    for address in ("/builds", "/builds?source=lab/firmware"):
        assert not cells(await visitor.see(address))
