"""The API: nobody enters without the token, what it answers, and how it says no."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from labs import TOKEN, LabBench
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.server.api.route import PREFIX, Route
from pytest_dispatch.server.api.routes import ROUTES
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.server.api.session_schemas import IssueTried, OutlookWanted, Review, Verdict
from pytest_dispatch.workloads.boot.lifecycle import Expect

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
    ("POST", "/sessions/{session}/pending-issues/tried"): IssueTried(marker="m", tries=1),
    ("POST", "/sessions/{session}/outlook"): OutlookWanted(requires=()),
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
        (
            "/sessions",
            b'{"source": "\xff"}',
            ("'utf-8' codec can't decode", "Invalid UTF-8"),
        ),  # msgspec < 0.23, and later
        ("/sessions", b"[" * 100_000, "Expected `object`, got `array`"),
        ("/sessions", b'{"x": ' + b"[" * 100_000, "maximum recursion depth exceeded"),
        ("/sessions/nothing/runs", b"{}", "Expected `array`, got `object`"),
        ("/sessions/nothing/runs", b'[{"key": 1}]', "Expected `str`, got `int`"),
        ("/runs/nothing/verdict", b'{"outcome": "great"}', "Invalid enum value 'great'"),
        (
            "/sessions",
            b'{"source": "w", "policy": {"retries": 99999999999999999999}}',
            "retries: expected a number from 0 to 10000, got 99999999999999999999",
        ),
        (
            "/sessions/nothing/pending-issues/tried",
            b'{"marker": "m", "tries": -1}',
            "tries: expected a number from 0 to 1000000, got -1",
        ),
    ],
)
async def test_a_bad_body_is_refused_with_the_reason(
    bench: LabBench, path: str, body: bytes, why: str | tuple[str, ...]
) -> None:
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
    assert (await bench.api("DELETE", f"/runs/{run.id}")).status == 204  # the first answer may have been lost
    assert not bench.lab.queue.machines["127.0.0.2"].holds


async def test_a_run_that_has_ended_by_itself_is_not_cancelled(bench: LabBench) -> None:
    run = await bench.booted()
    assert (await bench.report()).status == 200
    await bench.call("HEAD")
    refused = await bench.api("DELETE", f"/runs/{run.id}")
    assert refused.status == 409
    assert refused.json["error"] == f"expected a run that is not over, got {run.id}, which has passed"


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
