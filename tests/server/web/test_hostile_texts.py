"""Whatever others send is text on every page: nothing of it runs, hides, turns around, or passes for a page of ours."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import html5lib  # type: ignore[import-untyped]
import httpx
import pytest
from hostile_texts import HOSTILE, named
from labs import Reply
from service_bench import PASSWORD, ServiceBench, service
from visitors import Visitor, signed_in
from waiting import until

from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.templates import Template
from pytest_dispatch.server.api.account_schemas import NewToken
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.page_routes import PAGE_ROUTES

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
WORD = "harm"  # is in every text, so that it is found where it is shown

#: What a page of ours may be made of; whatever else is in one, somebody has put there.
OUR_ELEMENTS = """
html head meta title link script body a header nav svg path g line rect circle polyline text desc details summary div
span small form fieldset legend button input label select option datalist textarea p main section article h1 h2 h3 table
caption colgroup col thead tbody tr th td ol ul li dl dt dd pre code kbd samp strong em time progress dialog figure
figcaption
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


def text_of(what: str) -> str:
    return f"{HOSTILE[what]} {WORD} {what}"


@dataclass
class Scene:
    """A lab to which somebody has sent all of it, wherever it takes a text.

    Attributes:
        ended: A run of each text that a machine has run.
    """

    lab: ServiceBench
    ended: dict[str, Run]

    def pages(self) -> Iterator[str]:
        """Every page that there is, and every way in which an address itself holds a text."""
        for route in PAGE_ROUTES:
            if route.method == "GET" and not route.path.startswith("/static"):
                yield from self._addresses(route.path)

    def _addresses(self, path: str) -> Iterator[str]:
        texts = [quote(text_of(what), safe="") for what in HOSTILE]
        if path == "/runs/{run}":
            yield from (f"/runs/{run.id}" for run in self.ended.values())
        elif path == "/machines/{machine}":
            yield f"/machines/{MACHINE}"
        elif "{" not in path:
            yield path
        for place, text in enumerate(texts[:: max(1, len(texts) // 6)]):
            name = ("q", "named", "who", "next", "user", "since", "group", "view", "source")[place % 9]
            yield re.sub(r"\{\w+\}", text, path) + (f"?{name}={text}" if "{" not in path else "")
        if "{" not in path:
            yield f"{path}?" + "&".join(f"{name}={texts[4]}" for name in ("q", "named", "who", "next", "user", "group"))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with service(tmp_path, pages=True) as lab:
        await lab.added("ada", Role.ADMIN, password=PASSWORD)
        found = Scene(lab, {what: await ran(lab, what) for what in HOSTILE})
        await wait(lab)
        await told(lab)
        lab.bench.clock.ahead += 120.0  # no limit on how often one may sign in is reached
        yield found


async def ran(lab: ServiceBench, what: str) -> Run:
    """Let a machine run a workload of this name, and say it in every way it can."""
    bench, text = lab.bench, text_of(what)
    workload = replace(bench.workload(f"{what}.efi"), name=named(f"{text}.efi"))
    [run] = await bench.submit(workload)
    await bench.call("HEAD")
    await bench.download(run)
    assert (await bench.call("POST")).status == 200
    bench.lab.console.shown(MACHINE, f"{text}\n")
    case = {"name": text, "outcome": "failed", "message": text}
    said = await bench.report(title=text[:200], body=text, cases=[case], labels=[text[:60]])
    assert said.status == 200, said.text
    await bench.call("HEAD")
    await until(lambda: bench.now(run).outcome is not None)
    for path, body in (
        ("notes", NoteWanted(text=text)),
        ("override", OverrideWanted(outcome=Outcome.PASSED, reason=text[:500])),
    ):
        reply = await lab.ask("POST", f"/runs/{run.id}/{path}", body)
        assert reply.status in (200, 201), reply.text
    return run


async def wait(lab: ServiceBench) -> None:
    """Have runs of these names wait, and held for these reasons; have groups offer them."""
    bench = lab.bench
    await lab.ask("POST", f"/machines/{MACHINE}/hold", HoldWanted(reason=text_of("spoofed-page")))
    workloads = [replace(bench.workload(f"w-{what}.efi"), name=named(text_of(what))) for what in HOSTILE]
    for run in await bench.submit(*workloads):
        await lab.ask("POST", f"/runs/{run.id}/hold", HoldWanted(reason=run.workload.name))
    templates = [
        Template(
            id=f"t-{what}", group="lab", workload=replace(bench.workload(f"t-{what}.efi"), name=named(text_of(what)))
        )
        for what in HOSTILE
    ]
    await bench.lab.group_service.configure((), templates)


async def told(lab: ServiceBench) -> None:
    """Write it into names of holders, of tokens, and of who tries to sign in; into the reason why nothing begins."""
    for what in HOSTILE:
        text = text_of(what)
        lease = LeaseWanted(kind=LeaseKind.DETACHED, owner=text[:200])
        await lab.ask("POST", "/sessions", OpenSession(source=text[:200], policy=Policy(), lease=lease))
        await lab.ask("POST", "/tokens", NewToken(label=named(text), user="ada"))
        lab.bench.clock.ahead += 10.0
        assert (await lab.sign_in(text[:100])).status == 401
    await lab.ask("POST", "/hold", HoldWanted(reason=text_of("redirect")))


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
        for each in LINKS:
            check_link(element.attrib.get(each, ""), where)
        if name == "script":
            assert element.attrib["src"].startswith("/static/"), where
            assert not element.text, where


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
    shows = {"/", "/queue", "/history", "/sessions", "/account", "/users", "/audit", "/runs/{run}", "/templates"}
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
