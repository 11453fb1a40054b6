"""The pages of accounts: what is offered and done, and that a secret is shown once and nowhere else."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from service_bench import PASSWORD, ServiceBench
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.server.api.account_schemas import NewToken, UserChange
from pytest_dispatch.server.auth.roles import Role

pytestmark = pytest.mark.anyio

SCRIPT = {"Dispatch_Page": "1"}


async def steer(visitor: Visitor, path: str, *fields: tuple[str, str], **headers: str) -> SeenPage:
    """Send a form as it stands on a page, and see what comes of it."""
    csrf = (await visitor.see(path)).field("csrf")
    reply = await visitor.post(path, ("csrf", csrf), ("next", path), *fields, **headers)
    assert reply.status in (200, 303), reply.text
    return await visitor.see(reply.headers["location"]) if reply.status == 303 else SeenPage(reply.text)


async def made(visitor: Visitor, path: str, *fields: tuple[str, str]) -> tuple[SeenPage, str]:
    page = await steer(visitor, path, ("do", "token"), ("label", "nightly"), *fields)
    found = re.search(r"dsp_[\w-]+", page.words)
    assert found is not None, page.words
    return page, found[0]


async def test_an_administrator_adds_changes_and_removes_a_user(lab: ServiceBench) -> None:
    visitor, access = await signed_in(lab, "ada"), lab.access.accounts
    page = await steer(visitor, "/users", ("do", "add"), ("user", "zoe"), ("role", "reader"), ("password", PASSWORD))
    assert "zoe: added, as reader." in page.words
    page = await steer(visitor, "/users", ("do", "role"), ("user", "zoe"), ("role", "operator"))
    assert "zoe: now operator." in page.words
    assert access.user("zoe").role == "operator"
    undo = [("do", "role"), ("user", "zoe"), ("role", "reader")]
    assert "zoe: now reader." in (await steer(visitor, "/users", *undo)).words
    question = await steer(visitor, "/users", ("do", "remove"), ("user", "zoe"))
    assert "Remove zoe?" in question.words
    assert access.find("zoe") is not None
    page = await steer(visitor, "/users", ("do", "remove"), ("user", "zoe"), ("sure", "1"))
    assert "zoe: removed." in page.words
    assert access.find("zoe") is None
    actions = [entry["action"] for entry in await lab.audit(who="ada", target="zoe")]
    assert actions == ["user.remove", "user.change", "user.change", "user.create"]


async def test_a_refused_change_says_why(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    for fields, status, text in (
        ((("do", "add"), ("user", "bob")), 409, "expected a new name, got 'bob'"),
        ((("do", "add"), ("user", "a b")), 400, "expected a user's name of letters"),
        ((("do", "add"), ("user", "new"), ("role", "king")), 400, "role: expected one of reader, operator, admin"),
        ((("do", "role"), ("user", "nobody"), ("role", "reader")), 404, "no user 'nobody'"),
        ((("do", "remove"), ("user", "ada"), ("sure", "1")), 409, "nobody removes the user by whom they are"),
        (
            (("do", "token"), ("label", "x"), ("days", "nan")),
            400,
            "days: expected a number of days, at most 36500, got",
        ),
        ((("do", "token"), ("label", "x"), ("days", "3000000")), 400, "at most 36500, got '3000000'"),
        ((("do", "token"), ("label", "x"), ("days", "1e300")), 400, "at most 36500, got '1e300'"),
        ((("do", "token"), ("label", "x"), ("days", "-1")), 400, "at most 36500, got '-1'"),
        ((("do", "token"), ("label", "x"), ("groups", "lab, nowhere")), 400, "expected groups of this lab"),
        ((("do", "explode"),), 400, "do: expected one of add, role, remove, link, token, revoke, got 'explode'"),
    ):
        csrf = (await visitor.see("/users")).field("csrf")
        reply = await visitor.post("/users", ("csrf", csrf), ("next", "/users"), *fields)
        assert (reply.status, text in SeenPage(reply.text).words) == (status, True), (fields, reply.text)


async def test_nobody_changes_their_own_role(lab: ServiceBench) -> None:
    """The only administrator would be none any more, and nobody could undo it."""
    visitor = await signed_in(lab, "ada")
    csrf = (await visitor.see("/users")).field("csrf")
    reply = await visitor.post("/users", ("csrf", csrf), ("do", "role"), ("user", "ada"), ("role", "reader"))
    assert reply.status == 409
    assert "nobody changes their own role, admin, so that an administrator is left" in SeenPage(reply.text).words
    reply = await lab.ask("PUT", "/users/ada", UserChange(role=Role.READER), token=lab.secrets["ada"])
    assert reply.status == 409
    assert lab.access.accounts.user("ada").role == "admin"
    labels = [each.get("aria-label") for each in (await visitor.see("/users")).all("select")]
    assert "Role of bob" in labels
    assert "Role of ada" not in labels
    same = UserChange(role=Role.ADMIN, password=f"{PASSWORD} staple")
    assert (await lab.ask("PUT", "/users/ada", same, token=lab.secrets["ada"])).status == 200


async def test_who_may_not_do_it_is_not_asked_about_it(lab: ServiceBench) -> None:
    await lab.ask("POST", "/tokens", NewToken(label="a-secret-name", user="ada"))
    [token] = [each.id for each in lab.access.accounts.tokens("ada") if each.label == "a-secret-name"]
    visitor = await signed_in(lab, "eve")
    csrf = (await visitor.see("/account")).field("csrf")
    reply = await visitor.post("/account", ("csrf", csrf), ("do", "revoke"), ("token", token))
    assert reply.status == 403
    assert "a-secret-name" not in reply.text
    visitor = await signed_in(lab, "ada")
    csrf = (await visitor.see("/users")).field("csrf")
    for name, status in (("nope", 404), ("ada", 409)):
        reply = await visitor.post("/users", ("csrf", csrf), ("do", "remove"), ("user", name))
        assert reply.status == status


async def test_a_token_is_shown_once_and_works_until_it_is_revoked(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    page, secret = await made(visitor, "/account", ("role", "reader"), ("days", "30"), ("groups", "lab"))
    assert "It is shown only now: copy it." in page.words
    me = (await lab.ask("GET", "/me", token=secret)).json
    assert (me["name"], me["role"], me["groups"]) == ("bob", "reader", ["lab"])
    later = await visitor.ask("GET", "/account")
    assert secret not in later.text
    assert not any(secret in value for value in visitor.cookies.values())
    token = me["signed_in"].removeprefix("token ")
    assert f"token-{token}" in {each.get("id") for each in SeenPage(later.text).all("tr")}
    question = await steer(visitor, "/account", ("do", "revoke"), ("token", token))
    assert "nightly, of bob." in question.words
    await steer(visitor, "/account", ("do", "revoke"), ("token", token), ("sure", "1"))
    assert (await lab.ask("GET", "/me", token=secret)).status == 401
    assert secret not in str(await lab.audit())


async def test_the_script_gets_a_secret_as_an_answer_of_its_own(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "bob")
    csrf = (await visitor.see("/account")).field("csrf")
    reply = await visitor.post("/account", ("csrf", csrf), ("do", "token"), ("label", "nightly"), **SCRIPT)
    assert (await lab.ask("GET", "/me", token=reply.json["secret"])).json["name"] == "bob"
    assert reply.headers["cache-control"] == "no-store"
    assert "set-cookie" not in reply.headers


async def test_a_link_signs_its_user_in_once(lab: ServiceBench) -> None:
    page = await steer(await signed_in(lab, "ada"), "/users", ("do", "link"), ("user", "eve"))
    found = re.search(r"http://\S+/sign-in/link\?token=\S+", page.words)
    assert found is not None
    parts, visitor = urlsplit(found[0]), Visitor(lab)
    reply = await visitor.ask("GET", f"{parts.path}?{parts.query}")
    assert (reply.status, reply.headers["location"]) == (303, "/")
    assert "eve" in (await visitor.see("/")).words
    assert (await Visitor(lab).ask("GET", f"{parts.path}?{parts.query}")).status == 401


async def test_a_password_is_changed_by_who_knows_the_one_before(lab: ServiceBench) -> None:
    visitor, better = await signed_in(lab, "eve"), f"{PASSWORD} staple"
    csrf = (await visitor.see("/account")).field("csrf")
    reply = await visitor.post("/account", ("csrf", csrf), ("do", "password"), ("old", "wrong"), ("new", better))
    assert reply.status == 403
    assert "expected the old password" in SeenPage(reply.text).words
    page = await steer(visitor, "/account", ("do", "password"), ("old", PASSWORD), ("new", better))
    assert "Your password is changed" in page.words
    assert (await lab.sign_in("eve", better)).status == 200


async def test_nobody_is_offered_more_than_they_may(lab: ServiceBench) -> None:
    for name, roles in (("eve", ["", "reader"]), ("bob", ["", "reader", "operator"])):
        visitor = await signed_in(lab, name)
        page = await visitor.see("/account")
        options = [each.get("value", "") for each in page.all("option")]
        assert "Users and tokens" not in page.words
        assert [role for role in ("reader", "operator", "admin") if role in page.words.split("Make a token")[1]] == [
            role for role in roles if role
        ], options
        csrf = page.field("csrf")
        for fields in ((("role", "admin"),), (("user", "ada"),)):
            reply = await visitor.post("/account", ("csrf", csrf), ("do", "token"), ("label", "more"), *fields)
            assert reply.status == 403, fields


async def test_an_administrator_sees_the_tokens_of_all_or_of_one(lab: ServiceBench) -> None:
    await lab.ask("POST", "/tokens", NewToken(label="the nightly build", user="bob"))
    visitor = await signed_in(lab, "ada")
    everything, of_bob = await visitor.see("/users"), await visitor.see("/users?user=bob")
    shown, of_one = (
        [each for each in page.all("tr") if each.get("id", "").startswith("token-")] for page in (everything, of_bob)
    )
    assert (len(shown), len(of_one)) == (4, 2)
    assert "the nightly build" in of_bob.words


async def test_pages_outlast_a_token_that_lasts_longer_than_there_are_dates(lab: ServiceBench) -> None:
    """A lab that took such a token before it knew better shows it all the same."""
    [token] = lab.access.accounts.tokens("eve")
    for expires in (2.6e11, 1e300):
        await lab.access.accounts.keep_token(replace(token, label="for ever and a day", expires=expires))
        assert "for ever and a day" in (await (await signed_in(lab, "ada")).see("/users")).words
        assert "for ever and a day" in (await (await signed_in(lab, "eve")).see("/account")).words
