"""The page History, and the file of what it finds."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from made_up_history import make_history
from past_runs import runs_through
from service_bench import PASSWORD, ServiceBench, service
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.history_search import Field, Value, read_search
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.csv_rows import csv_rows
from pytest_dispatch.server.web.history_page import View, found_by, term
from pytest_dispatch.store.database import Database

pytestmark = pytest.mark.anyio

RUNS = 1100  # more than the file reads at a time


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        for name, role in (("ada", Role.ADMIN), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
        yield running


@pytest.fixture
async def past(lab: ServiceBench, tmp_path: Path) -> ServiceBench:
    """A lab with many runs in its history."""
    database = Database(tmp_path / "journal.db")
    make_history(database.engine, RUNS)
    database.engine.dispose()
    return lab


def rows(page: SeenPage) -> list[str]:
    return [each["id"].removeprefix("h-") for each in page.all("tr") if each.get("id", "").startswith("h-")]


def link(page: SeenPage, rel: str) -> str:
    return next(each["href"] for each in page.all("a") if each.get("rel") == rel)


async def test_a_search_is_in_the_address_and_finds_what_the_api_finds(past: ServiceBench) -> None:
    asked = "outcome:failed -machine:m-1"
    page = await (await signed_in(past, "eve")).see(f"/history?q={quote(asked)}")
    found = (await past.ask("GET", f"/history?q={quote(asked)}")).json["runs"]
    assert found
    assert rows(page) == [each["run"] for each in found]
    assert page.field("q") == asked


async def test_what_is_often_wanted_is_added_to_the_search_and_taken_out(lab: ServiceBench) -> None:
    visitor, asked = await signed_in(lab, "eve"), ""
    for name, expected in (
        ("Failed", "outcome:failed"),
        ("Last day", "outcome:failed since:1d"),
        ("Errors", "since:1d outcome:error"),
        ("Errors", "since:1d"),
    ):
        often = {each["data-often"]: each["href"] for each in await _often(visitor, asked)}
        asked = (await visitor.see(often[name])).field("q")
        assert asked == expected
    chosen = [each["data-often"] for each in await _often(visitor, 'machine:"a b" since:1d') if "aria-current" in each]
    assert chosen == ["Last day"]
    week = '"out of memory" since:7d'
    page = await visitor.see(f"/history?q={quote(week)}")
    day = next(each["href"] for each in page.all("a") if each.get("data-often") == "Last day")
    assert (await visitor.see(day)).field("q") == '"out of memory" since:1d'


async def _often(visitor: Visitor, asked: str) -> list[dict[str, str]]:
    page = await visitor.see(f"/history?q={quote(asked)}")
    return [each for each in page.all("a") if "data-often" in each]


async def test_pages_lead_back_and_forth(past: ServiceBench) -> None:
    visitor = await signed_in(past, "eve")
    pages = [await visitor.see("/history?q=group:group-1")]
    while "next" in {each.get("rel") for each in pages[-1].all("a")}:
        pages.append(await visitor.see(link(pages[-1], "next")))
    found = [run for each in pages for run in rows(each)]
    assert len(pages) == 3
    assert found == [each async for each in _all(past, "group:group-1")]
    back = await visitor.see(link(pages[2], "prev"))
    assert rows(back) == rows(pages[1])
    first = await visitor.see(link(back, "prev"))
    assert rows(first) == rows(pages[0])
    assert "prev" not in {each.get("rel") for each in first.all("a")}


async def test_a_search_that_cannot_be_understood_is_told_beside_it(past: ServiceBench) -> None:
    reply = await (await signed_in(past, "eve")).ask("GET", "/history?q=outcome:broken")
    assert reply.status == 400
    page = SeenPage(reply.text)
    assert "search, character 9: outcome: expected passed, failed, error or skipped, got 'broken'" in page.words
    assert page.field("q") == "outcome:broken"


async def test_who_looks_for_cancelled_runs_by_outcome_is_told_the_term(lab: ServiceBench) -> None:
    reply = await (await signed_in(lab, "eve")).ask("GET", "/history?q=outcome:cancelled")
    assert reply.status == 400
    assert "got 'cancelled'; cancelled:yes finds runs that somebody cancelled" in SeenPage(reply.text).words


async def test_an_empty_history_says_so(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    assert "Nothing has ended yet." in (await visitor.see("/history")).words
    assert "No run is like that." in (await visitor.see("/history?q=machine:m-1")).words


async def test_what_people_added_is_shown(lab: ServiceBench) -> None:
    [run] = await runs_through(lab.bench, "a.efi")
    wanted = OverrideWanted(outcome=Outcome.FAILED, reason="the wrong image")
    assert (await lab.ask("POST", f"/runs/{run.id}/override", wanted)).status == 200
    assert (await lab.ask("POST", f"/runs/{run.id}/notes", NoteWanted(text="seen"))).status == 201
    page = await (await signed_in(lab, "eve")).see("/history?q=outcome:failed")
    assert "failed was passed a.efi all" in page.words
    assert "the wrong image (1 note)" in page.words


async def test_what_others_write_is_text_and_turns_nothing_around(lab: ServiceBench) -> None:
    name = "<img src=x onerror=alert(1)>.efi"
    [run] = await runs_through(lab.bench, name)
    await lab.ask(
        "POST", f"/runs/{run.id}/override", OverrideWanted(outcome=Outcome.ERROR, reason=f"{name}\u202e\x1b[1m")
    )
    reply = await (await signed_in(lab, "eve")).ask("GET", "/history?q=" + quote('<script>"'))
    assert reply.status == 400
    page = await (await signed_in(lab, "eve")).see("/history?q=" + quote(term("workload", name)))
    assert rows(page) == [run.id]
    assert page.text.count(name) == 2
    assert not page.all("img")
    assert not [each for each in page.all("script") if "src" not in each]
    assert not {"\u202e", "\x1b"} & set(page.text)


async def test_a_token_for_other_groups_sees_nothing_of_it(past: ServiceBench) -> None:
    visitor = Visitor(past, token=await past.token_elsewhere("ada"))
    assert not rows(await visitor.see("/history"))
    assert len(list(csv.reader(io.StringIO((await file(visitor, "")).text)))) == 1


# The file


async def file(visitor: Visitor, search: str) -> httpx.Response:
    """The file, which comes in parts."""
    headers = {"Authorization": f"Bearer {visitor.token}"} if visitor.token else {}
    base = f"http://127.0.0.1:{visitor.service.bench.api_port}"
    async with httpx.AsyncClient(base_url=base, cookies=visitor.cookies, headers=headers) as client:
        return await client.get("/history.csv", params={"q": search})


async def test_the_file_has_all_that_is_found(past: ServiceBench) -> None:
    reply = await file(await signed_in(past, "eve"), "kind:boot")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"] == 'attachment; filename="history.csv"'
    found = list(csv.DictReader(io.StringIO(reply.text)))
    asked = [each async for each in _all(past, "kind:boot")]
    assert [each["run"] for each in found] == asked
    assert {each["kind"] for each in found} == {"boot"}


async def _all(lab: ServiceBench, search: str) -> AsyncIterator[str]:
    before = 0
    while before is not None:
        found = (await lab.ask("GET", f"/history?q={search}&before={before}&most=200")).json
        for each in found["runs"]:
            yield each["run"]
        before = found["before"]


async def test_a_search_for_the_file_that_cannot_be_understood_is_refused(lab: ServiceBench) -> None:
    reply = await (await signed_in(lab, "eve")).ask("GET", "/history.csv?q=outcome:broken")
    assert reply.status == 400
    assert "search, character 9" in html.unescape(reply.text)


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\x1b[31m=1",
    "\u202e=1",
    "\uff1d1",
    "\x00=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    [[cell, after]] = csv.reader(io.StringIO(csv_rows([[text, "b"]]), newline=""))
    assert cell.startswith("'")
    assert after == "b"


INSIDE = [
    "a;=1+1",
    "a; =1",
    'a;"=1',
    'a;" =1;',
    "a;;@b",
    "a\n=1",
    "a\t+1",
    "a|-1",
    "a;\x1b[31m=1",
    "a;\uff1d1",
    "=1;=1",
]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("text", INSIDE)
def test_no_part_is_a_formula_whatever_separates_cells(text: str, separator: str) -> None:
    for row in csv.reader(io.StringIO(csv_rows([["r", text, "b"]])), delimiter=separator):
        assert [cell for cell in row if cell.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d"))] == []


def test_all_cells_are_quoted() -> None:
    assert csv_rows([["a", 1.5, None]]) == '"a","1.5",""\r\n'


@pytest.mark.parametrize("value", ["a=b", -1.5, '"a,b"', "a\nb", "ä"])
def test_other_cells_are_as_they_are(value: object) -> None:
    assert [*csv.reader(io.StringIO(csv_rows([[value, None]]), newline=""))] == [[str(value), ""]]


# Searches that pages link to

TEXTS = ["a.efi", "a b", 'a"b', "a\\b", "a,b", "a*", "*", "a:b", "ä", "-a", "<a>", "&q=x", "a\nb"]


@pytest.mark.parametrize(
    "text", ["a.efi", "a b", 'a"b', "a\\b", "a,b", "a*", "*", "a:b", "ä", "-a", "<a>", "&q=x", "a\nb"]
)
def test_a_link_finds_just_its_value(text: str) -> None:
    [condition] = read_search(term("workload", text), 0.0).conditions
    assert (condition.field, condition.values) == (Field.WORKLOAD, (Value(text),))
    assert found_by("workload", text).isascii()


def test_an_address_has_only_what_is_asked() -> None:
    assert View().address == "/history"
    assert View(search="a b").address == "/history?q=a+b"
    older = View(search="a").older(7).older(5)
    assert older.address == "/history?q=a&before=5&way=0.7"
    assert older.newer.address == "/history?q=a&before=7&way=0"
    assert older.newer.newer.address == "/history?q=a"
