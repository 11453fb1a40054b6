"""Who may do what: every operation of the API, asked by everybody there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from labs import TOKEN, Reply
from project import ROOT
from service_bench import PASSWORD, Opened, ServiceBench, digest_of, service
from visitors import Visitor

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.model import Outcome, Policy, Priority
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.server.api import dispatchoor_routes as dispatchoor
from pytest_dispatch.server.api.account_schemas import (
    NewToken,
    NewUser,
    PasswordChange,
    SignInRequest,
    UserChange,
)
from pytest_dispatch.server.api.cycle_schemas import RoundWanted
from pytest_dispatch.server.api.group_schemas import (
    AgainWanted,
    ApproveWanted,
    HoldWanted,
    MoveWanted,
    QueueWanted,
    RunChanged,
)
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.api.route import PREFIX, Route, Whose
from pytest_dispatch.server.api.routes import all_routes
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.server.api.session_schemas import IssueTried, LinkWanted, OutlookWanted, Review, Verdict
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import GitHubSignIn
from pytest_dispatch.server.web.assets import build
from pytest_dispatch.server.web.page_routes import PAGE_ROUTES

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

#: Who asks. `owner` and `foreign` are operators; sessions are the owner's. `confined` is a token of the owner for a
#: group in which no run is, `inside` one for the group of the run. `lab` is the lab's own token.
CALLERS = ("nobody", "expired", "revoked", "reader", "foreign", "confined", "inside", "owner", "admin", "lab")

#: What each of them gets, in this order.
TABLE = """
POST   /sessions                            401 401 401 403 201 201 201 201 201 201
GET    /sessions/{session}                  401 401 401 200 200 200 200 200 200 200
DELETE /sessions/{session}                  401 401 401 403 403 204 204 204 204 204
POST   /sessions/{session}/lease            401 401 401 403 403 200 200 200 200 200
PUT    /sessions/{session}/bytes/{digest}   401 401 401 403 403 200 200 200 403 403
GET    /sessions/{session}/bytes/{digest}   401 401 401 403 403 200 200 200 403 403
GET    /sessions/{session}/readable         401 401 401 403 403 200 200 200 403 403
POST   /sessions/{session}/runs             401 401 401 403 403 403 200 200 200 200
GET    /sessions/{session}/runs             401 401 401 200 200 200 200 200 200 200
GET    /sessions/{session}/events           401 401 401 200 200 200 200 200 200 200
GET    /runs                                401 401 401 200 200 200 200 200 200 200
GET    /runs/{run}                          401 401 401 200 200 403 200 200 200 200
GET    /runs/{run}/explanation              401 401 401 200 200 403 200 200 200 200
GET    /runs/{run}/log                      401 401 401 200 200 403 200 200 200 200
DELETE /runs/{run}                          401 401 401 403 204 403 204 204 204 204
POST   /runs/{run}/verdict                  401 401 401 403 403 403 204 204 204 204
POST   /runs/{run}/issues                   401 401 401 403 403 403 200 200 200 200
GET    /lab                                 401 401 401 200 200 200 200 200 200 200
POST   /sessions/{session}/outlook          401 401 401 403 403 200 200 200 200 200
POST   /sessions/{session}/pending-issues   401 401 401 403 403 200 200 200 200 200
POST   /sessions/{session}/pending-issues/tried 401 401 401 403 403 404 404 404 404 404
GET    /reload                              401 401 401 403 403 403 403 403 400 400
POST   /reload                              401 401 401 403 403 403 403 403 400 400
GET    /openapi.json                        401 401 401 200 200 200 200 200 200 200
GET    /hold                                401 401 401 200 200 200 200 200 200 200
POST   /hold                                401 401 401 403 200 403 403 200 200 200
DELETE /hold                                401 401 401 403 200 403 403 200 200 200
POST   /lab/look                            401 401 401 403 204 403 403 204 204 204
GET    /queue                               401 401 401 200 200 200 200 200 200 200
GET    /groups                              401 401 401 200 200 200 200 200 200 200
GET    /groups/{group}                      401 401 401 200 200 403 200 200 200 200
POST   /groups/{group}/hold                 401 401 401 403 200 403 200 200 200 200
DELETE /groups/{group}/hold                 401 401 401 403 200 403 200 200 200 200
GET    /groups/{group}/queue                401 401 401 200 200 403 200 200 200 200
POST   /groups/{group}/queue                401 401 401 403 201 403 201 201 201 201
POST   /groups/{group}/queue/bulk           401 401 401 403 201 403 201 201 201 201
POST   /groups/{group}/order                401 401 401 403 204 403 204 204 204 204
DELETE /groups/{group}/queue/{queued}       401 401 401 403 204 403 204 204 204 204
GET    /groups/{group}/templates            401 401 401 200 200 403 200 200 200 200
POST   /runs/{run}/move                     401 401 401 403 200 403 200 200 200 200
POST   /runs/{run}/hold                     401 401 401 403 200 403 200 200 200 200
DELETE /runs/{run}/hold                     401 401 401 403 200 403 200 200 200 200
PATCH  /runs/{run}                          401 401 401 403 200 403 200 200 200 200
POST   /runs/{run}/again                    401 401 401 403 201 403 201 201 201 201
GET    /notifications                       401 401 401 403 403 403 403 403 200 200
GET    /machines                            401 401 401 200 200 200 200 200 200 200
GET    /machines/{machine}                  401 401 401 200 200 200 200 200 200 200
POST   /machines/{machine}/hold             401 401 401 403 200 403 200 200 200 200
DELETE /machines/{machine}/hold             401 401 401 403 200 403 200 200 200 200
GET    /cycles                              401 401 401 200 200 200 200 200 200 200
GET    /cycles/{cycle}                      401 401 401 200 200 403 200 200 200 200
POST   /cycles/{cycle}/schedule             401 401 401 403 200 403 200 200 200 200
DELETE /cycles/{cycle}/schedule             401 401 401 403 409 403 409 409 409 409
POST   /cycles/{cycle}/hold                 401 401 401 403 200 403 200 200 200 200
DELETE /cycles/{cycle}/hold                 401 401 401 403 409 403 409 409 409 409
GET    /cycles/{cycle}/rounds               401 401 401 200 200 403 200 200 200 200
POST   /cycles/{cycle}/rounds               401 401 401 403 202 403 202 202 202 202
GET    /cycles/{cycle}/rounds/{number}      401 401 401 404 404 403 404 404 404 404
GET    /cycles/{cycle}/rounds/{number}/output 401 401 401 404 404 403 404 404 404 404
GET    /cycles/{cycle}/rounds/{number}/junit 401 401 401 404 404 403 404 404 404 404
GET    /history                             401 401 401 200 200 200 200 200 200 200
GET    /history/series                      401 401 401 200 200 403 403 200 200 200
GET    /history/trends                      401 401 401 200 200 200 200 200 200 200
POST   /runs/{run}/override                 401 401 401 403 409 403 409 409 409 409
DELETE /runs/{run}/override                 401 401 401 403 409 403 409 409 409 409
POST   /runs/{run}/notes                    401 401 401 403 409 403 409 409 409 409
DELETE /runs/{run}/notes/{note}             401 401 401 403 409 403 409 409 409 409
POST   /runs/{run}/links                    401 401 401 403 201 403 201 201 201 201
DELETE /runs/{run}/links                    401 401 401 403 404 403 404 404 404 404
GET    /runs/{run}/console                  401 401 401 200 200 403 200 200 200 200
GET    /runs/{run}/junit                    401 401 401 409 409 403 409 409 409 409
POST   /machines/{machine}/health           401 401 401 403 400 403 400 400 400 400
POST   /machines/{machine}/approve          401 401 401 403 403 403 403 403 400 400
DELETE /machines/{machine}                  401 401 401 403 403 403 403 403 204 204
GET    /events                              401 401 401 200 200 403 403 200 200 200
GET    /sign-in                             200 200 200 200 200 200 200 200 200 200
POST   /sign-in                             200 200 200 200 200 200 200 200 200 200
GET    /sign-in/link                        303 303 303 303 303 303 303 303 303 303
GET    /sign-in/github                      303 303 303 303 303 303 303 303 303 303
GET    /sign-in/github/callback             401 401 401 401 401 401 401 401 401 401
POST   /sign-out                            401 401 401 400 400 400 400 400 400 400
GET    /me                                  401 401 401 200 200 200 200 200 200 200
PUT    /me/password                         401 401 401 403 403 403 403 403 403 403
GET    /users                               401 401 401 403 403 403 403 403 200 200
POST   /users                               401 401 401 403 403 403 403 403 201 201
PUT    /users/{user}                        401 401 401 403 403 403 403 403 200 200
DELETE /users/{user}                        401 401 401 403 403 403 403 403 204 204
POST   /users/{user}/link                   401 401 401 403 403 403 403 403 201 201
GET    /tokens                              401 401 401 200 200 200 200 200 200 200
GET    /tokens?all=1                        401 401 401 403 403 403 403 403 200 200
POST   /tokens                              401 401 401 201 201 403 403 201 201 400
DELETE /tokens/{token}                      401 401 401 403 403 204 204 204 204 204
GET    /audit                               401 401 401 403 403 403 403 403 200 200
POST   /github/webhooks                     404 404 404 404 404 404 404 404 404 404
PUT    /testflinger/webhooks/{key}          404 404 404 404 404 404 404 404 404 404
"""

ROWS = [line.split() for line in TABLE.strip().splitlines()]
#: A request that is about somebody's own session, or that everybody may make, is answered as such.
OWN = {"owner", "confined", "inside"}


def key_of(route: Route) -> tuple[str, str]:
    return route.method, route.path


def test_every_operation_has_its_row() -> None:
    assert {(method, path.partition("?")[0]) for method, path, *_ in ROWS} == set(map(key_of, all_routes()))
    assert {len(row) for row in ROWS} == {2 + len(CALLERS)}


def test_only_signing_in_and_webhooks_are_open_to_everybody() -> None:
    assert {route.path for route in all_routes() if route.needs is None} == {
        "/github/webhooks",
        "/testflinger/webhooks/{key}",
        "/sign-in",
        "/sign-in/link",
        "/sign-in/github",
        "/sign-in/github/callback",
    }


#: Changes that are not in the audit log: what a session's own pytest sends all the time, and what handlers note.
UNTOLD = {
    ("PUT", "/sessions/{session}/bytes/{digest}"),  # pieces of uploads; the runs that use them are told of
    ("POST", "/github/webhooks"),  # GitHub tells what has happened there
    ("PUT", "/testflinger/webhooks/{key}"),  # likewise Testflinger
    ("POST", "/sign-in"),  # noted with the user who then is known
    ("POST", "/sessions/{session}/outlook"),  # a question
}


def test_every_change_is_in_the_audit_log() -> None:
    untold = {key_of(route) for route in all_routes() if route.method != "GET" and not route.audit}
    assert untold == UNTOLD


def test_whoever_may_not_change_a_session_is_told_by_the_route() -> None:
    """What changes a session is for its owner or an administrator; operators cancel, move and hold anybody's runs."""
    free = {key_of(r) for r in all_routes() if r.of_session and r.method != "GET" and r.whose is Whose.ANYBODYS}
    assert free == {
        ("DELETE", "/runs/{run}"),
        ("POST", "/runs/{run}/move"),
        ("POST", "/runs/{run}/hold"),
        ("DELETE", "/runs/{run}/hold"),
        ("PATCH", "/runs/{run}"),
        ("POST", "/runs/{run}/again"),
        ("POST", "/runs/{run}/override"),
        ("DELETE", "/runs/{run}/override"),
        ("POST", "/runs/{run}/notes"),
        ("DELETE", "/runs/{run}/notes/{note}"),
        ("POST", "/runs/{run}/links"),
        ("DELETE", "/runs/{run}/links"),
    }


