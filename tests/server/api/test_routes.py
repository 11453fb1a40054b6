"""The API: nobody enters without the token, what it answers, and how it says no."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from boots import boots
from hypothesis import given as given_any
from hypothesis import strategies as st
from labs import TOKEN, LabBench, Reply, Wire, running_lab, sims
from waiting import until

from pytest_dispatch.core.machine_table import SILENCE
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.session_feed import Feed
from pytest_dispatch.lab_program.in_process import make_machines
from pytest_dispatch.server.api.route import PREFIX, Route
from pytest_dispatch.server.api.routes import ROUTES
from pytest_dispatch.server.api.schemas import OpenSession, Review, RunRequest, Verdict
from pytest_dispatch.workloads.boot.lifecycle import Event, Expect, State

pytestmark = pytest.mark.anyio


def path_of(route: Route) -> str:
    return PREFIX + re.sub(r"\{\w+\}", "nothing", route.path)


SESSION = OpenSession(source="w", policy=Policy())


@pytest.mark.parametrize("payload", [{}, {"media": "efi"}, {"media": "efi", "location": "/w", "size": "big"}])
async def test_of_several_workloads_with_a_bad_payload_in_one_none_is_taken(
    bench: LabBench, payload: dict[str, object]
) -> None:
    session = (await bench.api("POST", "/sessions", SESSION)).json["id"]
    good, bad = bench.workload("a.efi"), replace(bench.workload("b.efi"), payload=payload)
    wanted = [RunRequest(key="a", workload=good), RunRequest(key="b", workload=bad)]
    reply = await bench.api("POST", f"/sessions/{session}/runs", wanted)
    assert reply.status == 400
    assert reply.json["error"].startswith("b.efi: payload: ")
    assert (await bench.api("GET", f"/sessions/{session}/runs")).json == []


# The door

PATHS = [(route.method, path_of(route)) for route in ROUTES] + [
    ("GET", PREFIX),
    ("GET", f"{PREFIX}/"),
    ("POST", f"{PREFIX}/nothing"),
    ("HEAD", f"{PREFIX}/openapi.json"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_answers_without_the_token(bench: LabBench, method: str, path: str) -> None:
    wrong = [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN]
    for given in [*wrong, "Bearer \u00ff\u00fe", f"Bearer {TOKEN}\u00ff"]:
        headers = {} if given is None else {"Authorization": given}
        reply = await bench.call(method, path, headers=headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert reply.headers["content-type"] == "application/json"
        assert TOKEN not in reply.text
        if method != "HEAD":
            assert reply.json == {"error": "expected the session's bearer token in the header Authorization"}


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
async def test_the_token_opens(bench: LabBench, given: str) -> None:
    reply = await bench.call("GET", f"{PREFIX}/openapi.json", headers={"Authorization": given})
    assert reply.status == 200


@pytest.mark.parametrize(("path", "method"), [("/nothing", "GET"), ("", "GET"), ("/", "POST"), ("/runs", "GET")])
async def test_an_unknown_path_says_so(bench: LabBench, path: str, method: str) -> None:
    reply = await bench.api(method, path)
    assert reply.status == 404
    assert reply.json == {"error": f"no '/api/v1{path}' here; /api/v1/openapi.json says what there is"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/sessions", "POST"), ("PUT", "/runs/x", "DELETE, GET"), ("POST", "/openapi.json", "GET")],
)
async def test_an_unknown_method_says_which_there_are(bench: LabBench, method: str, path: str, allowed: str) -> None:
    reply = await bench.api(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert reply.json == {"error": f"expected {allowed}, got {method}"}


BODIES: dict[tuple[str, str], object] = {
    ("POST", "/sessions/{session}/lease"): OpenSession(source="w", policy=Policy()),
    ("POST", "/sessions/{session}/runs"): [],
    ("POST", "/runs/{run}/verdict"): Verdict(),
    ("POST", "/runs/{run}/issues"): Review(issues={}),
}


@pytest.mark.parametrize("route", [r for r in ROUTES if "{" in r.path], ids=lambda r: f"{r.method}-{r.path}")
async def test_what_nobody_asked_for_is_unknown(bench: LabBench, route: Route) -> None:
    body = BODIES.get((route.method, route.path))
    reply = await bench.api(route.method, path_of(route).removeprefix(PREFIX), body)
    assert reply.status == 404
    assert reply.json["error"] in (
        "no session 'nothing'; open it first",
        "no run 'nothing'; submit it first",
    )


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/sessions", b"", "Input data was truncated"),
        ("/sessions", b"1", "Expected `object`, got `int`"),
        ("/sessions", b"{}", "Object missing required field `source`"),
        ("/sessions", b'{"source": "\xff"}', "'utf-8' codec can't decode"),
        ("/sessions", b"[" * 100_000, "Expected `object`, got `array`"),
        ("/sessions", b'{"x": ' + b"[" * 100_000, "maximum recursion depth exceeded"),
        ("/sessions/nothing/runs", b"{}", "Expected `array`, got `object`"),
        ("/sessions/nothing/runs", b'[{"key": 1}]', "Expected `str`, got `int`"),
        ("/runs/nothing/verdict", b'{"outcome": "great"}', "Invalid enum value 'great'"),
    ],
)
async def test_a_bad_body_is_refused_with_the_reason(bench: LabBench, path: str, body: bytes, why: str) -> None:
    reply = await bench.call("POST", PREFIX + path, headers={"Authorization": f"Bearer {TOKEN}"}, body=body)
    assert reply.status == 400
    assert reply.json["error"].startswith(why)


async def test_a_packed_body_is_refused(bench: LabBench) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}
    reply = await bench.call("POST", f"{PREFIX}/sessions", headers=headers, body=b"{}")
    assert reply.status == 415
    assert reply.json["error"].startswith("expected an uncompressed body, got one with Content-Encoding: ")


async def test_a_caller_that_goes_away_within_its_request(bench: LabBench, caplog: pytest.LogCaptureFixture) -> None:
    wire = await bench.wire("127.0.0.1")
    head = f"POST {PREFIX}/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    await wire.send(f"{head}Content-Length: 20\r\n\r\n{{")
    await asyncio.sleep(0.01)
    wire.reset()
    await bench.api("GET", "/openapi.json")
    assert not caplog.records


async def test_a_body_that_is_too_long_is_refused(bench: LabBench) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = await bench.call("POST", f"{PREFIX}/sessions", headers=headers, body=b" " * (64 * 2**20 + 1))
    assert reply.status == 413
    assert "67108864" in reply.json["error"]


@pytest.mark.parametrize("query", ["after=x", "wait=", "after=nan", "wait=inf", "wait=-inf", "known=all"])
async def test_a_query_that_is_no_number(bench: LabBench, query: str) -> None:
    run = await bench.one()
    reply = await bench.api("GET", f"/runs/{run.id}?{query}")
    name, _, value = query.partition("=")
    assert (reply.status, reply.json) == (400, {"error": f"query parameter {name}: expected a number, got {value!r}"})


# Sessions and runs


async def test_a_session_from_open_to_end(bench: LabBench) -> None:
    opened = (await bench.api("POST", "/sessions", SESSION)).json
    assert not opened["resumed"]
    path = f"/sessions/{opened['id']}"
    wanted = [RunRequest(key=f"k{n}", workload=bench.workload(f"{n}.efi")) for n in range(2)]
    views = (await bench.api("POST", f"{path}/runs", wanted)).json
    assert [view["run"]["key"] for view in views] == ["k0", "k1"]
    await until(lambda: len(bench.boot.assets) == 2)  # before, a digest may come between two looks
    known = (await bench.api("GET", f"{path}/runs")).json
    assert [view["run"] for view in known] == [view["run"] for view in views]
    assert (await bench.api("POST", f"{path}/runs", wanted)).json == known  # asked again: the same ones
    await bench.call("GET")
    await bench.call("POST")
    await bench.report(body="long", junit="<testsuite><testcase/></testsuite>")
    first = views[0]["run"]["id"]
    view = (await bench.api("GET", f"/runs/{first}")).json
    assert view["run"]["attempts"][0]["reports"][0]["body"] == "long"
    assert view["digest"].startswith("sha256:")
    assert (await bench.call("HEAD")).headers["dispatch-workload"] == "1.efi"
    seen = (await bench.api("GET", path)).json
    assert seen["machines"][0] | {"heard": 0} == {
        "name": "127.0.0.2",
        "heard": 0,
        "ran": ["0.efi", "1.efi"],
        "off": False,
        "awaited": True,
        "labels": {},
        "state": "reserved",
        "reason": "1.efi",
        "since": seen["machines"][0]["since"],
    }
    assert (await bench.api("DELETE", path)).status == 204
    assert (await bench.api("GET", f"/runs/{first}")).json["run"]["outcome"] == "passed"
    second = (await bench.api("GET", f"/runs/{views[1]['run']['id']}")).json["run"]
    assert (second["outcome"], second["reason"], second["cancelled"]) == ("error", "cancelled while assigned", True)
    assert bench.journal.reader.last_unfinished("w") is not None  # something was cut off: it may be resumed
    assert (await bench.api("DELETE", path)).status == 204
    assert bench.journal.reader.last_unfinished("w") is None


async def test_a_run_is_cancelled(bench: LabBench) -> None:
    run = await bench.booted()
    assert (await bench.api("DELETE", f"/runs/{run.id}")).status == 204
    assert bench.now(run).cancelled
    assert not bench.lab.queue.machines["127.0.0.2"].holds


@pytest.mark.parametrize("again", [False, True])
async def test_a_session_judges_for_itself(bench: LabBench, again: bool) -> None:
    run = await bench.booted(policy=Policy(judged=True, expect=Expect.REPORT))
    await bench.report()
    await bench.call("HEAD")
    assert bench.now(run).outcome is None
    assert bench.attempt(run).proposed is Outcome.PASSED
    for _ in range(1 + again):
        verdict = Verdict(outcome=Outcome.FAILED, reason="no milestone")
        assert (await bench.api("POST", f"/runs/{run.id}/verdict", verdict)).status == 204
    assert (bench.now(run).outcome, bench.now(run).reason) == (Outcome.FAILED, "no milestone")


# Waiting


async def test_a_long_poll_ends_with_the_next_change(bench: LabBench) -> None:
    run = await bench.one()
    version = (await bench.api("GET", f"/runs/{run.id}")).json["version"]
    waiting = asyncio.create_task(bench.api("GET", f"/runs/{run.id}?after={version}&wait=20"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    await bench.call("HEAD")
    reply = await waiting
    assert reply.json["version"] > version
    assert reply.json["run"]["attempts"][0]["history"][-1]["state"] == "assigned"


async def test_a_long_poll_ends_when_its_time_is_over(bench: LabBench) -> None:
    run = await bench.one()
    reply = await bench.api("GET", f"/runs/{run.id}?after=1000&wait=0.05")
    assert (reply.status, reply.json["version"]) == (200, run.version)


async def test_a_long_poll_behind_the_times_ends_at_once(bench: LabBench) -> None:
    run = await bench.one()
    assert (await bench.api("GET", f"/runs/{run.id}?after=-1&wait=20")).status == 200


async def test_a_caller_that_follows_gets_only_what_it_does_not_know(bench: LabBench) -> None:
    run = await bench.booted(policy=Policy(retry_failures=1))
    for title in ("one", "two"):
        await bench.report(title=title, result="failed", body=title)
    await bench.download(run)
    await bench.call("POST")
    await bench.report(title="three")

    async def told(known: str) -> list[list[str]]:
        reply = await bench.api("GET", f"/runs/{run.id}?{known}")
        return [[report["body"] or report["title"] for report in a["reports"]] for a in reply.json["run"]["attempts"]]

    everything = [["one", "two"], ["three"]]
    assert await told("") == everything
    assert await told("known=1") == [["two"], ["three"]]
    assert await told("known=2&known=0") == [[], ["three"]]
    assert await told("known=2&known=1&known=7") == [[], []]
    assert await told("known=-1&known=0.9") == everything


# Events


class Events:
    """A reader of an event stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = b""

    @classmethod
    async def open(cls, bench: LabBench, session: str, after: str = "") -> tuple[Reply, Events]:
        wire = await bench.wire("127.0.0.1")
        last = f"Last-Event-ID: {after}\r\n" if after else ""
        # HTTP/1.0, so that the stream comes as it is
        head = f"GET {PREFIX}/sessions/{session}/events HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n{last}\r\n"
        await wire.send(head.encode())
        return await wire.head(), cls(wire)

    async def next(self) -> dict[str, str]:
        """The next event."""
        while b"\n\n" not in self._rest:
            piece = await self._wire.receive()
            assert piece, f"the stream ended within {self._rest!r}"
            self._rest += piece
        event, _, self._rest = self._rest.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in event.decode().split("\n") if line != ":")

    async def next_of(self, *names: str) -> dict[str, str]:
        """The next event of one of these names."""
        while (event := await self.next()).get("event") not in names:
            pass
        return event

    async def changes(self, count: int) -> list[tuple[str, str]]:
        """So many changes, as number and event."""
        found: list[tuple[str, str]] = []
        while len(found) < count:
            event = await self.next()
            if event.get("event") == "change":
                found.append((event["id"], msgspec.json.decode(event["data"])["event"]))
        return found

    def close(self) -> None:
        self._wire.close()


