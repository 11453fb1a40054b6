"""Downloads that go wrong say how, and the token stays at home."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from faults import fault
from fetching import (
    ASSET,
    REPO,
    STORAGE,
    away,
    bytes_of,
    cache_in,
    complaint,
    fetch,
    publish,
    sha256,
    token_of,
)

from pytest_dispatch.core.errors import FetchError
from pytest_dispatch.core.secrets import ways_to_sign_in
from pytest_dispatch.sources.download import Patience, redirected
from pytest_dispatch.sources.partial_file import CHANGED, Wanted
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.testing.github import Exchange, FakeGitHub

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]

GONE = "it was deleted or replaced after the release was listed"


async def test_the_wrong_bytes(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ right"})["w.efi"]
    github.asset(REPO, "v1", "w.efi").content = b"MZ wrong"
    text = await complaint(tmp_path, wanted)
    assert text == f"w.efi: expected {wanted.digest[:19]}…, got {sha256(b'MZ wrong')[:19]}…: {CHANGED}"
    assert github.downloads["w.efi"] == 1
    assert not list((tmp_path / "cache" / "sha256").iterdir())


@pytest.mark.parametrize("told", [5, 12])
async def test_the_wrong_size(github: FakeGitHub, tmp_path: Path, told: int) -> None:
    publish(github, {"w.efi": b"MZ right"})
    github.asset(REPO, "v1", "w.efi").size = told
    wanted = list_release(REPO, "v1", None, github.url).workloads[0]
    assert await complaint(tmp_path, wanted) == f"w.efi: expected {told} bytes, 127.0.0.2 has 8: {CHANGED}"


async def test_more_bytes_than_promised(github: FakeGitHub, tmp_path: Path) -> None:
    """The whole is asked for in a part that fits, and comes with more behind it."""
    wanted = publish(github, {"w.efi": b"MZ right"})["w.efi"]
    answer = {"Content-Range": f"bytes 0-{wanted.size - 1}/{wanted.size}"}
    github.fail_next(STORAGE, status=206, message="more than eight", headers=answer)
    assert await complaint(tmp_path, wanted) == f"w.efi: expected 8 bytes, got more: {CHANGED}"


async def test_fewer_bytes_than_promised(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ right"}, digests=False)["w.efi"]
    answer = {"Content-Range": f"bytes 0-{wanted.size - 1}/{wanted.size}"}
    github.fail_next(STORAGE, status=206, message="MZ", headers=answer, times=9)
    text = await complaint(tmp_path, wanted)
    assert text == "w.efi: the download ended after 2 of 8 bytes"


@asynccontextmanager
async def raw_server(head: list[bytes]) -> AsyncIterator[str]:
    """Answers each request with these lines and two bytes, whatever HTTP libraries think of them; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\r\n".join([*head, b"Connection: close", b"", b"MZ"]))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/w.efi"


async def test_compressed_bytes(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(STORAGE, status=200, headers={"Content-Encoding": "br"})
    text = await complaint(tmp_path, wanted)
    assert text == "w.efi: expected the bytes as they are, 127.0.0.2 sent them as br"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "401 Unauthorized; is the token from GITHUB_TOKEN expired, revoked or mistyped?"),
        (403, "403 Forbidden; the token from GITHUB_TOKEN may not read it (Contents: read)"),
        (404, f"404 Not Found; {GONE}, or the token from GITHUB_TOKEN may not read it (Contents: read)"),
        (451, "451 Unavailable For Legal Reasons"),
    ],
)
async def test_what_asking_again_does_not_help(github: FakeGitHub, tmp_path: Path, status: int, told: str) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=status)
    assert await complaint(tmp_path, wanted, token_of(github)) == f"w.efi: 127.0.0.1 answered {told}"


