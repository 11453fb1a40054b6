"""Whatever others send is text on every page: nothing of it runs, hides, turns around, or passes for a page of ours."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import html5lib  # type: ignore[import-untyped]
import httpx
import pytest
from hostile_lab import WORD, Scene, hostile_lab, text_of
from hostile_texts import HOSTILE
from labs import Reply
from visitors import Visitor, signed_in

pytestmark = pytest.mark.anyio


#: What a page of ours may be made of; whatever else is in one, somebody has put there.
OUR_ELEMENTS = """
html head meta title link script body a header nav svg path g line rect circle polyline text desc details summary div
span small form fieldset legend button input label select option datalist textarea p main section article h1 h2 h3 table
caption colgroup col thead tbody tr th td ol ul li dl dt dd pre code kbd samp strong em time progress dialog figure
figcaption h4 h5 h6 br hr blockquote s output
"""
OUR_HEADERS = """
cache-control content-length content-security-policy content-type content-disposition cross-origin-opener-policy date
dispatch-pace etag location referrer-policy retry-after server set-cookie transfer-encoding vary x-content-type-options
x-request-id
"""
ELEMENTS, HEADERS = (frozenset(words.split()) for words in (OUR_ELEMENTS, OUR_HEADERS))
#: What leads somewhere.
LINKS = ("href", "src", "action", "formaction", "data", "poster", "cite", "background", "xlink:href")
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with hostile_lab(tmp_path) as found:
        yield found


def check_headers(reply: Reply, where: str) -> None:
    assert set(reply.headers) <= HEADERS, where
    assert "evil.example" not in reply.headers.get("location", "").partition("?")[0], where
    assert "dispatch-session=b" not in reply.headers.get("set-cookie", ""), where


def check_text(text: str, where: str) -> None:
    """No control character and nothing that turns text around, in any spelling of the answer."""
    kinds = {each for each in set(text) - set("\n\t") if unicodedata.category(each) == "Cc"}
    turning = {
        each for each in text if each in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    }
    assert not kinds | turning, where


def check_markup(text: str, where: str) -> None:
    """A parser as strict as the standard finds no error, and what it finds is ours."""
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree = parser.parse(text)
    assert not parser.errors, (where, [(place, code) for place, code, _ in parser.errors][:3])
    for element in tree.iter():
        assert isinstance(element.tag, str), (where, "a comment", element.text)
        name = re.sub(r"\{.*\}", "", element.tag)
        assert name in ELEMENTS, (where, name)
        assert name != "meta" or "http-equiv" not in element.attrib, where
        assert not {each for each in element.attrib if each.startswith("on") or each in {"style", "srcdoc"}}, (
            where,
            name,
        )
        for each in LINKS if not is_left_alone(element.attrib) else ():
            check_link(element.attrib.get(each, ""), where)
        if name == "script":
            assert element.attrib["src"].startswith("/static/"), where
            assert not element.text, where


def is_left_alone(attributes: Mapping[str, str]) -> bool:
    """A link that a workload wrote to a web page of somebody else's, which learns nothing of the page that it is on."""
    web = urlsplit(attributes.get("href", "")).scheme in {"http", "https", "mailto"}
    return web and attributes.get("rel") == "noreferrer noopener nofollow" and set(attributes) == {"href", "rel"}


def check_link(url: str, where: str) -> None:
    parts = urlsplit(url)
    assert parts.scheme in {"", "http", "https"}, (where, url)
    assert not parts.netloc or parts.netloc == "github.com", (where, url)


async def test_nothing_that_others_send_is_more_than_text_on_any_page(scene: Scene) -> None:
    visitor, seen = await signed_in(scene.lab, "ada"), set[str]()
    for where in scene.pages():
        reply = await visitor.ask("GET", where)
        assert reply.status < 500, (where, reply.text)
        check_headers(reply, where)
        body = reply.body.decode("utf-8")
        if reply.headers.get("content-type", "").startswith("text/html"):
            check_text(body, where)
            check_markup(body, where)
            if WORD in body and "?" not in where:
                seen.add(re.sub(r"/runs/.*", "/runs/{run}", where))
    seen = {re.sub(r"/queue/edit/.*", "/queue/edit/{run}", each) for each in seen}
    shows = {
        "/queue/edit/{run}",
        "/",
        "/queue",
        "/history",
        "/sessions",
        "/account",
        "/users",
        "/audit",
        "/runs/{run}",
        "/templates",
    }
    assert seen >= shows, "a page that should show some of it does not, so that this test says nothing of it"


async def test_what_a_run_said_is_on_its_page_as_it_was_said(scene: Scene) -> None:
    visitor = await signed_in(scene.lab, "ada")
    for what in ("script", "attribute", "spoofed-page", "entities", "template"):
        page = await visitor.see(f"/runs/{scene.ended[what].id}")
        assert page.text.count(text_of(what)) >= 4, what


async def test_no_cell_of_a_file_is_a_formula_or_turns_a_terminal_around(scene: Scene) -> None:
    visitor = await signed_in(scene.lab, "ada")
    base = f"http://127.0.0.1:{scene.lab.bench.api_port}"
    async with httpx.AsyncClient(base_url=base, cookies=visitor.cookies) as client:
        text = (await client.get("/history.csv")).text  # it comes in parts
    check_text(text.replace("\r\n", "\n"), "/history.csv")
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) >= len(HOSTILE)
    assert {len(row) for row in rows} == {len(rows[0])}
    for cell in (cell for row in rows for cell in row):
        number = re.fullmatch(r"-?[0-9.]+", cell)
        assert number or not cell.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")), cell


async def test_what_came_of_a_change_repeats_no_markup(scene: Scene) -> None:
    """Also without a script: it travels in a cookie, and is said on the next page."""
    visitor: Visitor = await signed_in(scene.lab, "ada")
    for what in ("script", "attribute", "header", "spoofed-page", "terminal"):
        csrf = (await visitor.see("/account")).field("csrf")
        for path, fields in (
            ("/queue", [("do", "hold"), ("run", text_of(what)), ("reason", text_of(what)), ("sure", "1")]),
            ("/users", [("do", "role"), ("user", text_of(what)), ("role", "reader")]),
            ("/users", [("do", text_of(what))]),
            ("/sessions", [("session", text_of(what))]),
        ):
            reply = await visitor.post(path, ("csrf", csrf), ("next", path), *fields)
            check_headers(reply, path)
            if reply.status == 303:
                reply = await visitor.ask("GET", reply.headers["location"])
            check_text(reply.body.decode("utf-8"), path)
            check_markup(reply.body.decode("utf-8"), path)