async def test_events_as_they_come(bench: LabBench) -> None:
    run = await bench.one()
    head, events = await Events.open(bench, run.session)
    assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
    assert head.headers["cache-control"] == "no-store"
    await bench.call("HEAD")
    assert await events.changes(1) == [("1", "assign")]
    await bench.download(run)
    await bench.call("POST")
    await bench.report(title="line\u2028break", body="long", junit="<testsuite/>", tap="1..0")
    assert await events.changes(3) == [("2", "send"), ("3", "sent"), ("4", "boot")]
    told = [await events.next_of("report", "change") for _ in range(2)]
    said, change = (msgspec.json.decode(event["data"]) for event in told)
    assert [event["event"] for event in told] == ["report", "change"]
    assert (told[1]["id"], change["event"], change["attempt"]) == ("5", "report", 1)
    assert (said["run"], said["attempt"], said["number"]) == (run.id, 1, 1)
    report = said["report"]
    assert report["title"] == "line\u2028break"
    assert not {"body", "junit", "tap"} & {key for key, value in report.items() if value}  # asked for with the run
    assert change["run"]["attempts"][0]["reports"] == []


async def test_a_report_is_told_once(bench: LabBench) -> None:
    """Whatever else happens to its run; a reader that comes later is told it once, too."""
    run = await bench.booted(policy=Policy(retry_failures=1, judged=True))
    _, early = await Events.open(bench, run.session)
    for n in range(30):
        case = {"name": f"marked {n}", "outcome": "failed"}
        assert (await bench.report(title=f"report {n}", cases=[case])).status == 200
    await bench.call("HEAD")
    _, late = await Events.open(bench, run.session, "10")
    for events in (early, late):
        seen: list[str] = []
        while not seen or msgspec.json.decode(seen[-1]).get("event") != "return":
            seen.append((await events.next_of("report", "change"))["data"])
        for n in range(30):
            assert [text.count(f'"marked {n}"') for text in seen if f'"marked {n}"' in text] == [1]


