"""The page Builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from labs import Reply
from made_up_history import make_history
from past_runs import runs_through
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in
from waiting import until

from pytest_dispatch.core.model import Run
from pytest_dispatch.lab.builds import ROWS
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database

pytestmark = pytest.mark.anyio

RUNS = 30_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        for name, role in (("bob", Role.OPERATOR), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
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


# What failed, again; and two releases


SOURCE = "me/board"


async def ended(lab: ServiceBench, release: str, outcomes: dict[str, str]) -> dict[str, str]:
    """Have runs of a release end, in order; returns their ids by name."""
    found = {}
    for name, outcome in outcomes.items():
        workload = lab.bench.workload(f"{name.rstrip('!')}.efi")
        [run] = await lab.bench.submit(workload, source=f"{SOURCE}@{release}")
        await lab.bench.call("HEAD")
        await lab.bench.download(run)
        await lab.bench.call("POST")
        assert (await lab.bench.report(title=name, result=outcome)).status == 200
        await lab.bench.call("HEAD")
        await until(partial(_is_over, lab, run))
        found[name] = run.id
    return found


def _is_over(lab: ServiceBench, run: Run) -> bool:
    return lab.bench.now(run).outcome is not None


async def test_two_releases_are_compared(lab: ServiceBench) -> None:
    await ended(lab, "v1", {"same": "passed", "breaks": "passed", "heals": "failed", "bad": "failed", "old": "passed"})
    new = await ended(
        lab, "v2", {"same": "passed", "breaks": "failed", "heals": "passed", "bad": "failed", "n": "passed"}
    )
    visitor = await signed_in(lab, "eve")
    builds = await visitor.see(f"/builds?source={SOURCE}")
    assert [each["action"] for each in builds.all("form") if each.get("action", "").startswith("/builds/")] == [
        "/builds/compare"
    ]
    page = await visitor.see(f"/builds/compare?source={SOURCE}&old=v1&new=v2")
    assert (
        "1 newly failing, 1 fixed, 1 failing in both, 1 only in the new one, 1 only in the old one, 1 good in both"
    ) in page.words
    for turn, name in (
        ("newly failing 1", "breaks.efi"),
        ("fixed 1", "heals.efi"),
        ("failing in both 1", "bad.efi"),
        ("only in the new one 1", "n.efi"),
        ("only in the old one 1", "old.efi"),
        ("good in both 1", "same.efi"),
    ):
        assert f"{turn} Workload Group v1 v2 Why {name} boot lab" in page.words
    assert f"/runs/{new['breaks']}" in page.links
    assert "No run of these is in history" in (await visitor.see("/builds/compare?source=x&old=1&new=2")).words


async def test_what_failed_last_in_a_release_is_run_again(lab: ServiceBench) -> None:
    await ended(lab, "v1", {"a": "failed", "b": "failed", "b!": "passed", "c": "passed"})
    failed = (await ended(lab, "v2", {"a": "failed", "d": "failed"}))["a"]
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/builds")).field("csrf")

    async def send(*fields: tuple[str, str]) -> Reply:
        return await visitor.post("/builds", ("csrf", csrf), *fields, Dispatch_Page="1")

    asked = (await send(("source", SOURCE), ("release", "v1"))).json
    assert asked["ask"] == "Queue 1 run again?"
    assert asked["text"].startswith("Failed last in me/board v1: a.efi (lab). a.efi: 1 machine fits")
    asked = (await send(("source", SOURCE), ("release", "v2"))).json
    assert asked["ask"] == "Queue 2 runs again?"
    assert not lab.bench.lab.queue.group_queue.queued("lab")
    reply = (await send(*((name, value) for name, value in asked["fields"]), ("sure", "1"))).json
    assert (reply["said"], reply["failed"]) == ("2 runs queued again.", False)
    assert lab.bench.lab.queue.group_queue.queued("lab") == 2
    assert failed in {run.again for run in lab.bench.lab.queue.runs.values()}
    asked = (await send(("source", SOURCE), ("release", "v2"))).json
    assert "Waiting or under way already: a.efi (lab) and d.efi (lab)." in asked["text"]
    undo = reply["undo"]
    await visitor.post(undo["action"], ("csrf", csrf), *map(tuple, undo["fields"]), Dispatch_Page="1")
    assert not lab.bench.lab.queue.group_queue.queued("lab")
    reply = (await send(("source", SOURCE), ("release", "v9"))).json
    assert reply["said"] == "Nothing failed last in me/board v9, so nothing was queued."
    reply = (await send(("run", "none"), ("sure", "1"))).json
    assert (reply["failed"], reply["said"][:32]) == (True, "Nothing was queued. 1 not: no ru")


async def test_a_reader_is_not_offered_to_run_it_again(lab: ServiceBench) -> None:
    await ended(lab, "v1", {"a": "failed"})
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/builds")
    assert not [each for each in page.all("form") if each.get("action") == "/builds" and each["method"] == "post"]
    reply = await visitor.post("/builds", ("csrf", page.field("csrf")), ("source", SOURCE), Dispatch_Page="1")
    assert reply.status == 403