@dataclass
class Stage:
    """A service where everybody asks.

    Attributes:
        tokens: What each of the callers has; empty for nobody.
    """

    service: ServiceBench
    tokens: dict[str, str]
    opened: Opened | None = None

    async def cycle(self) -> str:
        """The name of a new cycle."""
        cycles = self.service.bench.lab.cycle_service
        assert cycles is not None
        name = f"cycle-{len(cycles.cycles.plans)}"
        plan = CyclePlan(name=name, folder="/", schedule=Schedule(every=3600.0), group="lab")
        await cycles.configure([*cycles.cycles.plans.values(), plan])
        return name

    async def values(self, path: str = "{session} {user} {token}") -> dict[str, str]:
        """Something new of everything that a path names, or of all that one may name."""
        self.service.bench.lab.queue.machines.declare("m-1")
        values = {"digest": digest_of(CONTENT), "group": "lab", "machine": "m-1", "note": "n-1", "key": "made-up"}
        if "{cycle}" in path:
            values |= {"cycle": await self.cycle(), "number": "1"}
        if re.search(r"\{(session|run|queued|group)\}", path):
            self.opened = await self.service.session(self.tokens["owner"], "a.efi")
            values |= {"session": self.opened.session, "run": self.opened.run, "queued": self.opened.run}
        if "{user}" in path:
            values["user"] = f"user-{len(self.service.secrets)}"
            await self.service.added(values["user"], Role.READER)
        if "{token}" in path:
            await self.service.token("owner", role=Role.READER)
            owned = await self.service.ask("GET", "/tokens", token=self.tokens["owner"])
            values["token"] = owned.json[-1]["id"]
        return values


