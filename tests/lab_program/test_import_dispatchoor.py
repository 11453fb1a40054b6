"""A lab file from a configuration of dispatchoor: what is taken over, what is not, and that the result is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab_program.lab_file.dispatchoor import Imported, import_dispatchoor
from pytest_dispatch.lab_program.lab_file.document import read_document
from pytest_dispatch.lab_program.lab_file.reading import read_lab_file

#: With the keys of its README and of its code, and with variables in both ways that it knows.
FULL = """\
server:
  listen: ":9090"
  cors_origins: ["*", "https://ui.example.com"]
  rate_limit: {enabled: true, auth: {requests_per_minute: 10}}
database:
  driver: postgres
  sqlite: {path: ./dispatchoor.db}
  postgres: {host: db, port: 5433, user: d@r, password: "${DB_PASSWORD}", database: jobs, sslmode: require}
github: {token: $TOKEN, runners_token: "${RUNNERS}", poll_interval: 60s, rate_limit_buffer: 100}
dispatcher: {enabled: true, interval: 10s, tracking_interval: 30s, max_concurrent: 5}
auth:
  session_ttl: 1h30m
  basic:
    enabled: true
    users:
      - {username: ada, password: "p$$ 1", role: admin}
      - {username: bob, password: x, role: readonly}
      - {username: eve, password: x, role: boss}
  github:
    enabled: true
    client_id: c
    client_secret: ${SECRET}
    redirect_url: https://ui.example.com
    allowed_orgs: [one, two]
    role_mapping: {one: admin}
    org_role_mapping: {three: readonly}
    user_role_mapping: {ada: admin}
history: {retention_days: 7, cleanup_interval: 1h}
groups:
  github:
    - id: sync tests
      name: Sync Tests
      description: Ethereum
      runner_labels: [self-hosted, sync-test, "not one"]
      workflow_dispatch_templates:
        - id: geth
          name: Sync geth
          owner: o
          repo: r
          workflow_id: syncoor.yaml
          ref: master
          inputs: {el: geth, config: '{"network": "mainnet"}', minutes: 5, quick: true}
          labels: {el: geth, cl: "a b"}
      workflow_dispatch_templates_files: [templates/more.yaml]
      workflow_dispatch_templates_urls: ["https://x.org/t.yaml"]
