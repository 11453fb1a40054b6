"""Who may use the API: which page asks, for which host, with which token; and what tokens of machines are worth."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from defences import BEARER, hostile, serves_others
from labs import LabBench, running_lab

from pytest_dispatch.lab.boot_tokens import SIZE, BootTokens
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.routes import ROUTES
from pytest_dispatch.server.limits.host_check import is_ours, names_of
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio


# The API: who was meant, and which page asks


OURS = names_of("Lab.example", "box")


@pytest.mark.parametrize(
    ("authority", "ours"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("192.168.1.5:", True),
        ("[::1]:8080", True),
        ("[FE80::1%eth0]", True),
        ("localhost:1", True),
        ("LOCALHOST.", True),
        ("lab.example:8080", True),
        ("box", True),
        ("box.local:8080", True),
        ("", False),
        (":8080", False),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("lab.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("box.evil.example", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1, evil.example", False),
        ("127.0.0.1:80:80", False),
        ("[evil.example]", False),
        ("[::1", False),
        ("::1", False),
        ("1", False),
        ("0x7f.1", False),
        ("١٢٧.0.0.1", False),
    ],
)
def test_a_lab_is_an_address_or_a_name_of_its_own(authority: str, ours: bool) -> None:
    assert is_ours(authority, OURS) is ours


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.nip.example:8080", "127.0.0.1\r\nHost: evil.example"])
@pytest.mark.parametrize("path", ["/openapi.json", "/sessions", "/nothing"])
@hostile("a page in a browser has its own name point at the lab (DNS rebinding)", "the API answers 421")
async def test_the_api_is_not_reached_by_another_name(tmp_path: Path, host: str, path: str) -> None:
    async with running_lab(tmp_path) as bench:
        wire = await bench.wire("127.0.0.1")
        await wire.send(f"GET {PREFIX}{path} HTTP/1.1\r\nHost: {host}\r\n{BEARER}\r\n")
        reply = await wire.reply()
        assert reply.status in (400, 421)  # 400: two of them
        assert "access-control-allow-origin" not in reply.headers
        await serves_others(bench)


@pytest.mark.parametrize(
    "host", ["lab", "lab.example.com:8080", "evil.example", "dispatch-1a2b.local", "_", "x y", "127.0.0.1:80:80"]
)
async def test_machines_may_call_the_lab_as_they_like(tmp_path: Path, host: str) -> None:
    """Users put names of theirs into boot URLs, and firmware sends what it makes of them."""
    async with running_lab(tmp_path) as bench:
        run = await bench.one()
        body = b'{"title": "t"}'
        for method, sent in (("HEAD", b""), ("GET", b""), ("POST", b""), ("PUT", body)):
            wire = await bench.wire()
            head = f"{method} /dispatch HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(sent)}\r\n\r\n"
            await wire.send(head.encode() + sent)
            assert (await wire.reply(body=method == "GET")).status == 200
        assert bench.attempt(run).state == State.REPORTED


CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"

#: What a browser sends for a page, or with a person before it. Any one of these tells it; not all browsers send all.
OF_BROWSERS = [
    ("Origin", "http://evil.example"),
    ("Origin", "null"),
    ("Origin", "https://127.0.0.1"),
    ("origin", "http://127.0.0.1"),  # the lab's own, as far as a page knows whose name leads here
    ("Origin", ""),
    ("Referer", "http://evil.example/"),
    ("Sec-Fetch-Mode", "no-cors"),
    ("Sec-Fetch-Site", "none"),
    ("sec-fetch-dest", "image"),
    ("Sec-CH-UA", '"Chromium";v="126"'),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Accept-Language", "de,en;q=0.5"),
    ("User-Agent", CHROME),
    ("User-Agent", "Mozilla/4.0 (compatible; MSIE 6.0)"),
    ("User-Agent", "AppleCoreMedia/1.0.0.20E247 (Macintosh; U; Intel Mac OS X 13_3; en_us)"),  # what <video> sends
    ("User-Agent", "stagefright/1.2 (Linux;Android 4.4.2)"),
    ("User-Agent", "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)"),
    ("User-Agent", "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"),
    ("User-Agent", "Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16"),
]
ACCEPTS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "image/avif,image/*,*/*;q=0.8",
    "text/css,*/*;q=0.1",
    "video/webm,video/ogg,video/*;q=0.9,application/ogg;q=0.7,audio/*;q=0.6,*/*;q=0.5",
]


@pytest.mark.parametrize(("name", "value"), OF_BROWSERS)
@hostile("a page in a browser of the lab's network sends requests", "403, without any CORS header; `OPTIONS` gets 405")
async def test_no_page_boots_or_reports(tmp_path: Path, name: str, value: str) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        before = bench.now(run)
        forged = '{"title":"forged","result":"passed"}'
        for method in ("HEAD", "GET", "POST", "PUT"):
            reply = await bench.bare(method, f"{name}: {value}\r\n", body=forged if method == "PUT" else "")
            assert reply.status == 403
            said = "such a User-Agent" if name == "User-Agent" else name.title()
            told = f"this is for machines to boot from, not for browsers, and no machine sends {said}\n"
            assert method == "HEAD" or reply.text == told
            assert not [header for header in reply.headers if header.startswith("access-control")]
        assert bench.now(run) == before


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@hostile("a person opens the boot URL in a browser", "403: it is for machines", "no workload is given away")
async def test_a_browser_gets_no_workload(tmp_path: Path, method: str, accept: str) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.one()
        assert (await bench.bare(method, f"Accept: {accept}\r\n")).status == 403
        assert bench.attempt(run).state == State.UNASSIGNED


@hostile("a page has its own name point at the lab and asks for workloads (DNS rebinding)", "403")
async def test_a_page_under_a_name_that_leads_to_the_lab_gets_nowhere(tmp_path: Path) -> None:
    """Its requests are of its own origin: `GET` has no Origin, and Firefox lets it say which agent it is."""
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        before = bench.now(run)
        for method, more in (("GET", ""), ("POST", "Origin: http://evil.example:8080\r\n")):
            sent = f"User-Agent: UefiHttpBoot/1.0\r\nAccept: */*\r\nAccept-Language: de\r\n{more}Content-Length: 0\r\n"
            wire = await bench.wire()
            await wire.send(f"{method} /dispatch HTTP/1.1\r\nHost: evil.example:8080\r\n{sent}\r\n")
            assert (await wire.reply()).status == 403
        assert bench.now(run) == before


ORIGINS = ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", ""]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_no_page_may_ask_the_api(tmp_path: Path, origin: str) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        before = bench.now(run)
        replies = [
            await bench.api("GET", "/openapi.json", Origin=origin),
            await bench.api("DELETE", f"/runs/{run.id}", Origin=origin),
        ]
        assert {reply.status for reply in replies} == {403}
        asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        replies += [await bench.call("OPTIONS", f"{PREFIX}/sessions", headers={**asked, "Host": "127.0.0.1"})]
        assert not [name for reply in replies for name in reply.headers if name.startswith("access-control")]
        assert bench.now(run) == before


async def test_the_labs_own_page_may_ask(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        own = f"http://127.0.0.1:{bench.port}"
        wire = await bench.wire()
        await wire.send(
            f"GET {PREFIX}/openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nOrigin: {own}\r\n{BEARER}\r\n"
        )
        assert (await wire.reply()).status == 200


async def told(bench: LabBench, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    reply = await bench.call(method, path)
    return reply.status, {name: value for name, value in reply.headers.items() if name != "date"}, reply.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_without_the_token_nobody_learns_what_there_is(tmp_path: Path, method: str) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.one()
        there = [route.path.format(session=run.session, run=run.id, digest="sha256:0") for route in ROUTES]
        elsewhere = await told(bench, method, f"{PREFIX}/nothing/of/the/kind")
        assert elsewhere[0] == (405 if method == "OPTIONS" else 401)
        for path in dict.fromkeys(there):
            assert await told(bench, method, PREFIX + path) == elsewhere


# Tokens of machines


def test_a_token_cannot_be_guessed() -> None:
    tokens = BootTokens()
    given = [tokens.renew("m", 0.0) for _ in range(100)]
    assert len(set(given)) == 100
    assert {len(base64.urlsafe_b64decode(token + "==")) for token in given} == {SIZE}
    assert SIZE * 8 >= 128


def test_only_the_latest_token_is_in_use() -> None:
    tokens = BootTokens()
    old, other, new = tokens.renew("a", 1.0), tokens.renew("b", 2.0), tokens.renew("a", 3.0)
    bearers = {token: tokens.bearer(token) for token in (old, other, new)}
    assert {token: bearer and (bearer.machine, bearer.until) for token, bearer in bearers.items()} == {
        old: ("a", 3.0),
        other: ("b", float("inf")),
        new: ("a", float("inf")),
    }
    assert tokens.bearer("") is None