CONTENT = b"0123456789"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage_of(tmp_path) as found:
        yield found


@asynccontextmanager
async def stage_of(folder: Path, *, pages: bool = False) -> AsyncIterator[Stage]:
    github = GitHubSignIn(client_id="id", client_secret="secret", url="http://127.0.0.1:9", logins={"x": Role.READER})
    async with service(folder, github=github, pages=pages, roster=Roster()) as running:
        roles = {"reader": Role.READER, "foreign": Role.OPERATOR, "owner": Role.OPERATOR, "admin": Role.ADMIN}
        tokens = {name: await running.added(name, role) for name, role in roles.items()}
        tokens |= {"nobody": "", "lab": TOKEN}
        tokens["confined"] = await running.token_elsewhere("owner")
        tokens["inside"] = await running.token("owner", groups=("lab",))
        tokens["expired"] = await running.token("admin", lasts=10.0)
        tokens["revoked"] = await running.token("admin")
        revoked = (await running.ask("GET", "/me", token=tokens["revoked"])).json["signed_in"].removeprefix("token ")
        assert (await running.ask("DELETE", f"/tokens/{revoked}")).status == 204
        running.bench.clock.ahead += 11.0
        yield Stage(running, tokens)


BODIES: dict[tuple[str, str], Callable[[Stage], object]] = {
    ("POST", "/sessions"): lambda _: OpenSession(source="w", policy=Policy()),
    ("POST", "/sessions/{session}/lease"): lambda _: OpenSession(source="w", policy=Policy()),
    ("POST", "/sessions/{session}/runs"): lambda s: [
        RunRequest(key="b", workload=s.service.bench.workload("b.efi", group="lab"))
    ],
    ("POST", "/runs/{run}/verdict"): lambda _: Verdict(),
    ("POST", "/runs/{run}/issues"): lambda _: Review(issues={}),
    ("POST", "/sessions/{session}/outlook"): lambda _: OutlookWanted(requires=()),
    ("POST", "/sessions/{session}/pending-issues/tried"): lambda _: IssueTried(marker="none", tries=1),
    ("POST", "/hold"): lambda _: HoldWanted(reason="the power is tested"),
    ("POST", "/groups/{group}/queue/bulk"): lambda s: [
        QueueWanted(workload=s.service.bench.workload("c.efi", group="lab"))
    ],
    ("POST", "/groups/{group}/order"): lambda s: [s.opened.run if s.opened is not None else ""],
    ("PATCH", "/runs/{run}"): lambda _: RunChanged(priority=Priority.LOW),
    ("POST", "/runs/{run}/again"): lambda _: AgainWanted(),
    ("POST", "/groups/{group}/hold"): lambda _: HoldWanted(reason="it is moved"),
    ("POST", "/runs/{run}/hold"): lambda _: HoldWanted(reason="it is mended"),
    ("POST", "/machines/{machine}/hold"): lambda _: HoldWanted(reason="it is cleaned"),
    ("POST", "/cycles/{cycle}/schedule"): lambda _: RoundWanted(),
    ("POST", "/cycles/{cycle}/rounds"): lambda _: RoundWanted(),
    ("POST", "/cycles/{cycle}/hold"): lambda _: HoldWanted(reason="the rack is moved"),
    ("POST", "/runs/{run}/override"): lambda _: OverrideWanted(outcome=Outcome.PASSED, reason="it is known"),
    ("POST", "/runs/{run}/notes"): lambda _: NoteWanted(text="it is loud"),
    ("POST", "/machines/{machine}/approve"): lambda _: ApproveWanted(),
    ("POST", "/runs/{run}/links"): lambda _: LinkWanted(url="https://github.com/me/lab/issues/7"),
    ("POST", "/runs/{run}/move"): lambda _: MoveWanted(top=True),
    ("POST", "/groups/{group}/queue"): lambda s: QueueWanted(workload=s.service.bench.workload("c.efi", group="lab")),
    ("POST", "/sign-in"): lambda _: SignInRequest(name="guest", password=PASSWORD),
    ("PUT", "/me/password"): lambda _: PasswordChange(new=PASSWORD),
    ("POST", "/users"): lambda s: NewUser(name=f"new-{s.service.bench.clock.now():.6f}"),
    ("PUT", "/users/{user}"): lambda _: UserChange(role=Role.OPERATOR),
    ("POST", "/tokens"): lambda _: NewToken(label="new", role=Role.READER),
}