subscription: {more: 1}
"""
MORE = "- {id: besu, owner: o, repo: r, workflow_id: 5.yaml}\n"


def imported(folder: Path, text: str) -> tuple[Imported, Any]:
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "templates" / "more.yaml").write_text(MORE)
    (folder / "config.yaml").write_text(text)
    made = import_dispatchoor(folder / "config.yaml")
    (folder / "lab.yaml").write_text(made.text)
    return made, read_document("lab.yaml", made.text).value


def test_what_a_lab_knows_too_is_taken_over(tmp_path: Path) -> None:
    _, made = imported(tmp_path, FULL)
    [group] = made.pop("groups")
    geth, besu = group.pop("templates")
    assert made == {
        "server": {"api": "127.0.0.1:9090", "cors_origins": ["https://ui.example.com"]},
        "database": {"url": "postgresql+psycopg://d%40r:${DB_PASSWORD}@db:5433/jobs?sslmode=require"},
        "auth": {
            "users": [
                {"name": "ada", "password": "p$$$$ 1", "role": "admin"},
                {"name": "bob", "password": "x", "role": "reader"},
                {"name": "eve", "password": "x", "role": "reader"},
            ],
            "github": {
                "client_id": "c",
                "client_secret": "${SECRET}",
                "organizations": {"one": "admin", "two": "reader", "three": "reader"},
                "logins": {"ada": "admin"},
            },
            "session_ttl": "1h30m",
        },
        "github": {"tokens": {"*": "${TOKEN}"}},
        "retention": {"runs": "7d"},
    }
    labels = ["self-hosted", "sync-test"]
    assert group == {
        "id": "sync-tests",
        "name": "Sync Tests",
        "description": "Ethereum",
        "labels": labels,
        "max_running": 5,
    }
    inputs = {"el": "geth", "config": '{"network": "mainnet"}', "minutes": "5", "quick": "true"}
    payload = {"owner": "o", "repo": "r", "workflow": "syncoor.yaml", "ref": "master", "inputs": inputs}
    assert geth == {"id": "geth", "name": "Sync geth", "kind": "actions", "labels": ["el=geth"], "payload": payload}
    payload = {"owner": "o", "repo": "r", "workflow": "5.yaml", "ref": "main"}
    assert besu == {"id": "besu", "name": "besu", "kind": "actions", "payload": payload}


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    made, _ = imported(tmp_path, FULL)
    assert {line.partition(": ")[0] for line in made.left_out} == {
        "server.rate_limit",
        "github.poll_interval",
        "github.rate_limit_buffer",
        "dispatcher.interval",
        "dispatcher.tracking_interval",
        "auth.github.redirect_url",
        "history.cleanup_interval",
        "subscription",
        "server.listen",
        "server.cors_origins",
        "database",
        "database.postgres.password",
        "auth.basic.users.eve",
        "github.runners_token",
        "groups.github.sync tests",
        "groups.github.sync-tests.runner_labels",
        "geth.labels",
        "groups.github.sync-tests.workflow_dispatch_templates_files",
        "groups.github.sync-tests.workflow_dispatch_templates_urls",
        "variables",
    }
    assert any("left out https://x.org/t.yaml: fetch it, name it in" in line for line in made.left_out)
    assert made.left_out[-1].endswith("a lab needs DB_PASSWORD, SECRET, TOKEN")


def test_the_result_is_right_once_its_variables_are_set(tmp_path: Path) -> None:
    imported(tmp_path, FULL)
    found = read_lab_file(tmp_path / "lab.yaml", {"DB_PASSWORD": "a", "SECRET": "b", "TOKEN": "c"})
    assert [each.template.id for each in found.templates] == ["geth", "besu"]
    assert found.content.auth.users[0].password.get_secret_value() == "p$$ 1"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("history: {retention_days: -1}", "retention", None),
        ("history: {retention_days: 0}", "retention", {"runs": "30d"}),
        ("{}", "retention", {"runs": "30d"}),
        ("{}", "server", {"api": "127.0.0.1:9090"}),
        ("server: {listen: '127.0.0.1:80'}", "server", {"api": "127.0.0.1:80"}),
        ("github: {runners_token: t}", "github", {"tokens": {"*": "t"}}),
        ("auth: {basic: {enabled: false, users: [{username: a, password: b}]}}", "auth", None),
        ("auth: {github: {enabled: false, client_id: x}}", "auth", None),
        ("auth: {session_ttl: 1h0m0.5s}", "auth", {"session_ttl": "1h0m0.5s"}),
        ("auth: {session_ttl: 500ms}", "auth", None),
        ("database: {driver: sqlite, sqlite: {path: x.db}}", "database", None),
        ("database: {driver: postgres, postgres: {host: h, database: d}}", "database", "postgresql+psycopg://h:5432/d"),
    ],
)
def test_defaults_and_what_is_turned_off(tmp_path: Path, text: str, key: str, value: object) -> None:
    _, made = imported(tmp_path, text)
    found = made.get(key)
    assert (found["url"].partition("?")[0] if isinstance(value, str) else found) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "config.yaml:1:1: the file: expected a mapping of dispatchoor's keys"),
        ("a: [", "expected YAML, got a mistake in it"),
        (
            "groups: {github: [{id: a, workflow_dispatch_templates_files: [no.yaml]}]}",
            "no.yaml: expected a file that can",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        imported(tmp_path, text)
    assert problem in str(refused.value)


def test_the_command_prints_the_file_and_tells_the_rest_apart(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {listen: ':80'}\ngroups: {github: [{id: g, runner_labels: [x]}]}\n")
    command = [sys.executable, "-m", "pytest_dispatch.cli.main", "config", "import", "config.yaml"]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0
    assert ran.stderr.startswith("dispatch: server.listen: became 127.0.0.1:80: a lab serves people on this computer")
    assert read_document("lab.yaml", ran.stdout).value["groups"] == [{"id": "g", "labels": ["x"]}]