async def test_for_a_reader_that_does_not_read_no_more_is_made_than_the_network_takes(bench: LabBench) -> None:
    run = await bench.booted()
    message = "x" * 2**18
    for n in range(64):
        assert (
            await bench.report(title=f"{n}", cases=[{"name": "c", "outcome": "failed", "message": message}])
        ).status == 200
    tracemalloc.start()
    try:
        wire = await bench.wire("127.0.0.1", receive_buffer=2**14)
        head = f"GET {PREFIX}/sessions/{run.session}/events HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        await wire.send(head)
        await wire.head()
        events = Events(wire)
        told = [await events.next_of("report")]
        assert (await bench.report(title="one more")).status == 200  # the lab has turned to others meanwhile
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * len(message)
    told += [await events.next_of("report") for _ in range(64)]
    assert [msgspec.json.decode(event["data"])["number"] for event in told] == list(range(1, 66))


def change(run: str, attempt: int) -> Change:
    moved = Run(
        id=run,
        session="s",
        key=run,
        position=0,
        workload=boots(run, size=0),
        limits={},
        expect=Expect.REPORT,
        attempts=(),
    )
    return Change(moved, Event.ASSIGN, attempt, 0.0)


@given_any(st.lists(st.sampled_from("abcd"), max_size=60), st.integers(1, 8), st.integers(0, 70))
def test_who_is_far_behind_gets_the_last_change_of_each_run(runs: list[str], most: int, after: int) -> None:
    feed = Feed(most)
    for number, run in enumerate(runs, 1):
        feed.note(change(run, number))
    told = list(feed.after(after))
    start = after if after <= len(runs) else 0
    kept = range(max(len(runs) - most, 0) + 1, len(runs) + 1)
    expected = {
        number for number, run in enumerate(runs, 1) if number > start and (number in kept or run not in runs[number:])
    }
    assert [number for number, _ in told] == sorted(expected)
    assert [found.attempt for _, found in told] == sorted(expected)