async def request(stage: Stage, caller: str, method: str, path: str) -> Reply:
    """One request, as whoever may make it would."""
    values, body = await stage.values(path), BODIES.get((method, path))
    target = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)
    headers = {"Dispatch-Epoch": "1"} if caller in OWN and ("{session}" in path or "{run}" in path) else {}
    raw = CONTENT if method == "PUT" and "{digest}" in path else b""
    if raw:
        target += f"?size={len(raw)}&offset=0"
    if path == "/sign-in/link":
        target += f"?token={stage.service.access.sign_in.link('owner')}"
    return await stage.service.ask(
        method, target, body(stage) if body else None, token=stage.tokens[caller], raw=raw, headers=headers
    )


@pytest.mark.parametrize(("method", "path", "expected"), [(m, p, e) for m, p, *e in ROWS], ids=lambda v: str(v)[:40])
@pytest.mark.draw(40)
async def test_everybody_gets_what_the_table_says(stage: Stage, method: str, path: str, expected: list[str]) -> None:
    await stage.service.added("guest", Role.READER, password=PASSWORD)
    got = {}
    for caller in CALLERS:
        reply = await request(stage, caller, method, path)
        got[caller] = reply.status
        stage.service.bench.clock.ahead += 60.0  # no limit on how often one may sign in is reached
        if reply.status in (401, 403):
            assert reply.json["error"].removeprefix("user: ").startswith("expected")
    assert got == dict(zip(CALLERS, map(int, expected), strict=True))


