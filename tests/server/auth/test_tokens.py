"""API tokens and the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from service_bench import PASSWORD, ServiceBench, service

from pytest_dispatch.server.api.account_schemas import NewToken, UserChange
from pytest_dispatch.server.api.event_stream import QUIET
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.accounts import MOST_ENTRIES

pytestmark = pytest.mark.anyio


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path) as running:
        for name, role in (("ada", Role.OPERATOR), ("chief", Role.ADMIN)):
            await running.added(name, role, password=PASSWORD)
        yield running


async def test_the_secret_is_shown_once(running: ServiceBench) -> None:
    browser = await running.browser("ada")
    made = (await browser.change("POST", "/tokens", NewToken(label="ci", lasts=60.0))).json
    assert made["secret"].startswith("dsp_")
    listed = (await browser.ask("GET", "/tokens")).text
    assert made["secret"] not in listed
    assert made["token"]["id"] in listed
    assert (await running.ask("GET", "/me", token=made["secret"])).json["role"] == "operator"


@pytest.mark.parametrize(
    ("user", "own", "wanted", "why"),
    [
        ("ada", {}, {"role": Role.ADMIN}, "expected a role of at most operator, got admin"),
        ("ada", {"role": Role.READER}, {"role": Role.OPERATOR}, "expected a role of at most reader, got operator"),
        ("ada", {}, {"user": "chief"}, "expected the role admin for a token of chief, got ada"),
        ("ada", {"groups": ("lab",)}, {}, "expected groups among lab, since this token is for them"),
        ("ada", {"groups": ("lab",)}, {"groups": ("lab", "c")}, "expected groups among lab"),
        (
            "chief",
            {"groups": ("lab",)},
            {"groups": ("lab",), "user": "ada"},
            "expected the role admin for a token of ada",
        ),
    ],
)
async def test_no_token_makes_another_that_may_do_more(
    running: ServiceBench, user: str, own: dict[str, object], wanted: dict[str, object], why: str
) -> None:
    token = await running.token(user, **own)
    body = {"label": "more", **wanted}
    reply = await running.ask("POST", "/tokens", body, token=token)
    assert reply.status == 403
    assert reply.json["error"].startswith(why)


async def test_no_token_makes_another_that_outlives_it(running: ServiceBench) -> None:
    short = await running.token("ada", lasts=60.0)
    ends = (await running.ask("GET", "/me", token=short)).json["expires"]
    for lasts in (None, 3600.0):
        made = (await running.ask("POST", "/tokens", NewToken(label="x", lasts=lasts), token=short)).json
        assert made["token"]["expires"] == ends
    made = (await running.ask("POST", "/tokens", NewToken(label="x", lasts=1.0), token=short)).json
    assert made["token"]["expires"] < ends


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"label": ""}, "label: expected 1 to 200 printable characters"),
        ({"label": "a\nb"}, "label: expected 1 to 200 printable characters"),
        ({"label": "x" * 201}, "label: expected 1 to 200 printable characters"),
        ({"label": "x", "groups": ["lba"]}, "groups: expected groups of this lab, got 'lba': did you mean lab?"),
        ({"label": "x", "groups": ["lab", "y"]}, "groups: expected groups of this lab, got 'y': expected one of lab"),
        (
            {"label": "x", "lasts": 0},
            "lasts: expected a number of seconds above 0 and at most 3153600000 (100 years), got 0",
        ),
        ({"label": "x", "role": "king"}, "Invalid enum value 'king'"),
    ],
)
async def test_a_token_that_makes_no_sense(running: ServiceBench, body: dict[str, object], why: str) -> None:
    reply = await running.ask("POST", "/tokens", body, token=running.secrets["ada"])
    assert (reply.status, reply.json["error"][: len(why)]) == (400, why)


async def test_the_last_use_is_noted_to_the_minute(running: ServiceBench) -> None:
    token = await running.token("ada")
    for ahead in (0.0, 30.0, 31.0):
        running.bench.clock.ahead += ahead
        now = running.bench.clock.now()
        assert (await running.ask("GET", "/me", token=token)).status == 200
    used = (await running.ask("GET", "/tokens", token=token)).json[-1]["used"]
    assert now <= used <= running.bench.clock.now()
    await running.bench.lab.lab_state.on_disk()
    kept = running.bench.journal.reader.accounts().tokens
    assert max(each.used for each in kept if each.user == "ada") == used


async def test_why_a_token_is_refused_is_told_to_who_has_it(running: ServiceBench) -> None:
    token = await running.token("ada", lasts=5.0)
    running.bench.clock.ahead += 6.0
    reply = await running.ask("GET", "/me", token=token)
    assert (reply.status, reply.json["error"].endswith("which has expired; make another one")) == (401, True)
    for wrong in (token[:-1], f"{token}x", "dsp_", "x"):
        reply = await running.ask("GET", "/me", token=wrong)
        assert reply.json["error"] == "expected a token of this lab in the header Authorization, got another"


async def test_revoking_twice_keeps_when_it_was_first(running: ServiceBench) -> None:
    await running.token("ada")
    [*_, token] = (await running.ask("GET", "/tokens", token=running.secrets["ada"])).json
    for _ in range(2):
        assert (await running.ask("DELETE", f"/tokens/{token['id']}", token=running.secrets["ada"])).status == 204
        running.bench.clock.ahead += 5.0
    [*_, after] = (await running.ask("GET", "/tokens", token=running.secrets["ada"])).json
    assert after["revoked"] < running.bench.clock.now() - 5.0
    assert (await running.ask("DELETE", "/tokens/nothing")).status == 404


async def test_whoever_is_removed_reads_no_more_events(running: ServiceBench) -> None:
    """A stream lasts for days, and must not outlive the right to read it."""
    opened = await running.session(running.secrets["chief"])
    wire = await running.bench.wire("127.0.0.1")
    head = f"GET /api/v1/sessions/{opened.session}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    await wire.send(f"{head}Authorization: Bearer {running.secrets['ada']}\r\nConnection: close\r\n\r\n")
    assert (await wire.head()).status == 200
    assert (await running.ask("DELETE", "/users/ada")).status == 204
    running.bench.clock.ahead += QUIET  # after which even a quiet stream says something
    assert (await wire.rest()).endswith(b"0\r\n\r\n")


# The audit log


async def test_the_log_tells_who_what_from_where_before_and_after(running: ServiceBench) -> None:
    path, change = "/users/ada", UserChange(role=Role.READER)
    assert (await running.ask("PUT", path, change, token=running.secrets["chief"], source="127.0.0.5")).status == 200
    [entry, *_] = await running.audit()
    assert (entry["who"], entry["address"], entry["action"], entry["target"]) == (
        "chief",
        "127.0.0.5",
        "user.change",
        "ada",
    )
    assert entry["signed_in"].startswith("token ")
    assert (entry["before"]["role"], entry["after"]["role"]) == ("operator", "reader")


async def test_what_was_refused_is_no_change(running: ServiceBench) -> None:
    before = len(await running.audit(most="1000"))
    assert (await running.ask("DELETE", "/users/chief", token=running.secrets["ada"])).status == 403
    assert (await running.ask("DELETE", "/users/nobody")).status == 404
    assert len(await running.audit(most="1000")) == before


async def test_sessions_and_runs_are_in_the_log(running: ServiceBench) -> None:
    opened = await running.session(running.secrets["ada"])
    assert (await running.ask("DELETE", f"/runs/{opened.run}", token=running.secrets["chief"])).status == 204
    entries = await running.audit(most="3")
    assert [(entry["who"], entry["action"], entry["target"]) for entry in entries] == [
        ("chief", "run.cancel", opened.run),
        ("ada", "run.submit", opened.session),
        ("ada", "session.open", opened.session),
    ]
    assert entries[1]["after"] == {"runs": 1}


async def test_the_log_is_searched(running: ServiceBench) -> None:
    everything = await running.audit(most="1000")
    assert [entry["id"] for entry in everything] == sorted((entry["id"] for entry in everything), reverse=True)
    assert {entry["action"] for entry in await running.audit(action="user")} == {"user.create"}
    assert await running.audit(action="use") == []
    assert await running.audit(who="ada") == []
    assert {entry["target"] for entry in await running.audit(target="ada")} == {"ada"}
    newest, second, *_ = everything
    assert (await running.audit(before=str(newest["id"]), most="1"))[0] == second
    assert await running.audit(since=str(running.bench.clock.now() + 1)) == []
    assert await running.audit(until=str(everything[-1]["at"])) == []
    assert len(await running.audit(most="2")) == 2
    assert len(await running.audit(most=str(MOST_ENTRIES * 10))) == len(everything)
    assert (await running.ask("GET", "/audit?since=x")).status == 400


async def test_what_texts_hold_does_no_harm_to_the_log(running: ServiceBench) -> None:
    name = "x" * 5000 + "\0'; DROP TABLE dispatch_users; --"
    await running.sign_in(name)
    [entry] = await running.audit(action="sign-in.refused")
    assert entry["who"] == "x" * 200
    assert len((await running.ask("GET", "/users")).json) == 2