async def test_an_asset_of_a_repository_that_was_blocked(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.add_repo(REPO, blocked="tos")
    assert await complaint(tmp_path, wanted, token_of(github)) == (
        "w.efi: 127.0.0.1 answered 403 Forbidden; GitHub has blocked it, which no token changes: ask its owner, or name"
        " another one"
    )


async def test_a_rate_limit_that_is_told_in_words_alone(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.limit_next(ASSET, secondary=True)
    assert "the rate limit of 127.0.0.1 is used up for 1m" in await complaint(tmp_path, wanted, token_of(github))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Content-Encoding": "\x9b31mbr\x07"}, "expected the bytes as they are, 127.0.0.1 sent them as 31mbr"),
        ({"Content-Encoding": "x" * 9000}, f"expected the bytes as they are, 127.0.0.1 sent them as {'x' * 79}…"),
    ],
)
async def test_headers_are_cleaned(github: FakeGitHub, tmp_path: Path, headers: dict[str, str], told: str) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    async with raw_server([b"HTTP/1.1 200 OK", *lines, b"Content-Length: 2"]) as url:
        github.fail_next(ASSET, status=302, headers={"Location": url})
        assert await complaint(tmp_path, wanted) == f"w.efi: {told}"


async def test_a_content_range_of_more_digits_than_python_reads(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    digits = b"Content-Range: bytes %s-1/2" % (b"0" * 5000)
    async with raw_server([b"HTTP/1.1 206 Partial Content", digits, b"Content-Length: 2"]) as url:
        github.fail_next(ASSET, status=302, headers={"Location": url}, times=9)
        text = await complaint(tmp_path, wanted)
    assert re.fullmatch(r"w\.efi: 127\.0\.0\.1: expected bytes 0-1/2, got bytes 0+…", text)


@pytest.mark.parametrize(
    "place", ["http://169.254.169.254/latest/meta-data", "http://192.0.2.1/x", "http://lab.local/x"]
)
async def test_a_redirect_to_another_computer_by_http(github: FakeGitHub, tmp_path: Path, place: str) -> None:
    """Also from an API on this computer."""
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=302, headers={"Location": place})
    text = await complaint(tmp_path, wanted)
    assert text == f"w.efi: expected an absolute path or an asset's https:// URL, got {place!r}"


@fault(
    "GitHub",
    "an asset or the release is replaced or deleted after it was downloaded",
    outcome="unchanged; all attempts boot what was downloaded, the next session too if the release still lists it",
    told="nothing",
)
async def test_what_was_downloaded_before_it_was_deleted(github: FakeGitHub, tmp_path: Path) -> None:
    both = publish(github, {"v.efi": b"MZ one", "w.efi": b"MZ two"})
    async with aclosing(cache_in(tmp_path)) as cache:
        had = [await cache.fetch(each) for each in both.values()]
        github.replace_asset(REPO, "v1", "v.efi", b"MZ new")
        github.remove_asset(REPO, "v1", "w.efi")
        assert [await cache.fetch(each) for each in both.values()] == had
    assert [(await fetch(tmp_path, each)).path for each in both.values()] == [each.path for each in had]
    assert github.downloads == {"v.efi": 1, "w.efi": 1}