async def test_the_role_that_counts_is_the_users_of_now(stage: Stage) -> None:
    """A token may do no more than its user, whose role an administrator may lower at any time."""
    ask = stage.service.ask
    assert (await ask("GET", "/users", token=stage.tokens["admin"])).status == 200
    assert (await ask("PUT", "/users/admin", UserChange(role=Role.READER))).status == 200
    assert (await ask("GET", "/users", token=stage.tokens["admin"])).status == 403
    assert (await ask("DELETE", "/users/admin")).status == 204
    reply = await ask("GET", "/me", token=stage.tokens["admin"])
    assert reply.status == 401
    assert "which was revoked" in reply.json["error"]


async def test_a_refused_change_changes_nothing(stage: Stage) -> None:
    values = await stage.values()
    session = f"/sessions/{values['session']}"
    for method, path in (("DELETE", session), ("POST", f"{session}/runs"), ("POST", f"/runs/{values['run']}/verdict")):
        body = BODIES.get((method, path.replace(values["session"], "{session}").replace(values["run"], "{run}")))
        reply = await stage.service.ask(method, path, body(stage) if body else None, token=stage.tokens["foreign"])
        assert reply.status == 403
        assert "got one of owner" in reply.json["error"]
    runs = (await stage.service.ask("GET", f"{session}/runs", token=stage.tokens["reader"])).json
    assert [(run["run"]["id"], run["run"]["outcome"]) for run in runs] == [(values["run"], None)]


