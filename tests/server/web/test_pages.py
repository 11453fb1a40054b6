"""The pages of a service: who gets them, how they are sent, and that nothing in them is somebody else's."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from service_bench import PASSWORD, ServiceBench, cookies_of, service
from visitors import FORM, SeenPage, Visitor, signed_in
from waiting import PATIENCE

from pytest_dispatch.server.api.account_schemas import NewToken
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import GitHubSignIn
from pytest_dispatch.server.web import assets

pytestmark = pytest.mark.anyio

PAGES = ["/", "/queue", "/machines", "/machines/127.0.0.2", "/runs/{run}"]
OF_THE_PAST = ["/builds", "/history", "/history/charts", "/templates"]
OF_THE_LAB = ["/sessions", "/lab", "/find", "/find?q=a", "/account", "/users", "/audit"]
MOST_BYTES = 150_000  # of all that a first visit loads, packed


# Signing in


async def test_who_is_not_signed_in_is_sent_to_where_they_can(lab: ServiceBench) -> None:
    reply = await Visitor(lab).ask("GET", "/?a=b&c=d")
    assert (reply.status, reply.headers["location"]) == (303, "/sign-in?next=/%3Fa%3Db%26c%3Dd")
    page = await Visitor(lab).see(reply.headers["location"])
    assert page.field("next") == "/?a=b&c=d"


async def test_a_person_signs_in_goes_on_and_signs_out(lab: ServiceBench) -> None:
    visitor = Visitor(lab)
    reply = await visitor.post("/sign-in", ("name", "bob"), ("password", PASSWORD), ("next", "/?a=b"))
    assert (reply.status, reply.headers["location"]) == (303, "/?a=b")
    assert "httponly" in cookies_of(reply.headers)
    assert "bob" in (await visitor.see("/")).words
    reply = await visitor.submit("/sign-out")
    assert (reply.status, reply.headers["location"]) == (303, "/sign-in")
    assert (await visitor.ask("GET", "/")).status == 303
    assert [entry["action"] for entry in await lab.audit(who="bob")] == ["sign-out", "sign-in"]


async def test_a_wrong_password_is_told_on_the_page(lab: ServiceBench) -> None:
    reply = await Visitor(lab).post("/sign-in", ("name", "bob"), ("password", "wrong"), ("next", "/"))
    assert reply.status == 401
    page = SeenPage(reply.text)
    assert "expected a name and its password; one of them is wrong" in page.words
    assert page.field("name") == "bob"
    assert "wrong" not in [each.get("value") for each in page.all("input")]


@pytest.mark.parametrize(
    "elsewhere",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: a=b"],
)
async def test_nobody_is_sent_to_another_site(lab: ServiceBench, elsewhere: str) -> None:
    reply = await Visitor(lab).post("/sign-in", ("name", "bob"), ("password", PASSWORD), ("next", elsewhere))
    assert (reply.status, reply.headers["location"]) == (303, "/")


async def test_the_page_offers_github_only_if_it_can_be_used(lab: ServiceBench, tmp_path: Path) -> None:
    assert "GitHub" not in (await Visitor(lab).see("/sign-in")).words
    github = GitHubSignIn(client_id="id", client_secret="secret", url="http://127.0.0.1:9", logins={"x": Role.READER})
    async with service(tmp_path / "other", pages=True, github=github) as other:
        assert "/api/v1/sign-in/github" in (await Visitor(other).see("/sign-in")).links


# What pages send


async def test_a_form_is_taken_from_our_own_page_alone(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    for fields in ((), (("csrf", "guessed"),)):
        reply = await visitor.post("/look", *fields, ("look", "dark"))
        assert reply.status == 403
        assert "load the page again" in SeenPage(reply.text).words
    reply = await visitor.post("/look", ("look", "dark"), Origin="http://evil.example")
    assert reply.status == 403
    assert "dispatch-look" not in visitor.cookies


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": FORM, "Content-Encoding": "gzip"}, gzip.compress(b"a=b"), 415),
        ({"Content-Type": FORM}, b"a=" + b"b" * 70_000, 413),
        ({"Content-Type": FORM}, b"a=%ff", 400),
        ({"Content-Type": FORM}, b"&".join([b"a=b"] * 3000), 400),
    ],
    ids=["another type", "packed", "long", "no text", "many fields"],
)
async def test_a_body_that_is_no_form_is_refused(
    lab: ServiceBench, headers: dict[str, str], body: bytes, status: int
) -> None:
    visitor = await signed_in(lab, "bob")
    reply = await visitor.ask("POST", "/look", headers=headers, body=body)
    assert reply.status == status
    assert "expected a form" in SeenPage(reply.text).words


async def test_a_form_must_say_how_long_it_is(lab: ServiceBench) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"look=dark"

    visitor = await signed_in(lab, "bob")
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{lab.bench.api_port}", timeout=PATIENCE) as client:
        reply = await client.post("/look", content=pieces(), headers={"Content-Type": FORM, "Cookie": cookie})
    assert reply.status_code == 411
    assert "with its length in Content-Length" in SeenPage(reply.text).words


async def test_a_viewer_chooses_how_pages_look(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    assert (await visitor.see("/")).all("html")[0]["data-look"] == "system"
    reply = await visitor.submit("/look", ("look", "dark"), ("next", "/?a=b"))
    assert (reply.status, reply.headers["location"]) == (303, "/?a=b")
    assert (await visitor.see("/")).all("html")[0]["data-look"] == "dark"
    await visitor.submit("/look", ("look", "<script>"))
    assert (await visitor.see("/")).all("html")[0]["data-look"] == "system"


# How pages are sent


@pytest.mark.parametrize("path", [*PAGES, *OF_THE_PAST, *OF_THE_LAB, "/sign-in"])
async def test_nothing_in_a_page_is_inline_or_from_elsewhere(lab: ServiceBench, path: str) -> None:
    run = await lab.bench.one()
    await lab.bench.download(run)
    reply = await (await signed_in(lab, "ada")).ask("GET", path.format(run=run.id))
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    page = SeenPage(reply.text)
    attributes = {name for each in page.elements for name in each.attributes}
    assert not {name for name in attributes if name == "style" or name.startswith("on")}
    loaded = [each.get("src") or each.get("href", "") for each in [*page.all("script"), *page.all("link")]]
    assert loaded
    assert {each.rpartition("/")[0].removesuffix("/vendor") for each in loaded} == {f"/static/{assets.build()}"}
    assert not page.all("style")


async def test_a_page_that_is_the_same_costs_nothing(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    first = await visitor.ask("GET", "/")
    again = await visitor.ask("GET", "/", headers={"If-None-Match": first.headers["etag"], "Dispatch-Page": "1"})
    assert (again.status, again.body) == (304, b"")
    [body] = SeenPage(first.text).all("body")
    assert f'"{body["data-etag"]}"' == first.headers["etag"], "which a script asks with that has just been loaded"
    assert float(again.headers["dispatch-pace"]) >= 0.5
    await lab.session(lab.secrets["bob"])
    changed = await visitor.ask("GET", "/", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status == 200


async def test_a_script_is_told_of_refusals_as_the_api_tells_them(lab: ServiceBench) -> None:
    reply = await Visitor(lab).ask("GET", "/", headers={"Dispatch-Page": "1"})
    assert reply.status == 401
    assert "to be signed in" in reply.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/nope", 404, ""),
        ("GET", "/queue/", 404, ""),
        ("GET", "//queue", 404, ""),
        ("POST", "/find", 405, "GET, HEAD"),
        ("PUT", "/queue", 405, "GET, HEAD, POST"),
    ],
)
@pytest.mark.parametrize("name", ["", "bob"])
async def test_what_no_page_has_is_told_on_one(
    lab: ServiceBench, method: str, path: str, status: int, allowed: str, name: str
) -> None:
    visitor = await signed_in(lab, name) if name else Visitor(lab)
    reply = await visitor.ask(method, path)
    page = SeenPage(reply.text)
    assert reply.status == status
    assert "/" in page.links
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert reply.headers.get("allow", "") == allowed


async def test_a_script_is_told_in_json_of_what_no_page_has(lab: ServiceBench) -> None:
    reply = await Visitor(lab).ask("POST", "/find", headers={"Dispatch-Page": "1"})
    assert (reply.status, reply.json) == (405, {"error": "expected GET, HEAD here, got POST"})


@pytest.mark.parametrize("path", ["/api/v1/me", "/api/v1/nothing", "/nope", "/healthz", "/", "/history.csv"])
async def test_nobody_on_the_way_keeps_an_answer(lab: ServiceBench, path: str) -> None:
    reply = await (await signed_in(lab, "ada")).ask("GET", path)
    assert (reply.headers["cache-control"], reply.headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_a_new_token_is_kept_by_nobody_on_the_way(lab: ServiceBench) -> None:
    reply = await lab.ask("POST", "/tokens", NewToken(label="nightly", user="bob"))
    assert reply.json["secret"]
    assert (reply.headers["cache-control"], reply.headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_files_are_kept_for_ever_and_loaded_packed(lab: ServiceBench) -> None:
    page = await Visitor(lab).see("/sign-in")
    [style] = [each["href"] for each in page.all("link") if each["rel"] == "stylesheet"]
    plain = await Visitor(lab).ask("GET", style)
    packed = await Visitor(lab).ask("GET", style, headers={"Accept-Encoding": "gzip"})
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3


@pytest.mark.parametrize("name", ["0000000000000000/lab.css", "{build}/none.js", "{build}/vendor/sortable.LICENSE"])
async def test_what_is_no_file_of_this_version_is_not_found(lab: ServiceBench, name: str) -> None:
    reply = await Visitor(lab).ask("GET", f"/static/{name.format(build=assets.build())}")
    assert reply.status == 404


async def test_no_file_outside_the_folder_is_served(lab: ServiceBench) -> None:
    for path in ("../page.py", "..%2fpage.py", "vendor/../../page.py", "%2e%2e/page.py"):
        reply = await Visitor(lab).ask("GET", f"/static/{assets.build()}/{path}")
        assert reply.status in (400, 403, 404), path


async def test_a_first_visit_is_small(lab: ServiceBench) -> None:
    files = [path.relative_to(assets.FOLDER).as_posix() for path in assets.FOLDER.rglob("*.*")]
    served = [name for name in files if not name.endswith(".LICENSE")]
    sizes = {}
    for name in served:
        reply = await Visitor(lab).ask("GET", assets.url_of(name), headers={"Accept-Encoding": "gzip"})
        assert reply.status == 200, name
        sizes[name] = len(reply.body)
    page = await (await signed_in(lab, "ada")).ask("GET", "/")
    assert sum(sizes.values()) + len(gzip.compress(page.body)) < MOST_BYTES


def test_whatever_is_not_ours_has_its_licence() -> None:
    vendored = {path.name.partition(".")[0] for path in (assets.FOLDER / "vendor").glob("*.js")}
    assert vendored == {path.stem for path in (assets.FOLDER / "vendor").glob("*.LICENSE")}


def test_scripts_load_nothing_from_elsewhere() -> None:
    for path in assets.FOLDER.glob("*.js"):
        found = re.findall(r'(?:from|import) "([^"]*)"', path.read_text())
        assert all(name.startswith("./") and (assets.FOLDER / name).exists() for name in found), path


# Whose words they are


HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("path", PAGES)
async def test_what_others_write_is_text_and_turns_nothing_around(lab: ServiceBench, path: str) -> None:
    bench = lab.bench
    names = (f"{HOSTILE}.efi", f"{HOSTILE}-2.efi")
    run, waits = await bench.submit(*(replace(bench.workload("a.efi"), name=name) for name in names))
    await bench.download(run)
    hostile = f"{HOSTILE}\u202e\x1b[31mred"
    assert (await bench.call("POST", source="127.0.0.2")).status == 200
    case = {"name": hostile, "outcome": "failed", "message": hostile}
    await bench.report(title=hostile, body=hostile, labels=[hostile], cases=[case])
    for held in ("/machines/127.0.0.2", f"/runs/{waits.id}", f"/runs/{run.id}"):
        await lab.ask("POST", f"{held}/hold", HoldWanted(reason=hostile))
    page = await (await signed_in(lab, "ada")).see(path.format(run=run.id))
    assert any(name in page.text for name in names)
    assert f"{HOSTILE}red" in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text
    assert not page.all("img")


async def test_a_page_of_somebody_else_gets_none_of_it(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    reply = await visitor.ask("GET", "/", headers={"Origin": "http://evil.example"})
    assert reply.status == 403


async def test_an_empty_lab_says_what_to_do_first(lab: ServiceBench) -> None:
    page = await (await signed_in(lab, "ada")).see("/")
    assert "First steps" in page.words
    assert "machines: - id: virtual-1" in page.words
    assert "pytest --dispatch-lab http://127.0.0.1 --dispatch-dir FOLDER" in page.words
    assert "No machines yet, nothing waits, nothing runs." in page.words
