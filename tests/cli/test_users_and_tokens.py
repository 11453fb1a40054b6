"""`dispatch users`, `dispatch tokens` and `dispatch audit`, as an administrator uses them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from labs import embedded
from service_bench import PASSWORD

from pytest_dispatch.cli.main import main
from pytest_dispatch.client.lab_tokens import keep_token


@dataclass
class Admin:
    """Somebody at the shell of the lab's computer."""

    lab: str
    token_file: Path
    capture: pytest.CaptureFixture[str]
    type_in: Callable[[str], None]

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command; returns what it says."""
        assert main([*words, "--lab", self.lab, "--token-file", str(self.token_file)]) == code
        said, errors = self.capture.readouterr()
        return errors if code else said

    def add(self, name: str, *words: str) -> str:
        self.type_in(f"{PASSWORD}\n")
        return self.run("users", "add", name, *words)


@pytest.fixture
def admin(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    lab = embedded(tmp_path, private=False)
    lab.start("")
    assert lab.sign_in_path.startswith("/api/v1/sign-in/link?token=")
    file = tmp_path / "token"
    file.write_text(f"{lab.token}\n")
    monkeypatch.delenv("DISPATCH_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield Admin(lab.url, file, capsys, lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text)))
    lab.stop()


def test_users_are_added_listed_changed_and_removed(admin: Admin) -> None:
    assert admin.add("ada", "--role=operator") == "dispatch: ada is a user now, operator\n"
    said = admin.run("users", "add", "bob", "--link")
    assert f"dispatch: this link signs bob in once, within an hour: {admin.lab}/api/v1/sign-in/link?token=" in said
    assert admin.run("users", "role", "ada", "reader") == "dispatch: ada is reader now\n"
    lines = [line.split() for line in admin.run("users", "list").splitlines()]
    assert lines == [
        ["NAME", "ROLE", "SIGNS", "IN", "BY", "LAST", "SEEN"],
        ["ada", "reader", "password", "never"],
        ["admin", "admin", "link", "or", "token", "never"],
        ["bob", "reader", "link", "or", "token", "never"],
    ]
    admin.type_in("another horse battery\n")
    said = admin.run("users", "passwd", "ada")
    assert said == "dispatch: ada has a new password, and is signed out everywhere\n"
    assert admin.run("users", "remove", "ada") == "dispatch: ada is removed, with all tokens\n"
    assert "no user 'ada'" in admin.run("users", "remove", "ada", code=1)


def test_a_token_is_made_used_and_revoked(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.run("users", "add", "ci", "--no-password", "--role=operator")
    made = admin.run("tokens", "create", "nightly", "--user=ci", "--lasts=90d", "--group=lab").strip()
    assert made.startswith("dsp_")
    monkeypatch.setenv("DISPATCH_TOKEN", made)
    assert main(["tokens", "list", "--lab", admin.lab]) == 0
    heads, row = admin.capture.readouterr().out.splitlines()
    assert heads.split() == ["ID", "USER", "ROLE", "GROUPS", "EXPIRES", "LAST", "USED", "LABEL"]
    assert row.split()[1:4] == ["ci", "operator", "lab"]
    assert main(["users", "list", "--lab", admin.lab]) == 1
    assert "expected the role admin here, got ci, operator confined to groups" in admin.capture.readouterr().err
    token_id = row.split()[0]
    assert admin.run("tokens", "revoke", token_id) == f"dispatch: token {token_id} is revoked\n"
    assert main(["tokens", "list", "--lab", admin.lab]) == 3
    assert f"got {token_id}, which was revoked" in admin.capture.readouterr().err
    assert "revoked" in admin.run("tokens", "list", "--all")


def test_the_log_shows_who_changed_what(admin: Admin) -> None:
    admin.run("users", "add", "ci", "--no-password")
    admin.run("users", "role", "ci", "admin")
    lines = admin.run("audit", "--action=user", "--since=1h").splitlines()
    assert [line.split()[2:6] for line in lines[1:]] == [
        ["lab", "127.0.0.1", "user.create", "ci"],
        ["lab", "127.0.0.1", "user.change", "ci"],
    ]
    assert '{"role": "reader"' in lines[-1]
    [entry] = json.loads(admin.run("audit", "--json", "-n1"))
    assert (entry["action"], entry["before"]["role"], entry["after"]["role"]) == ("user.change", "reader", "admin")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("users", "add", "x", "--role=king"), 2, "invalid choice: 'king'"),
        (("users", "add", "lab", "--no-password"), 1, "expected another name than 'lab'"),
        (("tokens", "create", "x"), 1, "expected the user whose token it is to be"),
        (("tokens", "create", "x", "--user=admin", "--lasts=soon"), 2, "--lasts: expected a duration such as 30m"),
        (("tokens", "revoke", "x/../y"), 1, "no token 'x/../y'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(admin: Admin, words: tuple[str, ...], code: int, why: str) -> None:
    said = admin.run(*words, code=code)
    assert said.startswith("dispatch: ")
    assert why in said
    assert said.count("\n") == 1


def test_the_token_that_dispatch_login_keeps_is_used(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_token(admin.lab, admin.token_file.read_text().strip())
    assert main(["users", "list"]) == 0  # of the lab whose token was kept last
    assert "admin" in admin.capture.readouterr().out
    monkeypatch.setenv("DISPATCH_TOKEN", "another")
    assert main(["users", "list", "--lab", f"{admin.lab}/"]) == 3  # what is said now counts more


def test_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPATCH_TOKEN", "DISPATCH_LAB"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert main(["users"]) == 2
    said = capsys.readouterr().err
    assert said == "dispatch: the following arguments are required: COMMAND; see `dispatch users --help`\n"
    for words in (["--token-file", str(tmp_path / "none")], []):
        assert main(["users", "list", *words]) == 3
        said = capsys.readouterr().err
        assert said.startswith(f"dispatch: not signed in: expected a token in {tmp_path}/")
        assert said.count("\n") == 1
    assert "is a lab running there? then name with --token-file the file that it named at its start; else" in said
    monkeypatch.setenv("DISPATCH_TOKEN", "x y")
    assert main(["users", "list"]) == 2
    assert "the token from DISPATCH_TOKEN is invalid" in capsys.readouterr().err
