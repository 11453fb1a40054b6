"""The page Sessions: what it shows of whom, and how a session is ended."""

from __future__ import annotations

import pytest
from service_bench import ServiceBench
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import OpenSession

pytestmark = pytest.mark.anyio


def shown(page: SeenPage) -> set[str]:
    return {each["id"][2:] for each in page.all("tr") if each.get("id", "").startswith("s-")}


def offered(page: SeenPage) -> set[str]:
    return {each["value"] for each in page.all("button") if each.get("name") == "session"}


async def test_sessions_are_shown_with_what_is_left_to_do(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    away = await lab.ask("POST", "/sessions", OpenSession(source="w2", policy=Policy()), token=lab.secrets["ada"])
    page = await (await signed_in(lab, "eve")).see("/sessions")
    assert shown(page) == {opened.session, away.json["id"]}
    assert "2 sessions open, with 1 run left to do" in page.words
    assert "a running program away ends" in page.words
    assert offered(page) == set()
    mine = await (await signed_in(lab, "bob")).see("/sessions?view=mine")
    assert shown(mine) == offered(mine) == {opened.session}


async def test_a_token_for_some_groups_sees_its_users_sessions_only(lab: ServiceBench) -> None:
    await lab.session(lab.secrets["ada"])
    own = await lab.session(lab.secrets["bob"])
    page = await Visitor(lab, token=await lab.token("bob", groups=("lab",))).see("/sessions")
    assert shown(page) == {own.session}


async def test_a_session_is_ended_after_asking(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    visitor = await signed_in(lab, "ada")
    page = await visitor.see("/sessions")
    assert offered(page) == {opened.session}
    fields = [("csrf", page.field("csrf")), ("next", "/sessions"), ("session", opened.session)]
    question = SeenPage((await visitor.post("/sessions", *fields)).text)
    assert "1 run that waits will be cancelled. It is the session of bob" in question.words
    assert shown(await visitor.see("/sessions")) == {opened.session}
    fields += [("sure", "1"), ("epoch", question.field("epoch"))]
    assert (await visitor.post("/sessions", *fields)).status == 303
    assert "No session is open" in (await visitor.see("/sessions")).words
    [entry] = await lab.audit(action="session.close")
    assert (entry["who"], entry["target"]) == ("ada", opened.session)
    run = (await lab.ask("GET", f"/runs/{opened.run}")).json["run"]
    assert run["reason"] == "cancelled by ada, who ended its session, while unassigned"


async def test_a_session_that_was_taken_over_meanwhile_stays(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    visitor = await signed_in(lab, "bob")
    fields = [("csrf", (await visitor.see("/sessions")).field("csrf")), ("session", opened.session)]
    epoch = SeenPage((await visitor.post("/sessions", *fields)).text).field("epoch")
    wanted = OpenSession(source="w", policy=Policy())
    taken = await lab.ask("POST", f"/sessions/{opened.session}/lease", wanted, token=lab.secrets["bob"])
    assert taken.status == 200, taken.text
    reply = await visitor.post("/sessions", *fields, ("sure", "1"), ("epoch", epoch))
    assert reply.status == 409
    assert "this session was taken over" in SeenPage(reply.text).words
    assert shown(await visitor.see("/sessions")) == {opened.session}


async def test_a_script_repeats_what_the_question_adds(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/sessions")).field("csrf")
    script = {"Dispatch_Page": "1", "Dispatch_CSRF": csrf}
    question = (await visitor.post("/sessions", ("session", opened.session), **script)).json
    assert question["action"] == "/sessions"
    assert question["fields"] == [["session", opened.session], ["epoch", "1"]]
    fields = [(name, value) for name, value in question["fields"]]
    wanted = OpenSession(source="w", policy=Policy())
    await lab.ask("POST", f"/sessions/{opened.session}/lease", wanted, token=lab.secrets["bob"])
    reply = await visitor.post("/sessions", *fields, ("sure", "1"), **script)
    assert reply.status == 409
    assert "this session was taken over" in reply.json["error"]


async def test_a_session_is_not_ended_without_whose_it_was(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["bob"])
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/sessions")).field("csrf")
    reply = await visitor.post("/sessions", ("csrf", csrf), ("session", opened.session), ("sure", "1"))
    assert reply.status == 400
    assert "epoch: expected the whole number of the question, got ''" in SeenPage(reply.text).words
    assert shown(await visitor.see("/sessions")) == {opened.session}


async def test_nobody_ends_the_session_of_another_user(lab: ServiceBench) -> None:
    opened = await lab.session(lab.secrets["ada"])
    visitor = await signed_in(lab, "bob")
    page = await visitor.see("/sessions")
    assert offered(page) == set()
    fields = [("csrf", page.field("csrf")), ("session", opened.session), ("sure", "1")]
    reply = await visitor.post("/sessions", *fields)
    assert reply.status == 403
    assert "or the role admin, got one of ada" in SeenPage(reply.text).words
    assert shown(await visitor.see("/sessions")) == {opened.session}
