"""Signing in by name and password or by a link, and what a browser then may do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from labs import CHEAP, TOKEN, running_lab
from service_bench import PASSWORD, Browser, ServiceBench, cookies_of, service
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.api.account_schemas import NewUser, PasswordChange, UserChange
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.auth.errors import TooManyError
from pytest_dispatch.server.auth.passwords import WAITING, Passwords
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import AccessSettings, ConfiguredUser
from pytest_dispatch.server.auth.sign_in import EACH, LINK, TRIES

pytestmark = pytest.mark.anyio

WRONG = "expected a name and its password; one of them is wrong"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, session_ttl=3600.0) as running:
        await running.added("ada", Role.OPERATOR, password=PASSWORD)
        yield running


async def test_a_password_signs_in_and_sets_a_cookie_that_no_script_reads(running: ServiceBench) -> None:
    reply = await running.sign_in("ada")
    assert (reply.status, reply.json["name"], reply.json["role"]) == (200, "ada", "operator")
    cookie = cookies_of(reply.headers)
    assert ("httponly" in cookie, cookie["samesite"], cookie["path"], cookie["max-age"]) == (True, "Lax", "/", "3600")
    assert "domain" not in cookie
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ada", ""), ("", PASSWORD)])
async def test_whatever_is_wrong_the_answer_is_the_same(running: ServiceBench, name: str, password: str) -> None:
    reply = await running.sign_in(name, password)
    assert (reply.status, reply.json) == (401, {"error": WRONG})
    assert "set-cookie" not in reply.headers


async def test_a_user_without_a_password_has_none(running: ServiceBench) -> None:
    await running.added("bot", Role.READER)
    assert [(await running.sign_in("bot", password)).status for password in ("", "nobody's password")] == [401, 401]


async def test_a_browser_must_show_that_its_own_page_asks(running: ServiceBench) -> None:
    """A cookie comes along with whatever page makes the browser ask."""
    browser = await running.browser("ada")
    assert (await browser.ask("GET", "/me")).json["csrf"] == browser.csrf
    for csrf in (None, "", "x", browser.csrf[:-1]):
        reply = await browser.ask("POST", "/sign-out", csrf=csrf)
        assert (reply.status, reply.json["error"].startswith("expected what /api/v1/me gives as `csrf`")) == (403, True)
    assert (await browser.change("POST", "/sign-out")).status == 204
    assert (await browser.ask("GET", "/me")).status == 401


async def test_the_csrf_of_another_session_does_not_fit(running: ServiceBench) -> None:
    first, second = await running.browser("ada"), await running.browser("ada")
    assert (await first.ask("POST", "/sign-out", csrf=second.csrf)).status == 403


async def test_signing_in_never_goes_on_with_a_session_that_the_browser_had(running: ServiceBench) -> None:
    """Else whoever plants a cookie could use the session afterwards."""
    first = await running.browser("ada")
    second = await running.browser("ada")
    assert first.cookie != second.cookie


async def test_a_browser_is_signed_out_when_its_time_is_over(running: ServiceBench) -> None:
    browser = await running.browser("ada")
    running.bench.clock.ahead += 3599.0
    assert (await browser.ask("GET", "/me")).status == 200
    running.bench.clock.ahead += 2.0
    assert (await browser.ask("GET", "/me")).status == 401


async def test_a_browser_stays_signed_in_over_a_restart(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        await running.added("ada", Role.OPERATOR, password=PASSWORD)
        browser = await running.browser("ada")
    async with service(tmp_path) as running:
        assert (await Browser(running, browser.cookie, browser.csrf).ask("GET", "/me")).status == 200


async def test_removing_a_user_ends_everything_of_theirs_at_once(running: ServiceBench) -> None:
    browser, token = await running.browser("ada"), running.secrets["ada"]
    assert (await running.ask("DELETE", "/users/ada")).status == 204
    assert (await browser.ask("GET", "/me")).status == 401
    assert (await running.ask("GET", "/me", token=token)).status == 401
    assert (await running.sign_in("ada")).status == 401
    assert (await running.ask("POST", "/users", NewUser(name="ada"))).status == 201  # another person of that name
    assert (await browser.ask("GET", "/me")).status == 401
    assert (await running.ask("GET", "/me", token=token)).status == 401


async def test_a_new_password_signs_the_other_browsers_out(running: ServiceBench) -> None:
    first, second = await running.browser("ada"), await running.browser("ada")
    new = PasswordChange(old=PASSWORD, new="another horse battery")
    assert (await first.change("PUT", "/me/password", new)).status == 204
    assert [(await browser.ask("GET", "/me")).status for browser in (first, second)] == [200, 401]
    assert (await running.sign_in("ada")).status == 401
    assert (await running.sign_in("ada", "another horse battery")).status == 200


@pytest.mark.parametrize(
    ("old", "new", "status", "why"),
    [
        ("wrong", "another horse battery", 403, "expected the old password as `old`, got another one"),
        (PASSWORD, "short", 400, "expected a password of 10 to 1000 characters, got 5"),
        (PASSWORD, "x" * 1001, 400, "expected a password of 10 to 1000 characters, got 1001"),
    ],
)
async def test_a_password_that_is_not_taken(running: ServiceBench, old: str, new: str, status: int, why: str) -> None:
    browser = await running.browser("ada")
    reply = await browser.change("PUT", "/me/password", PasswordChange(old=old, new=new))
    assert (reply.status, reply.json["error"]) == (status, why)


async def test_an_administrator_sets_a_password(running: ServiceBench) -> None:
    browser = await running.browser("ada")
    assert (await running.ask("PUT", "/users/ada", UserChange(password="another horse battery"))).status == 200
    assert (await browser.ask("GET", "/me")).status == 401
    assert (await running.sign_in("ada", "another horse battery")).status == 200


# Limits


async def test_tries_for_an_account_are_limited_wherever_they_come_from(running: ServiceBench) -> None:
    for number in range(TRIES):
        assert (await running.sign_in("ada", "wrong", source=f"127.0.1.{number + 1}")).status == 401
    reply = await running.sign_in("ada", source="127.0.2.1")
    assert (reply.status, reply.headers["retry-after"]) == (429, f"{EACH:g}")
    assert reply.json["error"] == "too many tries to sign in with this account; wait 6 s for the next one"
    running.bench.clock.ahead += EACH + 1
    assert (await running.sign_in("ada", source="127.0.2.1")).status == 200


async def test_tries_from_an_address_are_limited_whatever_the_account(running: ServiceBench) -> None:
    for number in range(TRIES):
        assert (await running.sign_in(f"guess-{number}", "wrong", source="127.0.3.1")).status == 401
    assert (await running.sign_in("ada", source="127.0.3.1")).status == 429
    assert (await running.sign_in("ada", source="127.0.3.2")).status == 200


async def test_passwords_are_checked_beside_the_loop_and_not_without_end() -> None:
    passwords = Passwords(CHEAP)
    checks = [asyncio.create_task(passwords.hashed(f"password {number}")) for number in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyError, match="too many people sign in at once; try again in a moment"):
        await passwords.hashed("one more")
    assert len(set(await asyncio.gather(*checks))) == WAITING
    assert await passwords.matches(await passwords.hashed("one more"), "one more")
    passwords.close()


# Links


async def test_the_first_start_makes_an_administrator_who_signs_in_once_by_a_link(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        path = await running.access.administrator_link()
        reply = await running.ask("GET", path, token="")
        assert (reply.status, reply.headers["location"]) == (303, "/")
        browser = Browser(running, reply.headers["set-cookie"].partition(";")[0], "")
        me = (await browser.ask("GET", "/me")).json
        assert (me["name"], me["role"]) == ("admin", "admin")
        browser.csrf = me["csrf"]
        assert (await running.ask("GET", path, token="")).status == 401  # it works once
        assert (await browser.change("PUT", "/me/password", PasswordChange(new=PASSWORD))).status == 204
        assert await running.access.administrator_link() == ""
    async with service(tmp_path) as running:
        assert await running.access.administrator_link() == ""
        assert (await running.sign_in("admin")).status == 200


async def test_a_link_that_nobody_used_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        first = await running.access.administrator_link()
    async with service(tmp_path) as running:
        assert (await running.ask("GET", first, token="")).status == 401
        second = await running.access.administrator_link()
        running.bench.clock.ahead += LINK + 1
        reply = await running.ask("GET", second, token="")
        assert reply.status == 401
        assert reply.json["error"].startswith("expected a link that was not used yet and is less than an hour old")


async def test_an_administrator_of_the_configuration_needs_no_link(tmp_path: Path) -> None:
    users = (ConfiguredUser(name="root", password=PASSWORD, role=Role.ADMIN),)
    async with service(tmp_path, users=users) as running:
        assert await running.access.administrator_link() == ""


async def test_an_administrator_makes_a_link_for_somebody(running: ServiceBench) -> None:
    path = (await running.ask("POST", "/users/ada/link")).json["path"].removeprefix(PREFIX)
    assert (await running.ask("GET", path, token="")).status == 303
    assert (await running.ask("POST", "/users/nobody/link")).status == 404


# The configuration


async def test_users_of_the_configuration_follow_it(tmp_path: Path) -> None:
    hashed = await Passwords(CHEAP).hashed("hashed before")
    ada, bob = (ConfiguredUser(name="ada", password=PASSWORD), ConfiguredUser(name="bob", password=hashed))
    async with service(tmp_path, users=(ada, bob)) as running:
        assert (await running.sign_in("ada")).status == 200
        browser = await running.browser("bob", "hashed before")
        reply = await running.ask("PUT", "/users/ada", UserChange(password="correct horse battery"))
        assert (reply.status, "auth.users" in reply.json["error"]) == (409, True)
    async with service(tmp_path, users=(bob,)) as running:
        assert (await running.sign_in("ada")).status == 401
        assert (await Browser(running, browser.cookie, "").ask("GET", "/me")).status == 200
    changed = ConfiguredUser(name="bob", password="another one", role=Role.ADMIN)
    async with service(tmp_path, users=(changed,)) as running:
        assert (await Browser(running, browser.cookie, "").ask("GET", "/me")).status == 401
        assert (await running.browser("bob", "another one")).cookie
        assert (await running.ask("GET", "/users")).json[0]["role"] == "admin"


@pytest.mark.parametrize("name", ["", "lab", "a b", "-x", "ä", "x" * 65, "x@github", "../x"])
async def test_a_name_that_cannot_be_used(running: ServiceBench, name: str) -> None:
    reply = await running.ask("POST", "/users", NewUser(name=name))
    assert (reply.status, "name" in reply.json["error"]) == (400, True)


async def test_a_name_that_is_taken(running: ServiceBench) -> None:
    reply = await running.ask("POST", "/users", NewUser(name="ada"))
    assert (reply.status, reply.json["error"].startswith("expected a new name, got 'ada'")) == (409, True)


async def test_nobody_removes_themselves(running: ServiceBench) -> None:
    token = await running.added("chief", Role.ADMIN)
    assert (await running.ask("DELETE", "/users/chief", token=token)).status == 409


async def test_without_argon2_a_service_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "argon2", None)
    async with running_lab(tmp_path, doors=AccessSettings()) as bench:
        reply = await ServiceBench(bench).ask("POST", "/users", NewUser(name="ada", password=PASSWORD))
        assert reply.status == 400
        assert reply.json["error"].startswith("passwords need argon2-cffi, which this Python does not have")
    with pytest.raises(ConfigError, match="pytest-dispatch"):
        async with running_lab(tmp_path, doors=AccessSettings(users=(ConfiguredUser(name="a", password=PASSWORD),))):
            pass


# What is kept


async def test_no_secret_is_in_the_journal(running: ServiceBench) -> None:
    browser, token = await running.browser("ada"), running.secrets["ada"]
    await running.sign_in("ada", "a wrong password")
    link = (await running.ask("POST", "/users/ada/link")).json["path"].partition("=")[2]
    await browser.change("PUT", "/me/password", PasswordChange(old=PASSWORD, new="another horse battery"))
    await running.bench.lab.lab_state.on_disk()
    secrets = [PASSWORD, "a wrong password", "another horse battery", token, link, TOKEN, browser.csrf]
    secrets.append(browser.cookie.partition("=")[2])
    for file in running.bench.folder.glob("journal.db*"):
        content = file.read_bytes()
        assert [secret for secret in secrets if secret.encode() in content] == []
    entries = await running.audit(most="1000")
    assert {entry["action"] for entry in entries} >= {"user.create", "token.create", "user.link", "user.password"}
    assert "$argon2" not in repr(entries)


async def test_what_has_expired_is_forgotten_in_memory_and_on_disk(tmp_path: Path) -> None:
    async with service(tmp_path, session_ttl=60.0, audit_kept=3600.0) as running:
        await running.added("ada", Role.READER, password=PASSWORD)
        await running.browser("ada")
        await running.token("ada", lasts=5.0)
        running.bench.clock.ahead += 31 * 86_400.0
        running.access.accounts.clear(3600.0)

        def rows(table: str) -> int:
            with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
                found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                return found

        await until(lambda: [rows(f"dispatch_{name}") for name in ("browser_sessions", "audit")] == [0, 0])
        assert rows("dispatch_api_tokens") == len(running.access.accounts.tokens()) == 1
