"""Uploads: bytes by digest, for who sent them, whole and checked, within bounds; over real sockets."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from boots import boots, but
from faults import fault
from fetching import publish, sha256, token_of
from labs import TOKEN, LabBench, Reply, running_lab
from waiting import until

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.client.uploading import PIECE
from pytest_dispatch.core.errors import FetchError, LabError
from pytest_dispatch.core.leases import CONNECTIONS_GONE, UNHEARD
from pytest_dispatch.core.model import Outcome, Policy, Run, Workload
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.server.api.uploads import PIECE as WRITTEN
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.sources.uploads import MOST
from pytest_dispatch.testing.github import FakeGitHub
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 2, of=__name__)]

SESSION = OpenSession(source="w", policy=Policy(retries=0))
LIMIT = 100_000
NOT_ITS_OWN = "expected the digest of 3000 bytes that this session has uploaded, got DIGEST; upload them first"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    """A lab that several sessions share."""
    async with running_lab(tmp_path, private=False) as running:
        yield running


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[LabBench]:
    """One with little room."""
    async with running_lab(tmp_path, private=False, cache=lambda path: AssetFetcher(path, LIMIT, None)) as running:
        yield running


async def opened(bench: LabBench) -> str:
    session: str = (await bench.api("POST", "/sessions", SESSION)).json["id"]
    return session


def where(session: str, digest: str) -> str:
    return f"/api/v1/sessions/{session}/bytes/{digest}"


async def put(
    bench: LabBench,
    session: str,
    content: bytes,
    *,
    digest: str = "",
    size: object = None,
    offset: object = 0,
    **headers: str,
) -> Reply:
    given = {"Authorization": f"Bearer {TOKEN}", "Dispatch-Epoch": "1", **headers}
    target = f"{where(session, digest or sha256(content))}?size={len(content) if size is None else size}"
    return await bench.call("PUT", f"{target}&offset={offset}", source="127.0.0.1", headers=given, body=content)


async def how_far(bench: LabBench, session: str, digest: str) -> tuple[int, bool]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Dispatch-Epoch": "1"}
    reply = await bench.call("GET", where(session, digest), source="127.0.0.1", headers=headers)
    assert reply.status == 200
    return reply.json["received"], reply.json["complete"]


async def submit(bench: LabBench, session: str, *workloads: Workload) -> Reply:
    wanted = [RunRequest(key=each.name, workload=each) for each in workloads]
    return await bench.api("POST", f"/sessions/{session}/runs", wanted, **{"Dispatch-Epoch": "1"})


def named(content: bytes, name: str = "a.efi") -> Workload:
    return boots(name, location=sha256(content), size=len(content))


async def ran(bench: LabBench, session: str, content: bytes, name: str = "a.efi") -> Run:
    """A run of what was uploaded, which a machine takes, boots and reports of."""
    [view] = (await submit(bench, session, named(content, name))).json
    run = bench.lab.session_service.run(view["run"]["id"])
    await until(lambda: run.id in bench.boot.assets)
    await bench.call("HEAD")
    assert (await bench.call("GET")).body == content
    assert (await bench.call("POST")).status == 200
    assert (await bench.report(result="passed")).status == 200
    await bench.call("HEAD")
    return bench.now(run)


def cache_folder(bench: LabBench) -> set[str]:
    return {path.name for path in bench.folder.glob("cache/sha256/*")}


# What is uploaded can be run


async def test_what_was_uploaded_is_run(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3 * WRITTEN + 7)
    assert await how_far(bench, session, sha256(content)) == (0, False)
    reply = await put(bench, session, content)
    assert (reply.status, reply.json) == (200, {"received": len(content), "complete": True})
    assert await how_far(bench, session, sha256(content)) == (len(content), True)
    run = await ran(bench, session, content)
    assert run.outcome is Outcome.PASSED
    assert bench.lab.lab_state.digest_of(run) == sha256(content)


async def test_pieces_are_put_together_and_an_answer_that_was_lost_is_given_again(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(1000)
    for start in range(0, 1000, 300):
        piece = content[start : start + 300]
        reply = await put(bench, session, piece, digest=sha256(content), size=1000, offset=start)
        assert reply.json == {"received": start + len(piece), "complete": start + len(piece) == 1000}
    again = await put(bench, session, b"", digest=sha256(content), size=1000, offset=1000)  # its answer was lost
    assert again.json == {"received": 1000, "complete": True}
    assert (await ran(bench, session, content)).outcome is Outcome.PASSED


@fault(
    "pytest",
    "A connection is lost in the middle of an upload",
    outcome="what came stays, and the rest is sent by another connection",
    told="nothing; 5 connections one after the other that bring nothing end it: `cannot be uploaded`",
)
async def test_a_connection_that_is_lost_costs_nothing_that_was_written(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3 * WRITTEN)
    wire = await bench.wire("127.0.0.1")
    await wire.send(head_of(session, content).encode() + content[: 2 * WRITTEN + 7])
    received = 0
    async with asyncio.timeout(60):
        while received < WRITTEN:
            received, complete = await how_far(bench, session, sha256(content))
    assert not complete
    wire.reset()
    while True:  # what had come may still be on its way to the disk: then it is told where to go on
        reply = await put(
            bench, session, content[received:], digest=sha256(content), size=len(content), offset=received
        )
        if reply.status == 200:
            break
        assert reply.status == 409
        received, _ = await how_far(bench, session, sha256(content))
    assert reply.json["complete"]
    assert (await ran(bench, session, content)).outcome is Outcome.PASSED


def head_of(session: str, content: bytes) -> str:
    """Of a request with all of it."""
    head = f"PUT {where(session, sha256(content))}?size={len(content)}&offset=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return f"{head}Authorization: Bearer {TOKEN}\r\nDispatch-Epoch: 1\r\nContent-Length: {len(content)}\r\n\r\n"


async def test_two_sessions_send_the_same_at_once_and_it_is_kept_once(bench: LabBench) -> None:
    one, other = await opened(bench), await opened(bench)
    content = secrets.token_bytes(2 * WRITTEN)
    half = len(content) // 2
    for session in (one, other):
        await put(bench, session, content[:half], digest=sha256(content), size=len(content))
    ends = await asyncio.gather(
        *(
            put(bench, session, content[half:], digest=sha256(content), size=len(content), offset=half)
            for session in (one, other)
        )
    )
    assert [end.json for end in ends] == [{"received": len(content), "complete": True}] * 2
    assert cache_folder(bench) == {sha256(content).removeprefix("sha256:")}
    assert not list((bench.folder / "cache" / "partial").iterdir())
    for session in (one, other):
        assert (await ran(bench, session, content)).outcome is Outcome.PASSED


async def test_two_connections_send_the_same_piece_and_one_is_told_where_to_go_on(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(2000)
    sent = (put(bench, session, content[:1000], digest=sha256(content), size=2000) for _ in range(8))
    statuses = sorted([reply.status for reply in await asyncio.gather(*sent)])
    assert statuses == [200, *[409] * 7]
    assert await how_far(bench, session, sha256(content)) == (1000, False)
    assert (await put(bench, session, content[1000:], digest=sha256(content), size=2000, offset=1000)).json["complete"]


# To know a digest gives nothing


@fault(
    "Hostile input",
    "A client names the digest of bytes that another session uploaded",
    outcome="nothing is run; whether anybody has them shows nowhere",
    told="400, and that its session has not uploaded them",
)
async def test_what_another_session_sent_is_not_there_for_this_one(bench: LabBench) -> None:
    """Neither to run nor to know of: the answers are those for bytes that nobody has."""
    owner, content = await opened(bench), secrets.token_bytes(3000)
    assert (await put(bench, owner, content)).json["complete"]
    await ran(bench, owner, content)
    other, nobodys = await opened(bench), secrets.token_bytes(3000)
    answers = []
    for guess in (content, nobodys):
        refused = await submit(bench, other, named(guess))
        begun = await put(bench, other, guess[:100], digest=sha256(guess), size=3000)
        empty = await put(bench, other, b"", digest=sha256(guess), size=3000, offset=100)
        text = refused.json["error"].replace(sha256(guess), "DIGEST")
        answers.append((await how_far(bench, other, sha256(guess)), refused.status, text, begun.json, empty.json))
    assert answers[0] == answers[1]
    assert answers[0][0] == (100, False)
    assert answers[0][1:3] == (
        400,
        f"a.efi: payload: location: {NOT_ITS_OWN}",
    )
    wrong = await put(bench, other, bytes(2900), digest=sha256(content), size=3000, offset=100)
    assert wrong.status == 400  # the beginning alone does not do


async def test_what_is_not_whole_cannot_be_run(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    await put(bench, session, content[:2999], digest=sha256(content), size=3000)
    reply = await submit(bench, session, named(content))
    assert reply.status == 400
    assert not bench.lab.session_service.runs(session)


@fault(
    "Hostile input",
    "A client of the API names an absolute path, a way out of a folder, or another server",
    outcome="nothing is read, and nothing run",
    told="400, what was expected and what came",
)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": 2999}, "location: expected the digest of 2999 bytes that this session has uploaded"),
        (
            {"location": "/etc/passwd"},
            "location: expected folder:NAME/FILE in one of the lab's folders",
        ),
        ({"location": "file:///etc/passwd"}, "location: expected folder:NAME/FILE"),
        (
            {"location": "folder:w/../secret"},
            "location: expected a file by its way down from the folder",
        ),
        ({"location": "folder:w/\0"}, "location: expected a file by its way down"),
        (
            {"location": "folder:x/a.efi"},
            "location: expected a file in one of the lab's folders (w), got",
        ),
        ({"location": "http://127.0.0.1:1/x"}, "location: expected folder:NAME/FILE"),
        ({"location": 7}, "location: expected text, got 7"),
        ({"size": 0}, "size: expected a number of bytes, got 0"),
        ({"size": 1e3}, "size: expected a number of bytes, got 1000.0"),
        ({"size": "3000"}, "size: expected a number of bytes, got '3000'"),
        ({"media": "floppy"}, "media: expected one of efi, iso, img, got 'floppy'"),
        ({"media": ["efi"]}, "media: expected one of efi, iso, img, got ['efi']"),
        ({"path": "/etc/passwd"}, "expected media, location and size, got media"),
    ],
)
async def test_what_no_lab_reads_is_refused_in_one_line(bench: LabBench, changes: dict[str, Any], why: str) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    await put(bench, session, content)
    reply = await submit(bench, session, named(content, "good.efi"), but(named(content), **changes))
    assert reply.status == 400
    assert reply.json["error"].startswith(f"a.efi: payload: {why}")
    assert "\n" not in reply.json["error"]
    assert not bench.lab.session_service.runs(session)  # nor is the good one run


async def test_the_digest_is_the_workload_s_version(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(30)
    await put(bench, session, content)
    wanted = boots("a.efi", location=sha256(content), size=30, digest=sha256(b"other"))
    reply = await submit(bench, session, wanted)
    assert (reply.status, reply.json["error"].partition(": expected")[0]) == (400, "a.efi: payload: location")


# What comes is checked


@fault(
    "Hostile input",
    "Other bytes are uploaded than their digest says",
    outcome="they are not kept, and nothing can be run of them",
    told="400 with both digests; all of them are to be sent again",
)
async def test_other_bytes_than_was_said_are_refused_and_may_be_sent_anew(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    spoiled = bytes(1) + content[1:]
    reply = await put(bench, session, spoiled, digest=sha256(content))
    assert reply.status == 400
    told = f"expected bytes of {sha256(content)}, got those of {sha256(spoiled)}: the file was changed meanwhile; "
    assert reply.json["error"] == f"{told}send all of it again"
    assert await how_far(bench, session, sha256(content)) == (0, False)
    assert not cache_folder(bench)
    assert (await put(bench, session, content)).json["complete"]
    assert (await ran(bench, session, content)).outcome is Outcome.PASSED


async def test_more_than_was_said_is_refused(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    reply = await put(bench, session, content, size=2999)
    assert (reply.status, reply.json) == (413, {"error": "expected 2999 bytes, got more"})
    chunked = await _chunked(bench, session, content, size=2999)
    assert (chunked.status, chunked.json) == (413, {"error": "expected 2999 bytes, got more"})
    assert await how_far(bench, session, sha256(content)) == (0, False)


async def _chunked(bench: LabBench, session: str, content: bytes, size: int) -> Reply:
    """A body whose length is not told before."""
    wire = await bench.wire("127.0.0.1")
    head = f"PUT {where(session, sha256(content))}?size={size} HTTP/1.1\r\nHost: 127.0.0.1\r\nDispatch-Epoch: 1\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n{len(content):x}\r\n"
    await wire.send(head.encode() + content + b"\r\n0\r\n\r\n")
    return await wire.reply()


async def test_a_body_whose_length_is_not_told(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    assert (await _chunked(bench, session, content, size=3000)).json == {"received": 3000, "complete": True}


@pytest.mark.parametrize("offset", [1, 1000, 10**15])
async def test_bytes_that_do_not_go_on_from_those_that_are_there(bench: LabBench, offset: int) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    await put(bench, session, content[:500], digest=sha256(content), size=3000)
    reply = await put(bench, session, b"x", digest=sha256(content), size=2 * 10**15, offset=offset)
    assert reply.status in (400, 413)  # it was said to be of another size
    reply = await put(bench, session, b"x", digest=sha256(content), size=3000, offset=min(offset, 2999))
    assert reply.status == 409
    assert reply.json == {"error": f"expected bytes from 500 on, got some from {min(offset, 2999)} on"}
    assert await how_far(bench, session, sha256(content)) == (500, False)


@pytest.mark.parametrize(
    ("target", "status", "why"),
    [
        ("sha256:x?size=5&offset=0", 400, "expected sha256: and 64 hex digits in lower case, got 'sha256:"),
        (f"sha256:{'A' * 64}?size=5", 400, "expected sha256: and 64 hex digits in lower case"),
        (
            "..%2f..%2fjournal.db?size=5",
            400,
            "expected sha256: and 64 hex digits in lower case, got '../../journal.db'",
        ),
        ("%00?size=5", 400, "expected sha256: and 64 hex digits in lower case, got '\\x00'"),
        (f"sha256:{'a' * 64}%0a?size=5", 400, "expected sha256: and 64 hex digits in lower case"),
        (f"{'a' * 2000}?size=5", 400, "expected sha256: and 64 hex digits in lower case"),
        (f"sha256:{'a' * 64}", 400, "size: expected a number of bytes, got 0"),
        (f"sha256:{'a' * 64}?size=1.5", 400, "query parameter size: expected a number of bytes, got 1.5"),
        (f"sha256:{'a' * 64}?size=-1", 400, "query parameter size: expected a number of bytes, got -1.0"),
        (f"sha256:{'a' * 64}?size=1e300", 400, "query parameter size: expected a number of bytes, got 1e+300"),
        (f"sha256:{'a' * 64}?size=nan", 400, "query parameter size: expected a number, got 'nan'"),
        (f"sha256:{'a' * 64}?size=5&offset=-2", 400, "query parameter offset: expected a number of bytes, got -2.0"),
        (f"sha256:{'a' * 64}?size=1e15", 413, "expected at most 1000000000 bytes (dispatch_cache_limit), got"),
    ],
)
async def test_what_is_no_upload_is_refused_and_not_kept(bench: LabBench, target: str, status: int, why: str) -> None:
    session = await opened(bench)
    given = {"Authorization": f"Bearer {TOKEN}", "Dispatch-Epoch": "1"}
    path = f"/api/v1/sessions/{session}/bytes/{target}"
    reply = await bench.call("PUT", path, source="127.0.0.1", headers=given, body=b"hello")
    assert (reply.status, reply.json["error"][: len(why)]) == (status, why)
    files = [path for path in bench.folder.rglob("*") if path.is_file() and b"hello" in path.read_bytes()]
    assert not files


async def test_bytes_of_who_may_not_send_are_refused(bench: LabBench) -> None:
    session, content = await opened(bench), b"MZ"
    assert (await put(bench, session, content, Authorization="Bearer guess")).status == 401
    assert (await put(bench, session, content, **{"Content-Encoding": "gzip"})).status == 415
    assert (await put(bench, "nothing", content)).status == 404
    target = f"{where(session, sha256(content))}?size=2"
    bare = await bench.call(
        "PUT", target, source="127.0.0.1", headers={"Authorization": f"Bearer {TOKEN}"}, body=content
    )
    assert bare.status == 428
    await bench.api("POST", f"/sessions/{session}/lease", SESSION)
    assert (await put(bench, session, content)).status == 409
    assert (await put(bench, session, content, **{"Dispatch-Epoch": "2"})).json["complete"]


async def test_a_session_that_is_taken_over_in_the_middle_of_it(bench: LabBench) -> None:
    """What its earlier holder still sends is not taken."""
    session, content = await opened(bench), secrets.token_bytes(4 * WRITTEN)
    wire = await bench.wire("127.0.0.1")
    await wire.send(head_of(session, content).encode() + content[: 2 * WRITTEN])
    received, given = 0, {"Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(60):
        while received < WRITTEN:
            reply = await bench.call("GET", where(session, sha256(content)), source="127.0.0.1", headers=given)
            received = reply.json["received"]
    await bench.api("POST", f"/sessions/{session}/lease", SESSION)
    await wire.send(content[2 * WRITTEN :])
    assert (await wire.reply()).status == 409
    reply = await bench.call("GET", where(session, sha256(content)), source="127.0.0.1", headers=given)
    assert reply.json["received"] < len(content)
    assert not cache_folder(bench)


# Bounds


async def test_uploads_that_are_begun_and_not_ended_have_a_bound(bench: LabBench) -> None:
    session = await opened(bench)
    contents = [f"{n} bytes".encode() for n in range(MOST + 1)]
    replies = [await put(bench, session, each[:1], digest=sha256(each), size=len(each)) for each in contents]
    assert [reply.status for reply in replies] == [*[200] * MOST, 400]
    assert replies[-1].json == {"error": f"expected at most {MOST} uploads at once, got one more; complete those first"}
    rest = await put(bench, session, contents[0][1:], digest=sha256(contents[0]), size=len(contents[0]), offset=1)
    assert rest.json["complete"]
    assert (await put(bench, session, contents[-1])).json["complete"]


@fault(
    "The disk",
    "The cache is full, and what is in it is needed by runs",
    outcome="an upload is refused, a run that needs more bytes is an error of the lab; what runs need stays",
    told="507, `the lab's cache is full`; it may be tried again when runs are over",
)
async def test_what_no_run_needs_goes_first_and_what_one_needs_never(narrow: LabBench) -> None:
    session = await opened(narrow)
    old, needed, new = (secrets.token_bytes(40_000) for _ in range(3))
    for content in (old, needed):
        assert (await put(narrow, session, content)).json["complete"]
    assert (await ran(narrow, session, old, "old.efi")).outcome is Outcome.PASSED
    [view] = (await submit(narrow, session, named(needed, "needed.efi"))).json
    await until(lambda: view["run"]["id"] in narrow.boot.assets)
    assert (await put(narrow, session, new)).json["complete"]  # in the place of the one that was run
    assert cache_folder(narrow) == {sha256(each).removeprefix("sha256:") for each in (needed, new)}
    assert await how_far(narrow, session, sha256(old)) == (0, False)
    reply = await put(narrow, session, old)
    assert reply.status == 507
    assert reply.json["error"] == (
        "the lab's cache is full: 20000 bytes too many for its 100000, and what is in it is in use; wait until runs are"
        " over, or have a larger one (dispatch_cache_limit)"
    )
    await narrow.call("HEAD")
    assert (await narrow.call("GET")).body == needed


@pytest.mark.parametrize("how", ["closed", "unheard", "connections gone"])
async def test_what_a_session_sent_goes_with_it(narrow: LabBench, how: str) -> None:
    gone, content = await opened(narrow), secrets.token_bytes(60_000)
    await put(narrow, gone, content)
    living = await opened(narrow)
    assert (await put(narrow, living, bytes(60_000))).status == 507
    if how == "closed":
        await narrow.api("DELETE", f"/sessions/{gone}", **{"Dispatch-Epoch": "1"})
    else:
        narrow.clock.ahead += UNHEARD + CONNECTIONS_GONE + 1
        living = await opened(narrow)
        await until(lambda: not narrow.lab.queue.table.is_attended(gone))
    async with asyncio.timeout(60):
        while (reply := await put(narrow, living, bytes(60_000))).status == 507:
            pass
    assert reply.json["complete"]


async def test_an_upload_whose_beginning_was_removed_begins_anew(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    await put(bench, session, content[:2000], digest=sha256(content), size=3000)
    for path in (bench.folder / "cache" / "partial").iterdir():
        path.unlink()
    reply = await put(bench, session, content[2000:], digest=sha256(content), size=3000, offset=2000)
    assert reply.status == 409
    assert reply.json == {"error": "the first bytes were removed to make room; send all of them again"}
    assert (await put(bench, session, content)).json["complete"]


@fault(
    "The disk",
    "What was uploaded has been removed to make room, when a further run asks for it",
    outcome="error; uploaded anew, it runs",
    told="`what was uploaded has been removed to make room`",
)
async def test_what_was_removed_after_it_was_asked_for_is_no_fault_of_the_workload_s(narrow: LabBench) -> None:
    session, content = await opened(narrow), secrets.token_bytes(60_000)
    await put(narrow, session, content)
    await ran(narrow, session, content)
    other = await opened(narrow)
    assert (await put(narrow, other, bytes(60_000))).json["complete"]
    [view] = (await submit(narrow, session, named(content, "again.efi"))).json
    await until(lambda: narrow.lab.session_service.run(view["run"]["id"]).outcome)
    run = narrow.lab.session_service.run(view["run"]["id"])
    assert run.outcome is Outcome.ERROR
    assert "again.efi: what was uploaded has been removed to make room; upload it again" in run.reason


async def test_an_upload_that_stops_coming_is_told_so_and_keeps_what_came(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False, bounds=ServerLimits(stall=0.1)) as bench:
        session, content = await opened(bench), secrets.token_bytes(3000)
        wire = await bench.wire("127.0.0.1")
        await wire.send(head_of(session, content).encode() + content[:2000])
        reply = await wire.reply()
        assert reply.status == 408
        assert reply.json == {"error": "expected more of the body within 0.1s; go on from where it is"}
        assert await how_far(bench, session, sha256(content)) == (2000, False)


async def test_a_disk_that_cannot_be_written_is_told_without_its_path(bench: LabBench) -> None:
    session, content = await opened(bench), secrets.token_bytes(3000)
    await put(bench, session, content[:10], digest=sha256(content), size=3000)
    [partial] = (bench.folder / "cache" / "partial").iterdir()
    partial.unlink()
    partial.mkdir()
    reply = await put(bench, session, content[10:], digest=sha256(content), size=3000, offset=10)
    assert reply.status == 503
    assert reply.json == {"error": "the lab's cache cannot be used (Is a directory)"}


# A lab that comes back


async def test_a_journal_of_an_earlier_make_has_paths_and_is_gone_on_with(tmp_path: Path) -> None:
    """Those are files in the folders that this lab was started for, too; else they are refused."""
    for name in ("a.efi", "b.efi"):
        (tmp_path / name).write_bytes(name.encode())
    workloads = [boots(name, location=str(tmp_path / name), size=5) for name in ("a.efi", "b.efi")]
    async with running_lab(tmp_path) as bench:
        _, run = await bench.submit(*workloads)  # not by the API, which would refuse it today
        assert (await bench.call("GET")).body == b"a.efi"
        await until(lambda: bench.lab.session_service.runs(run.session)[0].attempt.state == State.DOWNLOADED)
    async with running_lab(tmp_path) as bench:
        request = OpenSession(source="w", policy=Policy(), resume=True)
        assert (await bench.api("POST", "/sessions", request)).json == {"id": run.session, "resumed": True, "epoch": 2}
        assert (await bench.call("POST")).status == 200  # of the one that was under way
        assert (await bench.report(result="passed")).status == 200
        wanted = [RunRequest(key=each.name, workload=but(each, location=f"folder:w/{each.name}")) for each in workloads]
        views = (await bench.api("POST", f"/sessions/{run.session}/runs", wanted)).json
        assert [view["run"]["workload"]["payload"]["location"] for view in views] == [
            str(tmp_path / "a.efi") if views[0]["run"]["outcome"] else "folder:w/a.efi",
            "folder:w/b.efi",
        ]
        await until(lambda: run.id in bench.boot.assets)
        await bench.call("HEAD")
        assert (await bench.call("GET")).body == b"b.efi"
        assert bench.lab.session_service.runs(run.session)[0].outcome is Outcome.PASSED


async def test_a_path_outside_of_the_lab_s_folders_is_no_fault_of_the_workload_s(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    async with running_lab(tmp_path / "lab") as bench:
        [run] = await bench.submit(boots("a.efi", location=str(tmp_path / "secret"), size=6), ready=False)
        await until(lambda: bench.now(run).outcome)
        assert bench.now(run).outcome is Outcome.ERROR
        assert "a.efi: expected a file in one of the lab's folders, got" in bench.now(run).reason


async def test_a_session_that_is_resumed_has_what_its_runs_were_given(tmp_path: Path) -> None:
    content = secrets.token_bytes(3000)
    async with running_lab(tmp_path, private=False) as bench:
        session = await opened(bench)
        await put(bench, session, content)
        await submit(bench, session, named(content))
    async with running_lab(tmp_path, private=False) as bench:
        request = OpenSession(source="w", policy=Policy(), resume=True)
        assert (await bench.api("POST", "/sessions", request)).json["resumed"]
        reply = await bench.api("GET", f"/sessions/{session}/bytes/{sha256(content)}")
        assert reply.json == {"received": 3000, "complete": True}
        stranger = await opened(bench)
        assert await how_far(bench, stranger, sha256(content)) == (0, False)


# A digest that a release names


async def test_the_name_of_a_digest_is_not_enough_where_others_share_the_cache(
    github: FakeGitHub, tmp_path: Path
) -> None:
    """Who names an asset that is not what another session has, with that one's digest, gets nothing."""
    private, own = publish(github, {"secret.efi": b"MZ secret", "own.efi": b"MZ public"}, private=True).values()
    async with aclosing(AssetFetcher(tmp_path / "cache", 10**9, token_of(github))) as cache:
        cache.share()
        kept = await cache.fetch(private)
        claimed = type(own)(name="w.efi", location=own.location, size=private.size, digest=private.digest)
        with pytest.raises(FetchError, match="expected sha256:"):
            await cache.fetch(claimed)
        gone = type(own)(name="w.efi", location=f"{own.location}99", size=private.size, digest=private.digest)
        with pytest.raises(FetchError, match="404"):
            await cache.fetch(gone)
        assert (await cache.fetch(private)).path == kept.path
    assert github.downloads["secret.efi"] == 1