@given_any(st.lists(st.one_of(st.sampled_from("abcd"), st.none()), max_size=80), st.integers(1, 4))
def test_a_feed_may_be_read_while_it_grows(steps: list[str | None], most: int) -> None:
    """None reads one more change. Whoever reads to the end knows how each run stands, and nothing twice."""
    feed, count, told = Feed(most), 0, list[tuple[int, Change]]()
    reader = feed.after(0)
    for run in steps:
        if run is not None:
            count += 1
            feed.note(change(run, count))
        elif (found := next(reader, None)) is not None:
            told.append(found)
        else:
            reader = feed.after(told[-1][0] if told else 0)
    told += reader
    told += feed.after(told[-1][0] if told else 0)
    last = {run: number for number, run in enumerate(filter(None, steps), 1)}
    assert {found.run.id: number for number, found in told} == last
    assert [number for number, _ in told] == sorted({number for number, _ in told})


@pytest.mark.parametrize(
    ("after", "first"),
    [("", "1"), ("0", "1"), ("2", "3"), ("99", "1"), ("-3", "1"), ("²", "1"), ("x", "1"), ("9" * 3000, "1")],
)
async def test_a_reader_goes_on_where_it_was(bench: LabBench, after: str, first: str) -> None:
    """One that names what this lab never told, such as one of an earlier lab, gets everything."""
    run = await bench.booted()
    _, events = await Events.open(bench, run.session, after)
    assert (await events.changes(1))[0][0] == first