async def test_a_private_asset_without_a_token(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"}, private=True)["w.efi"]
    assert await complaint(tmp_path, wanted) == (
        f"w.efi: 127.0.0.1 answered 404 Not Found; {GONE}, or it is private and needs a token "
        f"({ways_to_sign_in(github.url)})"
    )


@fault(
    "GitHub",
    "an asset's download runs into a rate limit that lasts longer",
    outcome="`error`",
    told="`the rate limit of api.github.com is used up for 55m`, without a token also that a token has a higher one",
)
async def test_a_rate_limit(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.limit_next(ASSET, secondary=True, seconds=300)
    text = "w.efi: the rate limit of 127.0.0.1 is used up for 5m"
    assert await complaint(tmp_path, wanted, token_of(github)) == text
    github.limit_next(ASSET, secondary=True, seconds=300)
    told = await complaint(tmp_path, wanted)
    assert told == f"{text}; a token has a limit of its own, which is far higher"


@fault(
    "GitHub",
    "an asset's download runs into a rate limit that lifts within 10 minutes",
    outcome="unchanged; the download goes on by itself",
    told="nothing",
)
@pytest.mark.parametrize("secondary", [True, False])
async def test_a_rate_limit_that_lifts_soon_is_waited_for(github: FakeGitHub, tmp_path: Path, secondary: bool) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.limit_next(ASSET, secondary=secondary, seconds=0)
    assert (await fetch(tmp_path, wanted, patience=Patience(pauses=(), limited=10.0))).size == 2


async def test_rate_limits_are_waited_for_so_long_in_all(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.limit_next(ASSET, secondary=True, seconds=1, times=9)
    patience = Patience(pauses=(), limited=1.5)
    assert "the rate limit of 127.0.0.1 is used up for 1s" in await complaint(tmp_path, wanted, patience=patience)
    asked = [count for call, count in github.requests.items() if "/releases/assets/" in call]
    assert asked == [2]


async def test_what_passes_is_waited_for(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=502, html=True)
    github.fail_next(STORAGE, status=403, message="Signature expired")
    github.fail_next(STORAGE, drop=True)
    assert (await fetch(tmp_path, wanted)).size == 2


async def test_what_does_not_pass_is_given_up(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(STORAGE, status=503, times=99)
    assert await complaint(tmp_path, wanted) == "w.efi: 127.0.0.2 answered 503 Service Unavailable"
    assert github.requests.total() == 2 + 2 * 4


@fault(
    "GitHub",
    "an asset comes slower than 1 KiB a second",
    outcome="unchanged if it comes faster later, else `error`",
    told="nothing, else `slower than 1024 bytes a second`; it is taken up from where it is, up to 5 times after "
    "0.5, 1, 2, 4, 8 s, and again whenever a MiB was gained",
)
async def test_bytes_that_trickle_in(github: FakeGitHub, tmp_path: Path) -> None:
    content = bytes_of(3000)
    wanted = publish(github, {"w.efi": content})["w.efi"]
    patience = Patience(timeout=0.2, pauses=(0.0,) * 50)  # a busy computer may be as slow now and then
    github.fail_next(STORAGE, trickle=0.01)
    assert (await fetch(tmp_path, wanted, patience=patience)).path.read_bytes() == content
    assert github.bytes_served >= wanted.size > 0


async def test_bytes_that_never_stop_to_trickle(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": bytes_of(3000)})["w.efi"]
    github.fail_next(STORAGE, trickle=0.01)
    text = await complaint(tmp_path, wanted, patience=Patience(timeout=2.0, pauses=()))
    assert text == "w.efi: 127.0.0.2: slower than 1024 bytes a second"


@fault(
    "GitHub",
    "the name of the host that hands assets out cannot be resolved (DNS gone)",
    outcome="`error` if it stays so",
    told="`storage.invalid: its name cannot be resolved (no network?)`; tried again after 0.5, 1, 2, 4, 8 s",
)
async def test_a_host_whose_name_is_gone(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    elsewhere = {"Location": "https://storage.invalid/w.efi"}
    github.fail_next(ASSET, status=302, headers=elsewhere, times=4)
    text = await complaint(tmp_path, wanted)
    assert text == "w.efi: storage.invalid: its name cannot be resolved (no network?)"
    asked = [count for call, count in github.requests.items() if "/releases/assets/" in call]
    assert asked == [4]
    assert (await fetch(tmp_path, wanted)).size == 2


@fault(
    "GitHub",
    "the repository is renamed while assets are downloaded",
    outcome="unchanged; the redirect is followed, with the token on the same server alone",
    told="nothing",
)
async def test_a_renamed_repository_is_followed(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"}, private=True)["w.efi"]
    github.rename_repo(REPO, "new/name")
    assert (await fetch(tmp_path, wanted, token_of(github))).size == 2


async def test_no_answer_in_time(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    gate = github.hold_next(STORAGE)
    text = await complaint(tmp_path, wanted, patience=Patience(timeout=2.0, pauses=()))
    gate.open()
    assert text == "w.efi: 127.0.0.2: no answer within 2s"


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wanted = away(f"http://127.0.0.1:{closed.getsockname()[1]}/x")
        assert await complaint(tmp_path, wanted) == "w.efi: 127.0.0.1: connection refused"


@pytest.mark.parametrize("location", ["relative.efi", "ftp://127.0.0.1/x", "", f"http://127.0.0.1/{'x' * 70_000}"])
async def test_a_location_that_is_none(tmp_path: Path, location: str) -> None:
    text = await complaint(tmp_path, away(location))
    assert text == f"w.efi: expected an absolute path or an asset's https:// URL, got {location[:60]!r}"


async def test_a_cache_folder_that_cannot_be_one(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    (tmp_path / "cache").write_text("a file")
    assert await complaint(tmp_path, wanted) == f"w.efi: File exists: {tmp_path / 'cache'}"


async def test_everybody_who_waits_hears_of_the_error(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=404)
    async with aclosing(cache_in(tmp_path)) as cache:
        both = await asyncio.gather(cache.fetch(wanted), cache.fetch(wanted), return_exceptions=True)
        assert all(isinstance(each, FetchError) for each in both)
        assert (await cache.fetch(wanted)).size == 2


async def authorizations(tmp_path: Path, ask: Callable[[FakeGitHub], Awaitable[None]]) -> list[str | None]:
    """What another server on this host, but at another port, gets to see of tokens."""
    seen: list[Exchange] = []
    with FakeGitHub(observer=seen.append) as other:
        await ask(other)
    return [each.headers.get("Authorization") for each in seen]


async def test_the_token_follows_no_redirect_to_another_port(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"}, private=True)["w.efi"]

    async def ask(other: FakeGitHub) -> None:
        github.fail_next(ASSET, status=302, headers={"Location": f"{other.url}/stolen"})
        await complaint(tmp_path, wanted, token_of(github))

    assert await authorizations(tmp_path, ask) == [None]


async def test_the_token_goes_to_no_location_but_its_api(github: FakeGitHub, tmp_path: Path) -> None:
    async def ask(other: FakeGitHub) -> None:
        await complaint(tmp_path, away(f"{other.url}/x"), token_of(github))

    assert await authorizations(tmp_path, ask) == [None]


async def test_the_token_is_in_no_log(github: FakeGitHub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = publish(github, {"w.efi": b"MZ"}, private=True)["w.efi"]
    caplog.set_level(logging.DEBUG)
    await fetch(tmp_path, wanted, token_of(github))
    assert caplog.records
    assert github.token not in caplog.text


async def test_redirects_come_to_an_end(github: FakeGitHub, tmp_path: Path) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=302, headers={"Location": wanted.location}, times=99)
    text = "w.efi: expected the asset after at most 5 redirects, got another one"
    assert await complaint(tmp_path, wanted) == text
    assert github.requests[f"GET /repos/{REPO}/releases/assets/{wanted.location.rpartition('/')[2]}"] == 6


@pytest.mark.parametrize(
    "location",
    ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://127.0.0.1:99999999/"],
)
async def test_redirects_to_nowhere(github: FakeGitHub, tmp_path: Path, location: str) -> None:
    wanted = publish(github, {"w.efi": b"MZ"})["w.efi"]
    github.fail_next(ASSET, status=302, headers={"Location": location})
    text = await complaint(tmp_path, wanted)
    assert text == f"w.efi: expected an absolute path or an asset's https:// URL, got {location!r}"


def test_a_redirect_from_a_secure_place_to_an_insecure_one() -> None:
    wanted = Wanted(name="w.efi", url="https://127.0.0.1/x", size=2, digest="")
    answer = httpx.Response(302, headers={"Location": "http://127.0.0.1/x"}, request=httpx.Request("GET", wanted.url))
    with pytest.raises(FetchError) as caught:
        redirected(wanted, answer)
    assert str(caught.value) == "w.efi: 127.0.0.1 redirects to an insecure place, 'http://127.0.0.1/x'"
