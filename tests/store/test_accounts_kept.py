"""Users, tokens, browser sessions and the audit log in the journal: kept, found, cut, saved and copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from databases import KINDS, Place, place, postgres_programs, postgres_server
from journals import session

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.store import schema
from pytest_dispatch.store.accounts import (
    ApiToken,
    AuditFilter,
    BrowserSession,
    KeptAccounts,
    User,
    api_token_row,
    audit_row,
    browser_session_row,
    user_row,
)
from pytest_dispatch.store.backup import backup, restore
from pytest_dispatch.store.inserts import Expired
from pytest_dispatch.store.journal import Journal, session_row

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

SOON = 60.0  # seconds that anything here may take; nothing takes as long
PAGE = 4096

USERS = [
    User(name="ada", role="operator", password="$argon2id$…", made=1.0, seen=2.0),
    User(name="octocat@github", role="reader", subject="github:1", made=3.0, removed=4.0),
]
TOKENS = [
    ApiToken(id="a", digest="1" * 64, user="ada", label="ci\0", role="reader", groups=("lab", "x"), expires=9.0),
    ApiToken(id="b", digest="2" * 64, user="ada", label="all", role="admin", revoked=7.0),
]
BROWSERS = [
    BrowserSession(digest="3" * 64, user="ada", address="127.0.0.1", made=1.0, expires=50.0),
    BrowserSession(digest="4" * 64, user="ada", address="::1", made=1.0, expires=500.0, ended=60.0),
]


def entry(number: int, who: str = "ada", action: str = "user.change") -> AuditEntry:
    change = {"role": "reader", "groups": None}
    return AuditEntry(
        at=float(number), who=who, signed_in="lab", address="::1", action=action, target=f"t{number}", after=change
    )


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    programs = postgres_programs()
    assert programs is not None
    with postgres_server(programs) as url:
        yield url


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    with place(request.param, tmp_path, server) as found:
        yield found


def opened(where: str | Path) -> Journal:
    journal = Journal(where)
    journal.open()
    return journal


def fill(journal: Journal) -> None:
    rows = [*map(user_row, USERS), *map(api_token_row, TOKENS), *map(browser_session_row, BROWSERS)]
    journal.write([*rows, *(audit_row(entry(number)) for number in range(1, 6))]).result(SOON)


def sorted_of(found: KeptAccounts) -> tuple[list[User], list[ApiToken], list[BrowserSession]]:
    return (
        sorted(found.users, key=lambda user: user.name),
        sorted(found.tokens, key=lambda token: token.id),
        sorted(found.browser_sessions, key=lambda each: each.digest),
    )


def test_what_was_written_is_read(where: Place) -> None:
    with closing(opened(where.where)) as journal:
        fill(journal)
    with closing(opened(where.where)) as journal:
        assert sorted_of(journal.reader.accounts()) == (USERS, TOKENS, BROWSERS)
        entries = journal.reader.audit_log(AuditFilter())
        assert [each.target for each in entries] == ["t5", "t4", "t3", "t2", "t1"]
        assert entries[0].after == {"role": "reader", "groups": None}


FILTERS: dict[str, tuple[AuditFilter, list[int]]] = {
    "who": (AuditFilter(who="eve"), [6]),
    "action": (AuditFilter(action="token"), [7]),
    "action-exactly": (AuditFilter(action="token.create"), [7]),
    "no-prefix": (AuditFilter(action="tok"), []),
    "no-pattern": (AuditFilter(action="%"), []),
    "target": (AuditFilter(target="t3"), [3]),
    "since": (AuditFilter(since=6.0), [7, 6]),
    "until": (AuditFilter(until=2.0), [1]),
    "most": (AuditFilter(most=2), [7, 6]),
}


@pytest.mark.parametrize("name", FILTERS)
def test_the_audit_log_is_searched(where: Place, name: str) -> None:
    wanted, expected = FILTERS[name]
    with closing(opened(where.where)) as journal:
        fill(journal)
        journal.write([audit_row(entry(6, "eve")), audit_row(entry(7, action="token.create"))]).result(SOON)
        assert [int(each.at) for each in journal.reader.audit_log(wanted)] == expected


def test_what_has_expired_is_deleted_and_what_never_does_is_kept(where: Place) -> None:
    browsers, tokens = schema.browser_sessions.c, schema.api_tokens.c
    expired = [Expired(browsers.expires, 55.0), Expired(browsers.ended, 55.0), Expired(tokens.expires, 8.0)]
    with closing(opened(where.where)) as journal:
        fill(journal)
        journal.forget([*expired, Expired(tokens.revoked, 8.0), Expired(schema.audit.c.at, 3.0)]).result(SOON)
        found = journal.reader.accounts()
        assert [each.digest for each in found.browser_sessions] == ["4" * 64]
        assert [each.id for each in found.tokens] == ["a"]
        assert [int(each.at) for each in journal.reader.audit_log(AuditFilter())] == [5, 4, 3]


def test_a_session_keeps_its_user(where: Place) -> None:
    with closing(opened(where.where)) as journal:
        journal.write([session_row(session("s"))]).result(SOON)
        kept = journal.reader.unfinished("s")
        assert kept is not None
        assert kept.user == "lab"


def filled(folder: Path) -> Path:
    path = folder / "journal.db"
    with closing(opened(path)) as journal:
        fill(journal)
    return path


def test_a_backup_has_them_and_a_restored_journal_too(tmp_path: Path) -> None:
    path = filled(tmp_path)
    backup(path, tmp_path / "copy.db")
    with closing(opened(path)) as journal:
        journal.write([user_row(User(name="eve", role="admin"))]).result(SOON)
    restore(path, tmp_path / "copy.db")
    with closing(opened(path)) as journal:
        assert sorted_of(journal.reader.accounts()) == (USERS, TOKENS, BROWSERS)
        assert len(journal.reader.audit_log(AuditFilter())) == 5


def zeros(page: bytes) -> bytes:
    return bytes(len(page))


def noise(page: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in page)


@pytest.mark.parametrize("scramble", [zeros, noise])
def test_a_damaged_journal_keeps_those_that_can_be_read(tmp_path: Path, scramble: Callable[[bytes], bytes]) -> None:
    """Whatever page is damaged: users and tokens are whole, or gone, and never other ones."""
    whole = filled(tmp_path).read_bytes()
    complete = 0
    for at in range(PAGE, len(whole), PAGE):
        path = tmp_path / str(at) / "journal.db"
        path.parent.mkdir()
        path.write_bytes(whole[:at] + scramble(whole[at : at + PAGE]) + whole[at + PAGE :])
        with closing(opened(path)) as journal:
            users, tokens, _ = sorted_of(journal.reader.accounts())
        assert [user for user in users if user not in USERS] == []
        assert [token for token in tokens if token not in TOKENS] == []
        complete += (users, tokens) == (USERS, TOKENS)
    assert complete > len(whole) // PAGE * 3 // 4  # most pages hold neither