@pytest.mark.parametrize(("query", "first"), [("after=2", "3"), ("after=-5", "1"), ("after=1.9", "2")])
async def test_a_reader_without_the_header(bench: LabBench, query: str, first: str) -> None:
    run = await bench.booted()
    wire = await bench.wire("127.0.0.1")
    target = f"{PREFIX}/sessions/{run.session}/events?{query}"
    await wire.send(f"GET {target} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
    await wire.head()
    assert (await Events(wire).changes(1))[0][0] == first


async def test_progress_is_told(bench: LabBench) -> None:
    run = await bench.one(size=8 * 2**20)
    _, events = await Events.open(bench, run.session)
    wire = await bench.wire(receive_buffer=1)
    await wire.send("GET /dispatch HTTP/1.1\r\nHost: x\r\n\r\n")
    await wire.head()
    told: dict[str, int] = {}
    while not told.get(run.id):
        await wire.take(2**18)
        event = await events.next()
        told = msgspec.json.decode(event["data"]) if event.get("event") == "progress" else {}
    assert 0 < told[run.id] <= 8 * 2**20


async def test_a_quiet_stream_says_that_it_is_there(bench: LabBench) -> None:
    run = await bench.one()
    _, events = await Events.open(bench, run.session)
    bench.clock.ahead += 60
    assert await events.next() == {}


async def test_a_reader_that_left_is_let_go(bench: LabBench) -> None:
    run = await bench.one()
    before = len(asyncio.all_tasks())
    _, events = await Events.open(bench, run.session)
    await until(lambda: len(asyncio.all_tasks()) > before)
    events.close()
    for _ in range(5):  # what is written to it comes back as a reset, even if nothing happens
        bench.clock.ahead += 60
        bench.lab.lab_state.wake()
        await asyncio.sleep(0.01)
    await until(lambda: len(asyncio.all_tasks()) <= before)


# A broken lab


async def test_a_journal_that_breaks_ends_the_waiting_and_says_why(bench: LabBench) -> None:
    run = await bench.one()
    await bench.download(run)
    version = bench.now(run).version
    polling = asyncio.create_task(bench.api("GET", f"/runs/{run.id}?after={version}&wait=20"))
    _, events = await Events.open(bench, run.session)
    await events.changes(3)
    spoil(bench)
    booted = await bench.call("POST")
    why = str(bench.lab.broken)
    assert re.match(r"journal .*journal\.db: cannot write it \(.*\); ", why)
    assert (booted.status, booted.text) == (503, f"{why}\n")
    reply = await polling
    assert reply.status in (200, 503)  # the boot was told before the disk refused it
    for method, path in (("GET", f"/runs/{run.id}"), ("POST", "/sessions"), ("GET", f"/sessions/{run.session}")):
        reply = await bench.api(method, path, SESSION if method == "POST" else None)
        assert (reply.status, reply.json) == (503, {"error": why})
    for method in ("HEAD", "GET", "PUT"):
        reply = await bench.call(method, body=b'{"title": "x"}' if method == "PUT" else b"")
        assert reply.status == 503
        assert method == "HEAD" or reply.text == f"{why}\n"
    with pytest.raises(AssertionError, match="the stream ended"):
        await events.changes(99)


async def test_a_session_that_cannot_be_written_is_not_opened(bench: LabBench) -> None:
    spoil(bench)
    reply = await bench.api("POST", "/sessions", SESSION)
    assert reply.status == 503
    assert "cannot write it" in reply.json["error"]


def spoil(bench: LabBench) -> None:
    """Take the journal's tables away under it, as a broken disk would."""
    with closing(sqlite3.connect(bench.folder / "journal.db")) as db:
        for table in ("dispatch_events", "dispatch_runs", "dispatch_sessions"):
            db.execute(f"DROP TABLE {table}")


async def test_states_are_those_of_the_core(bench: LabBench) -> None:
    run = await bench.booted()
    reply = await bench.api("GET", f"/runs/{run.id}")
    told = [moment["state"] for moment in reply.json["run"]["attempts"][0]["history"]]
    assert told == [State.UNASSIGNED, State.ASSIGNED, State.DOWNLOADING, State.DOWNLOADED, State.BOOTING]


async def test_a_machine_of_ours_that_is_off_has_not_merely_been_silent(tmp_path: Path) -> None:
    machines = make_machines(sims(1)[0], tmp_path)
    async with running_lab(tmp_path, machines=machines) as bench:
        session = (await bench.api("POST", "/sessions", SESSION)).json["id"]
        bench.lab.queue.machines.speaks_as("sim-1", KnownBy.TOKEN, bench.clock.now())
        bench.clock.ahead += SILENCE
        [seen] = (await bench.api("GET", f"/sessions/{session}")).json["machines"]
        assert (seen["state"], seen["reason"]) == ("off", "")