async def test_only_the_holder_sends_an_epoch(stage: Stage) -> None:
    """It would keep the session alive, and count as one of its holder's connections."""
    values = await stage.values()
    for caller, status in (("reader", 403), ("foreign", 403), ("owner", 200), ("admin", 200)):
        headers = {"Dispatch-Epoch": "1"}
        path = f"/sessions/{values['session']}/events"
        reply = await stage.service.ask("GET", path, token=stage.tokens[caller], headers=headers)
        assert reply.status == status, caller


async def test_the_owner_needs_the_epoch_and_an_administrator_does_not(stage: Stage) -> None:
    values = await stage.values()
    path = f"/sessions/{values['session']}"
    assert (await stage.service.ask("DELETE", path, token=stage.tokens["owner"])).status == 428
    assert (await stage.service.ask("DELETE", path, token=stage.tokens["admin"])).status == 204


async def test_a_session_of_another_user_is_not_resumed(stage: Stage) -> None:
    """Even if both give the same source and the same name of the holder."""
    first = await stage.values()
    again = OpenSession(source="w", policy=Policy(), resume=True)
    theirs = await stage.service.ask("POST", "/sessions", again, token=stage.tokens["foreign"])
    assert (theirs.status, theirs.json["resumed"]) == (201, False)
    assert theirs.json["id"] != first["session"]