async def test_bytes_of_the_same_digest_are_fetched_from_where_each_is_and_kept_once(
    github: FakeGitHub, tmp_path: Path
) -> None:
    one, other = publish(github, {"a.efi": b"MZ same", "b.efi": b"MZ same"}).values()
    async with aclosing(AssetFetcher(tmp_path / "cache", 10**9, None)) as cache:
        cache.share()
        assert (await cache.fetch(one)).path == (await cache.fetch(other)).path
    assert github.downloads == {"a.efi": 1, "b.efi": 1}
    async with aclosing(AssetFetcher(tmp_path / "cache", 10**9, None)) as cache:
        cache.share()
        await cache.fetch(one)
    assert github.downloads == {"a.efi": 1, "b.efi": 1}


async def test_where_others_share_the_cache_its_limit_holds(github: FakeGitHub, tmp_path: Path) -> None:
    one, other = publish(github, {"a.efi": bytes(700), "b.efi": bytes(800)}).values()
    async with aclosing(AssetFetcher(tmp_path / "cache", 1000, None)) as cache:
        cache.share()
        await cache.fetch(one, "a run")
        with pytest.raises(FetchError, match=r"^the lab's cache is full: 500 bytes too many for its 1000, "):
            await cache.fetch(other, "another")
        cache.release("a run")
        assert (await cache.fetch(other, "another")).size == 800