async def test_a_session_that_only_the_journal_has_keeps_its_owner(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        mine = await running.added("mine", Role.OPERATOR)
        other = await running.added("other", Role.OPERATOR)
        opened = await running.session(mine)
    async with service(tmp_path) as running:
        wanted, path = OpenSession(source="w", policy=Policy()), f"/sessions/{opened.session}/lease"
        refused = await running.ask("POST", path, wanted, token=other)
        assert refused.status == 403
        taken = await running.ask("POST", path, wanted, token=mine)
        assert (taken.status, taken.json["epoch"]) == (200, 2)


async def test_tokens_are_kept_over_a_restart(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        token = await running.added("somebody", Role.READER)
    async with service(tmp_path) as running:
        me = (await running.ask("GET", "/me", token=token)).json
        assert (me["name"], me["role"]) == ("somebody", "reader")


# What scripts for dispatchoor ask: the same callers, whose secrets say that they expect its shapes

FOR_SCRIPTS = """
GET    /health                              200 200 200 200 200 200 200 200 200 200
POST   /auth/login                          200 200 200 200 200 200 200 200 200 200
POST   /auth/logout                         401 401 401 400 400 400 400 400 400 400
GET    /auth/me                             401 401 401 200 200 200 200 200 200 200
GET    /auth/github                         307 307 307 307 307 307 307 307 307 307
GET    /groups                              401 401 401 200 200 200 200 200 200 200
GET    /groups/{group}                      401 401 401 200 200 403 200 200 200 200
GET    /groups/{group}/queue                401 401 401 200 200 403 200 200 200 200
POST   /groups/{group}/queue                401 401 401 403 201 403 201 201 201 201
PUT    /groups/{group}/queue/reorder        401 401 401 403 204 403 204 204 204 204
GET    /runners                             401 401 401 200 200 200 200 200 200 200
GET    /jobs/{run}                          401 401 401 200 200 403 200 200 200 200
DELETE /jobs/{run}                          401 401 401 403 204 403 204 204 204 204
POST   /jobs/{run}/cancel                   401 401 401 403 400 403 400 400 400 400
PUT    /jobs/{run}/auto-requeue             401 401 401 403 200 403 200 200 200 200
POST   /jobs/{run}/disable-requeue          401 401 401 403 200 403 200 200 200 200
"""
SCRIPT_ROWS = [line.split() for line in FOR_SCRIPTS.strip().splitlines()]
SCRIPT_ROUTES = (dispatchoor.HEALTH, *dispatchoor.OWN_PATHS, *dispatchoor.SAME_PATHS)
SCRIPT_BODIES: dict[tuple[str, str], Callable[[str], object]] = {
    ("POST", "/auth/login"): lambda _: {"username": "guest", "password": PASSWORD},
    ("POST", "/groups/{group}/queue"): lambda _: {"template_id": "check"},
    ("PUT", "/groups/{group}/queue/reorder"): lambda run: {"job_ids": [run]},
    ("PUT", "/jobs/{run}/auto-requeue"): lambda _: {"auto_requeue": False},
}


def test_every_operation_for_scripts_has_its_row() -> None:
    assert {(method, path) for method, path, *_ in SCRIPT_ROWS} == set(map(key_of, SCRIPT_ROUTES))
    assert {len(row) for row in SCRIPT_ROWS} == {2 + len(CALLERS)}
    assert {key_of(route) for route in SCRIPT_ROUTES if route.method != "GET" and not route.audit} == {
        ("POST", "/auth/login")  # noted with the user who then is known
    }
    assert set(map(key_of, dispatchoor.SAME_PATHS)) <= set(map(key_of, all_routes()))
    assert not set(map(key_of, dispatchoor.OWN_PATHS)) & set(map(key_of, all_routes()))


@pytest.mark.parametrize(
    ("method", "path", "expected"), [(m, p, e) for m, p, *e in SCRIPT_ROWS], ids=lambda v: str(v)[:40]
)
@pytest.mark.draw(6)
async def test_every_script_gets_what_the_table_says(stage: Stage, method: str, path: str, expected: list[str]) -> None:
    bench, got = stage.service.bench, {}
    await stage.service.added("guest", Role.READER, password=PASSWORD)
    await bench.lab.group_service.configure((), [Template(id="check", group="lab", workload=bench.workload("c.efi"))])
    for caller in CALLERS:
        values = await stage.values()
        target = path.format_map(values)
        headers = {"Authorization": f"Bearer dispatchoor.{stage.tokens[caller]}"} if stage.tokens[caller] else {}
        body = SCRIPT_BODIES.get((method, path))
        content = msgspec.json.encode(body(values["run"])) if body else b""
        prefix = "" if path == dispatchoor.HEALTH.path else PREFIX
        reply = await bench.call(method, prefix + target, source="127.0.0.1", headers=headers, body=content)
        got[caller] = reply.status
        bench.clock.ahead += 60.0  # no limit on how often one may sign in is reached
        if reply.status >= 400:
            assert reply.json["error"].startswith("expected")
    assert got == dict(zip(CALLERS, map(int, expected), strict=True))


# Pages: nobody is sent to where they can sign in

PAGES = """
GET  /                       303 303 303 200 200 200 200 200 200 200
GET  /static/{build}/{name}  200 200 200 200 200 200 200 200 200 200
GET  /sign-in                200 200 200 200 200 200 200 200 200 200
POST /sign-in                303 303 303 303 303 303 303 303 303 303
POST /sign-out               401 401 401 400 400 400 400 400 400 400
GET  /queue                  303 303 303 200 200 200 200 200 200 200
POST /queue                  401 401 401 403 200 303 303 200 200 200
GET  /queue/add              303 303 303 403 200 200 200 200 200 200
POST /queue/add              401 401 401 403 400 403 400 400 400 400
GET  /queue/edit/{run}       303 303 303 403 200 403 200 200 200 200
POST /queue/edit             401 401 401 403 303 403 303 303 303 303
GET  /templates              303 303 303 200 200 200 200 200 200 200
POST /templates              401 401 401 403 400 400 400 400 400 400
GET  /builds                 303 303 303 200 200 200 200 200 200 200
POST /builds                 401 401 401 403 303 303 303 303 303 303
GET  /builds/compare         303 303 303 200 200 200 200 200 200 200
GET  /history                303 303 303 200 200 200 200 200 200 200
GET  /history/charts         303 303 303 200 200 200 200 200 200 200
GET  /history.csv            303 303 303 200 200 200 200 200 200 200
GET  /machines               303 303 303 200 200 200 200 200 200 200
GET  /machines/{machine}     303 303 303 200 200 200 200 200 200 200
POST /machines               401 401 401 403 200 303 200 200 200 200
GET  /runs/{run}             303 303 303 200 200 403 200 200 200 200
GET  /runs/{run}/console.txt 303 303 303 200 200 403 200 200 200 200
POST /runs                   401 401 401 403 200 303 200 200 200 200
GET  /cycles                 303 303 303 200 200 200 200 200 200 200
POST /cycles                 401 401 401 403 200 303 200 200 200 200
GET  /cycles/{cycle}         303 303 303 200 200 403 200 200 200 200
GET  /cycles/{cycle}/rounds/{number} 303 303 303 404 404 403 404 404 404 404
GET  /cycles/{cycle}/rounds/{number}/output.txt 303 303 303 404 404 403 404 404 404 404
GET  /cycles/{cycle}/rounds/{number}/junit.xml 303 303 303 404 404 403 404 404 404 404
GET  /sessions               303 303 303 200 200 200 200 200 200 200
POST /sessions               401 401 401 403 403 200 200 200 200 200
GET  /find                   303 303 303 200 200 200 200 200 200 200
POST /lab                    401 401 401 403 303 303 303 303 303 303
GET  /lab                    303 303 303 200 200 200 200 200 200 200
GET  /account                303 303 303 200 200 200 200 200 200 200
POST /account                401 401 401 200 200 403 403 200 200 400
GET  /users                  303 303 303 403 403 403 403 403 200 200
POST /users                  401 401 401 403 403 403 403 403 200 200
GET  /audit                  303 303 303 403 403 403 403 403 200 200
POST /look                   401 401 401 303 303 303 303 303 303 303
"""
PAGE_ROWS = [line.split() for line in PAGES.strip().splitlines()]
PAGE_FIELDS = {
    ("POST", "/sign-in"): [("name", "guest"), ("password", PASSWORD)],
    ("POST", "/queue"): [("do", "stop")],  # a question, as the next ones, or why it is refused
    ("POST", "/queue/add"): [("kind", "boot"), ("group", "lab")],
    ("POST", "/queue/edit"): [("run", "{run}")],
    ("POST", "/builds"): [("source", "w")],
    ("POST", "/machines"): [("do", "hold"), ("machine", "m-1")],
    ("POST", "/lab"): [("do", "look")],
    ("POST", "/runs"): [("do", "cancel"), ("run", "{run}")],
    ("POST", "/cycles"): [("do", "pause"), ("cycle", "{cycle}")],
    ("POST", "/sessions"): [("session", "{session}")],
    ("POST", "/account"): [("do", "token"), ("label", "new"), ("role", "reader")],
    ("POST", "/users"): [("do", "link"), ("user", "guest")],
}


def page_key(route: Route) -> tuple[str, str]:
    return route.method, re.sub(r":[^}]*", "", route.path)


def test_every_page_has_its_row() -> None:
    assert {(method, path) for method, path, *_ in PAGE_ROWS} == set(map(page_key, PAGE_ROUTES))
    assert {len(row) for row in PAGE_ROWS} == {2 + len(CALLERS)}
    assert {page_key(route) for route in PAGE_ROUTES if route.needs is None} == {
        ("GET", "/static/{build}/{name}"),
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
    }


@pytest.fixture
async def page_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage_of(tmp_path, pages=True) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path", "expected"), [(m, p, e) for m, p, *e in PAGE_ROWS], ids=lambda v: str(v)[:40]
)
async def test_everybody_gets_the_pages_that_the_table_says(
    page_stage: Stage, method: str, path: str, expected: list[str]
) -> None:
    bench, got = page_stage.service, {}
    await bench.added("guest", Role.READER, password=PASSWORD)
    for caller in CALLERS:
        values = await page_stage.values("{session} {user} {token} {cycle}") | {"build": build(), "name": "lab.css"}
        visitor = Visitor(bench, token=page_stage.tokens[caller])
        target = path.format_map(values)
        fields = [(field, value.format_map(values)) for field, value in PAGE_FIELDS.get((method, path), [])]
        reply = await (visitor.post(target, *fields) if method == "POST" else visitor.ask(method, target))
        got[caller] = reply.status
        bench.bench.clock.ahead += 60.0  # no limit on how often one may sign in is reached
    assert got == dict(zip(CALLERS, map(int, expected), strict=True))


def test_the_page_says_how_many_requests_each_caller_is_refused() -> None:
    page = (ROOT / "docs" / "users.md").read_text("utf-8")
    told = re.findall(r"(?m)^\| [^|]+ \(`(\w+)`\) \| (\d+) \| (\d+) \|$", page)
    refused = [sum(row[2 + column] in {"401", "403"} for row in ROWS) for column in range(len(CALLERS))]
    assert [(name, int(answered), int(no)) for name, answered, no in told] == [
        (name, len(ROWS) - no, no) for name, no in zip(CALLERS, refused, strict=True)
    ]