# The client


def a_file(folder: Path, size: int, name: str = "a.efi") -> Path:
    path = folder / "elsewhere" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(secrets.token_bytes(size))
    return path


async def in_client(bench: LabBench, work: Callable[[LabClient], Any], *, url: str = "") -> Any:
    def run() -> Any:
        client = LabClient(url or f"http://127.0.0.1:{bench.port}", TOKEN)
        try:
            return work(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


async def test_a_client_uploads_what_its_workloads_need(bench: LabBench) -> None:
    path = a_file(bench.folder, 1000)
    os.truncate(path, PIECE + 5)  # more than goes with one request
    wanted = [
        RunRequest(key=name, workload=boots(name, location=str(path), size=path.stat().st_size))
        for name in ("a.efi", "b.efi")
    ]

    def work(client: LabClient) -> Any:
        session = client.open(SESSION).id
        views = client.submit(session, wanted)
        assert client.submit(session, wanted) == views
        return [view.run.workload for view in views]

    workloads = await in_client(bench, work)
    digest = sha256(path.read_bytes())
    assert {workload.payload["location"] for workload in workloads} == {digest}
    assert {workload.digest for workload in workloads} == {digest}
    assert cache_folder(bench) == {digest.removeprefix("sha256:")}
    await until(lambda: len(bench.boot.assets) == 2)
    assert (await bench.call("GET")).body == path.read_bytes()


async def test_a_file_that_cannot_be_read_or_has_changed(bench: LabBench) -> None:
    path = a_file(bench.folder, 10)

    def work(client: LabClient) -> None:
        session = client.open(SESSION).id
        changed = boots("a.efi", location=str(path), size=10, digest=sha256(b"other"))
        with pytest.raises(LabError, match=r"^a\.efi: expected sha256:.*, got sha256:.*: the file has changed$"):
            client.submit(session, [RunRequest(key="k", workload=changed)])
        path.unlink()
        with pytest.raises(LabError, match=r"a\.efi: No such file or directory$"):
            client.submit(session, [RunRequest(key="k", workload=boots("a.efi", location=str(path), size=10))])

    await in_client(bench, work)


class Cut:
    """Between client and lab: of each connection it lets so many bytes through, and then cuts it."""

    def __init__(self, port: int, cuts: list[int], seen: Callable[[bytes], object] = lambda _data: None) -> None:
        self._port = port
        self._cuts = cuts
        self._seen = seen
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        left = self._cuts.pop(0) if self._cuts else 10**12
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._pass(theirs, writer))
        with suppress(ConnectionError):
            while left > 0 and (data := await reader.read(min(left, 65536))):
                left -= len(data)
                self._seen(data)
                ours.write(data)
                await ours.drain()
        back.cancel()
        for each in (ours, writer):
            each.close()
        await asyncio.gather(back, ours.wait_closed(), writer.wait_closed(), return_exceptions=True)

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def test_a_client_goes_on_after_connections_that_were_cut(bench: LabBench) -> None:
    path = a_file(bench.folder, 8 * WRITTEN)
    cut = Cut(bench.port, [3_000_000, 2_000_000])
    async with await asyncio.start_server(cut.handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        def work(client: LabClient) -> tuple[str, int]:
            return client.upload(client.open(SESSION).id, path)

        assert await in_client(bench, work, url=url) == (sha256(path.read_bytes()), 8 * WRITTEN)
    assert cut.connections >= 3
    assert cache_folder(bench) == {sha256(path.read_bytes()).removeprefix("sha256:")}


async def test_a_client_whose_session_was_taken_over_is_told(bench: LabBench) -> None:
    path = a_file(bench.folder, 10)

    def work(client: LabClient) -> None:
        session = client.open(SESSION).id
        client.take_over(session, SESSION)
        client.epoch = 1
        with pytest.raises(LabError, match=r"^a\.efi cannot be uploaded: "):
            client.upload(session, path)

    await in_client(bench, work)


async def test_a_client_is_told_which_file_is_too_large(narrow: LabBench) -> None:
    path = a_file(narrow.folder, LIMIT + 1)

    def work(client: LabClient) -> None:
        why = r"^a\.efi cannot be uploaded: expected at most 100000 bytes \(dispatch_cache_limit\), got 100001$"
        with pytest.raises(LabError, match=why):
            client.submit(
                client.open(SESSION).id,
                [RunRequest(key="k", workload=boots("a.efi", location=str(path), size=LIMIT + 1))],
            )

    await in_client(narrow, work)


async def test_a_client_on_the_lab_s_computer_names_files_in_its_folders(bench: LabBench) -> None:
    (bench.folder / "a.efi").write_bytes(b"MZ")

    def work(client: LabClient) -> Any:
        client.uploader.locations = Locations(folders={"w": str(bench.folder)})
        wanted = [RunRequest(key="k", workload=boots("a.efi", location=str(bench.folder / "a.efi"), size=2))]
        return client.submit(client.open(SESSION).id, wanted)[0].run.workload.payload["location"]

    assert await in_client(bench, work) == "folder:w/a.efi"
    await until(lambda: bench.boot.assets)
    assert not cache_folder(bench)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: os.truncate(path, 2000), "this file is being written; start again when"),
        (lambda path: path.write_bytes(bytes(3000)), "expected bytes of sha256:"),
    ],
    ids=["shorter", "other"],
)
async def test_a_file_that_changes_while_it_is_uploaded(
    bench: LabBench, change: Callable[[Path], object], why: str
) -> None:
    path = a_file(bench.folder, 3000)
    cut = Cut(bench.port, [], lambda data: b"/bytes/sha256:" in data and data.startswith(b"GET") and change(path))
    async with await asyncio.start_server(cut.handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        def work(client: LabClient) -> None:
            session = client.open(SESSION).id
            with pytest.raises(LabError, match=rf"^a\.efi cannot be uploaded: {why}"):
                client.upload(session, path)

        await in_client(bench, work, url=url)
    assert not cache_folder(bench)


async def test_a_client_gives_up_when_nothing_gets_through(bench: LabBench) -> None:
    path = a_file(bench.folder, WRITTEN)
    cut = Cut(bench.port, [3000, *[0] * 50])
    async with await asyncio.start_server(cut.handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        def work(client: LabClient) -> None:
            session = client.open(SESSION).id
            with pytest.raises(LabError, match="cannot be reached"):
                client.upload(session, path)

        await in_client(bench, work, url=url)
