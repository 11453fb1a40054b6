"""A lab's configuration file: what it may say, and that everything wrong in it is told at once, and where."""

from __future__ import annotations

import configparser
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from forks import dispatch as forked
from project import ROOT
from pydantic import BaseModel

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.health_schedule import DAY, HealthPlan, TimeOfDay
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.notifications import NotificationKind, QuietHours, Severity, Subscription
from pytest_dispatch.lab_program.lab_file.document import read_document
from pytest_dispatch.lab_program.lab_file.interpolation import VariableError, interpolated
from pytest_dispatch.lab_program.lab_file.json_schema import schema
from pytest_dispatch.lab_program.lab_file.lab_config import roster_of
from pytest_dispatch.lab_program.lab_file.notifications import plan_of
from pytest_dispatch.lab_program.lab_file.problems import keys_of
from pytest_dispatch.lab_program.lab_file.reading import LabFileError, ReadLabFile, read_lab_file
from pytest_dispatch.lab_program.lab_file.sections import LabFile

EXAMPLE = ROOT / "examples" / "lab.yaml"


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None, **others: str) -> ReadLabFile:
    """Read a lab file, with other files beside it; what would be fetched is in them too."""
    (folder / "lab.yaml").write_text(text)
    for name, content in others.items():
        (folder / f"{name}.yaml").write_text(content)
    os.chdir(folder)

    def fetch(url: str) -> str:
        name = url.rpartition("/")[2]
        if name not in others:
            raise ConfigError(f"expected something at {url}, got 404")
        return others[name]

    return read_lab_file(Path("lab.yaml"), environ or {}, fetch)


def told(folder: Path, text: str, environ: Mapping[str, str] | None = None, **others: str) -> list[str]:
    with pytest.raises(LabFileError) as refused:
        read(folder, text, environ, **others)
    return list(refused.value.problems)


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    """Tests read the file by its name alone, as its messages have it."""
    before = Path.cwd()
    yield
    os.chdir(before)


ALL_WRONG = """\
server:
  boot: 0.0.0.0:8080x
  tlss: {}
auth:
  users:
    - name: me
      password: 5
      role: king
machines:
  - id: "rack 1"
    labels:
      - arch=x86
      - "a b"
    driver: sim:2
  - identities: {addresses: [1.2.3]}
groups:
  - id: x
    labels: a
    max_running: 0
retention: {runs: 90}
limits: yes
"""


def test_drivers_and_their_options_are_checked_with_all_else(tmp_path: Path) -> None:
    text = "machines:\n  - {id: a, driver: frob}\n  - {id: b, driver: 'sim?pac=1'}\n  - {id: c, driver: sim}\n"
    wrong = "  - {id: d, driver: 'qemu?memory=lots', labels: [a b]}\n"
    assert told(tmp_path, text + wrong) == [
        "lab.yaml:2:21: machines.0.driver: expected one of maas, qemu, qemu-aarch64, sim, got 'frob'",
        "lab.yaml:3:21: machines.1.driver: unknown option 'pac'; sim knows pace, boot, from, play",
        "lab.yaml:5:21: machines.3.driver: expected a number from 128 to 1048576 behind memory=, got 'lots'",
        "lab.yaml:5:50: machines.3.labels.0: expected a label such as arch=x86_64 or gpu, got 'a b'",
    ]
    secret = "machines: [{id: a, driver: 'frob://me:s3cret@bmc'}]"
    assert "s3cret" not in "\n".join(told(tmp_path, secret))


def test_everything_that_is_wrong_is_told_at_once_and_where(tmp_path: Path) -> None:
    place = "ADDRESS:PORT such as 0.0.0.0:8080, [::]:8080 or 192.168.1.5:0"
    name = "a name of at most 63 letters, digits and the signs . _ -, such as rack-1"
    one = "expected the SPEC of one machine, got one of 2; write an entry of `machines` for each"
    assert told(tmp_path, ALL_WRONG) == [
        f"lab.yaml:2:9: server.boot: expected {place}, got '0.0.0.0:8080x'",
        "lab.yaml:3:3: server.tlss: expected another key, such as tls, got 'tlss'",
        "lab.yaml:7:17: auth.users.0.password: expected a text, got something else, which is not shown",
        "lab.yaml:8:13: auth.users.0.role: expected one of reader, operator or admin, got 'king'",
        f"lab.yaml:10:9: machines.0.id: expected {name}, got 'rack 1'",
        "lab.yaml:13:9: machines.0.labels.1: expected a label such as arch=x86_64 or gpu, got 'a b'",
        f"lab.yaml:14:13: machines.0.driver: {one}",
        "lab.yaml:15:5: machines.1.id: expected a value, got none",
        (
            "lab.yaml:15:30: machines.1.identities.addresses.0: expected an address such as 192.168.1.31 or fd00::31,"
            " got '1.2.3'"
        ),
        "lab.yaml:18:13: groups.0.labels: expected a list, got 'a'",
        "lab.yaml:19:18: groups.0.max_running: expected a whole number of at least 1, got 0",
        "lab.yaml:20:19: retention.runs: expected a duration such as 30s, 5m, 1h30m or 90d, got 90",
        "lab.yaml:21:9: limits: expected a mapping of keys to values, got 'yes'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a: [",
            "lab.yaml:1:5: expected YAML, got a mistake in it: expected the node content, but found '<stream end>'",
        ),
        ("server: {}\nserver: {}", 'lab.yaml:2:1: expected YAML, got a mistake in it: found duplicate key "server"'),
        ("- 1", "lab.yaml:1:1: expected a mapping of keys to values, got a list"),
        ("servr: {}", "lab.yaml:1:1: servr: expected another key, such as server, got 'servr'"),
        ("server: {zzz: 1}", "lab.yaml:1:10: server.zzz: expected one of allow, announce, api,"),
        ("server: {announce: maybe}", "lab.yaml:1:20: server.announce: expected true or false, got 'maybe'"),
        ("server: {log: xml}", "lab.yaml:1:15: server.log: expected one of text or json, got 'xml'"),
        ("server: {path: /api/v1}", "server.path: expected a path such as /dispatch, outside /api/, got '/api/v1'"),
        ("server: {allow: [lan]}", "server.allow.0: expected a network such as 192.168.1.0/24 or fd00::/8, got 'lan'"),
        ("server: {cors_origins: ['*']}", "expected an origin such as https://pages.example.org, without a path"),
        ("server: {public_url: lab}", "expected a URL such as https://lab.example.org, without user and password"),
        ("server: {tls: {certificate: a}}", "lab.yaml:1:15: server.tls.key: expected a value, got none"),
        ("server: {boot_tools: [x]}", "boot_tools.0: expected a tool such as curl, wget or python-requests, got 'x'"),
        ("server: {api: '0.0.0.0:1'}", "expected a loopback address such as 127.0.0.1:8081, or one of tls, trusted"),
        ("github: {api_url: 'http://x.org'}", "expected the URL of a GitHub API, such as https://api.github.com"),
        ("github: {issue_repositories: [a]}", "expected a repository such as OWNER/REPO, got 'a'"),
        ("github: {tokens: {a: x}, apps: {a: {id: 1, private_key: k}}}", "1:33: github.apps.a: expected a token or an"),
        ("github: {tokens: {a: 1}}", "github.tokens.a: expected a text, got something else, which is not shown"),
        ("machines: [{id: a, labels: [1]}]", "machines.0.labels.0: expected a text, got 1: write it in quotes"),
        ("machines: [{id: a, identities: {macs: [x]}}]", "expected a MAC address such as 52:54:00:12:34:56, got 'x'"),
        ("machines: [{id: a}, {id: a}]", "1:26: machines.1.id: expected an id of its own, got 'a' as at lab.yaml:1:17"),
        (
            "machines: [{id: a, identities: {agents: [r]}}, {id: b, identities: {agents: [R]}}]",
            "machines.1.identities.agents.0: expected an identity of one machine, got 'R' as at lab.yaml:1:42",
        ),
        ("machines: [{id: a, driver: 'sim:'}]", "machines.0.driver: expected a SPEC such as sim, sim:8, qemu:2 or"),
        ("groups: [{id: g, max_running: many}]", "max_running: expected a whole number, got 'many'"),
        ("groups: [{id: g, name: n}, {id: h, name: n}]", "groups.1.name: expected a name of its own, got 'n' as at"),
        ("auth: {session_ttl: soon}", "auth.session_ttl: expected a duration such as 30s, 5m, 1h30m or 90d, got"),
        ("limits: {rate: 0}", "limits.rate: expected a whole number of at least 1, got 0"),
        ("limits: {rate: 9999999}", "limits.rate: expected a whole number of at most 1000000, got 9999999"),
        ("groups: [{id: g, templates: [{id: t}]}]", "groups.0.templates.0.kind: expected a value, got none"),
        (
            "groups: [{id: g, template_files: [no.yaml]}]",
            "no.yaml: expected a file that can be read, got: No such file",
        ),
        (
            "groups: [{id: g, template_urls: ['http://x/no']}]",
            "template_urls.0: expected something at http://x/no, got",
        ),
        ("1: 2", "lab.yaml:1:4: 1: expected a text as key, got 1: write it in quotes"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, problem: str) -> None:
    assert any(problem in line for line in told(tmp_path, text)), told(tmp_path, text)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            'every: 1h, arguments: ["{k"]',
            "1:54: cycles.0.arguments.0: expected {NAME} of a declared parameter, or {{ for",
        ),
        ("every: 1h, arguments: [-q, '{no}'], parameters: {yes: {choices: [a]}}", "got '{no}'; declared: yes"),
        (
            "every: 1h, arguments: [--]",
            "cycles.0.arguments.0: expected an argument other than --, behind which the lab's",
        ),
        ("every: 1h, parameters: {x: {choices: [a, --]}}", "x.choices.1: expected anything but --, which ends the"),
        (
            "every: 1h, parameters: {x: {pattern: a+}}",
            "1:58: cycles.0.parameters.x.default: expected something like a+",
        ),
        ("every: 1h, parameters: {x: {pattern: '(a+)+b'}}", "x.pattern: expected a regular expression that repeats no"),
        ("every: 1h, parameters: {x: {pattern: a+, default: b}}", "x.default: expected something like a+, got 'b'"),
        ("every: 1h, parameters: {x: {choices: [a], default: b}}", "x.default: expected a, got 'b'"),
        ("every: 0s", "1:38: cycles.0.every: expected a duration of at least 1s and at most 100 years, got '0s'"),
        ("every: 1h, limits: {round: 0s}", "limits.round: expected a duration of at least 1s and at most 100 years"),
        ("every: 1h, limits: {round: 900000h}", "limits.round: expected a duration of at least 1s and at most 100"),
        ("every: 1h, jitter: -5", "jitter: expected a duration such as 30s, 5m, 1h30m or 90d, got -5"),
        ("every: 1h, jitter: -5s", "jitter: expected a duration such as 30s, 5m, 1h30m or 90d, got '-5s'"),
        ('every: 1h, environment: {A: "a\\0b"}', "A: expected a text without the character NUL, which no variable can"),
        ('cron: "0 0 2 * * 1"', "cron: expected the five fields of cron (minute, hour, day, month, weekday) such as"),
        ("every: 1h, user: nobody-here", "cycles.0.user: expected a user of this computer, got 'nobody-here'"),
        ("every: 1h, python: no-python", "python: expected a file that can be executed, such as /srv/tests/venv/bin/"),
        ("every: 1h, python: ./lab.yaml", "python: expected a file that can be executed, such as /srv/tests/venv/bin/"),
    ],
)
def test_a_cycle_that_could_run_no_round_is_told(tmp_path: Path, keys: str, problem: str) -> None:
    found = told(tmp_path, f"cycles: [{{name: c, folder: ., {keys}}}]")
    assert len(found) == 1
    assert problem in found[0]
    assert "a\0b" not in found[0]


def test_a_cycle_may_run_any_interpreter_and_user_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "rack").mkdir()
    (tmp_path / "rack" / "python").symlink_to(sys.executable)
    for python in ("sh", sys.executable, "./python"):
        text = (
            f"cycles: [{{name: c, folder: rack, every: 1s, python: {python}, user: root, arguments: ['-k={{{{x}}}}']}}]"
        )
        [cycle] = roster_of(read(tmp_path, text)).cycles
        assert (cycle.python, cycle.user, cycle.command({})) == (python, "root", ("-k={x}",))


def test_a_mistake_in_a_file_of_templates_is_told_with_that_file(tmp_path: Path) -> None:
    text = "groups:\n  - id: 5\n    template_files: [hoodi.yaml]\n    template_urls: ['http://x/far']\n"
    problems = told(tmp_path, text, hoodi="- id: t\n  knd: boot\n", far="{}")
    assert problems == [
        "lab.yaml:2:9: groups.0.id: expected a text, got 5: write it in quotes",
        "hoodi.yaml:1:3: 0.kind: expected a value, got none",
        "hoodi.yaml:2:3: 0.knd: expected another key, such as kind, got 'knd'",
        "http://x/far:1:1: expected a list, got a mapping",
    ]


def test_templates_come_from_three_places_and_no_two_have_one_id(tmp_path: Path) -> None:
    one = "- {id: %s, kind: bakery}\n"
    text = (
        "groups: [{id: g, templates: [{id: a, kind: bakery}], template_files: [b.yaml], template_urls: ['http://x/c']}]"
    )
    found = read(tmp_path, text, b=one % "b", c=one % "c")
    assert [(each.template.id, each.source) for each in found.templates] == [
        ("a", ""),
        ("b", "b.yaml"),
        ("c", "http://x/c"),
    ]
    assert found.unknown_kinds == ("bakery",)  # no such kind is installed, so nobody can tell what is wrong
    [problem] = told(tmp_path, text, b=one % "b", c=one % "b")
    assert problem == "http://x/c:1:8: 0.id: expected an id of its own, got 'b' as at b.yaml:1:8"


PAYLOAD = "{{media: efi, location: '{}', size: {}}}"
REFUSALS = {
    "{}": "t: payload: expected media, location and size, got nothing",
    PAYLOAD.format("folder:lib/a.efi", 0): "t: payload: size: expected a number of bytes, got 0",
    PAYLOAD.format("folder:other/a.efi", 9): "expected a file in one of the lab's folders (lib), got 'folder:other/",
    PAYLOAD.format("/etc/passwd", 9): "t: payload: location: expected folder:NAME/FILE in one of the lab's folders",
}


@pytest.mark.parametrize(("payload", "why"), REFUSALS.items())
def test_what_a_kind_refuses_is_told_where_it_stands(tmp_path: Path, payload: str, why: str) -> None:
    groups = f"groups: [{{id: g, template_files: [b.yaml], templates: [{{id: t, kind: boot, payload: {payload}}}]}}]"
    good = PAYLOAD.format("folder:lib/a.efi", 9)
    other = f"- {{id: u, kind: boot, payload: {good}}}\n- {{id: v, kind: boot, payload: {good}, limits: {{nap: 1h}}}}"
    first, second = told(tmp_path, f"sources: {{folders: {{lib: lib}}}}\n{groups}\n", b=other)
    assert first.startswith("lab.yaml:2:")
    assert "groups.0.templates.0.payload: the kind boot refuses it: " in first
    assert why in first
    assert second.startswith("b.yaml:2:")
    assert "1.payload: the kind boot refuses it: v: limits of the kind boot: expected " in second


# Variables


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${NO:-d}", "d"),
        ("${NO:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${A:-d}", "1"),
        ("$${A}", "${A}"),
        ("$$$A $", "$$A $"),
        ("${DEEP}", "${A}"),
    ],
)
def test_variables(text: str, value: str) -> None:
    assert interpolated(text, {"A": "1", "EMPTY": "", "DEEP": "${A}"}) == value


@pytest.mark.parametrize("text", ["${NO}", "${A", "${}", "${1}"])
def test_variables_that_are_none(text: str) -> None:
    with pytest.raises(VariableError, match=r"^expected "):
        interpolated(text, {"A": "1"})


def test_a_variable_may_be_a_number_and_its_value_is_never_shown(tmp_path: Path) -> None:
    text = "limits: {rate: '${RATE}'}\nserver: {boot: '${BOOT}'}"
    assert read(tmp_path, text, {"RATE": "7", "BOOT": "[::]:1"}).content.limits.rate == 7
    problems = told(tmp_path, text, {"RATE": "s3cret", "BOOT": "s3cret"})
    assert [line.rpartition(", got ")[2] for line in problems] == ["'${RATE}'", "'${BOOT}'"]


def test_an_unset_variable_is_one_mistake(tmp_path: Path) -> None:
    problems = told(tmp_path, "limits: {rate: '${RATE}'}\nserver: {api: '${API}', log: x}")
    assert problems == [
        (
            "lab.yaml:1:16: limits.rate: expected the variable RATE in the environment, got none; set it, or write"
            " ${RATE:-default}"
        ),
        (
            "lab.yaml:2:15: server.api: expected the variable API in the environment, got none; set it, or write"
            " ${API:-default}"
        ),
        "lab.yaml:2:30: server.log: expected one of text or json, got 'x'",
    ]


def test_a_variable_adds_no_keys(tmp_path: Path) -> None:
    found = read(tmp_path, "groups: [{id: g, description: '${X}'}]", {"X": "a\nmachines: [{id: m}]"})
    assert found.content.machines == []


def test_secrets_are_in_no_text_of_a_lab_file(tmp_path: Path) -> None:
    text = """
database: {url: 'postgresql://u:s3cret@h/d'}
auth:
  users: [{name: a, password: s3cret}]
  github: {client_id: c, client_secret: s3cret}
github: {tokens: {a: s3cret}}
"""
    assert "s3cret" not in repr(read(tmp_path, text))
    wrong = "auth: {users: {password: s3cret}}\ndatabase: {url: [s3cret]}\nmachines: [{id: a, driver: [s3cret]}]"
    assert "s3cret" not in "\n".join(told(tmp_path, wrong))


# Reading


def test_a_merged_mapping_counts_and_is_placed(tmp_path: Path) -> None:
    text = "machines:\n  - &one {id: a, labels: [x]}\n  - {<<: *one, id: b, identities: 5}\n"
    assert told(tmp_path, text) == [
        "lab.yaml:3:35: machines.1.identities: expected a mapping of keys to values, got 5",
    ]
    assert [each.labels for each in read(tmp_path, text.replace(", identities: 5", "")).content.machines] == [["x"]] * 2


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff", "expected UTF-8, got other bytes at 0"),
        (b"#" * (4 * 2**20 + 1), "expected at most 4194304 bytes, got more"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "lab.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=problem):
        read_lab_file(tmp_path / "lab.yaml", {})


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    deep = "groups: [{id: g, templates: [{id: t, kind: boot, payload: {x: " + "[" * 60 + "]" * 60 + "}}]}]"
    assert any("expected at most 40 levels, got more" in line for line in told(tmp_path, deep))


def test_an_empty_file_is_a_lab_with_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n").content == LabFile()


# The example and the schema


def every_key(model: type[BaseModel], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Each key of a model and of those in it; an item of a list is 0, of a mapping with free keys `*`."""
    for name in keys_of(model, path):
        yield (*path, name)
        for inner in ((), (0,), ("*",)):
            yield from every_key(model, (*path, name, *inner))


def has(value: Any, path: tuple[str | int, ...]) -> bool:
    for index, part in enumerate(path):
        if isinstance(value, list):
            return any(has(each, path[index + 1 :]) for each in value)
        if part == "*":
            return any(has(each, path[index + 1 :]) for each in value.values())
        if part not in value:
            return False
        value = value[part]
    return True


def test_the_example_has_every_key_and_is_right() -> None:
    given = read_document("lab.yaml", EXAMPLE.read_text("utf-8")).value
    keys = list(every_key(LabFile))
    assert len(keys) > 70
    assert [path for path in keys if not has(given, path)] == []
    assert read_lab_file(EXAMPLE, {}).content.machines[0].id == "rack-1"


def test_the_lab_of_the_compose_example_is_right() -> None:
    folder = ROOT / "examples" / "docker"
    found = read_lab_file(folder / "lab.yaml", {"DISPATCH_DB_PASSWORD": "x"})
    assert found.content.server.api == "127.0.0.1:8081"
    services = read_document("compose.yaml", (folder / "compose.yaml").read_text("utf-8")).value["services"]
    assert "./lab.yaml:/etc/dispatch/lab.yaml:ro" in services["lab"]["volumes"]
    for name in ("compose.yaml", "Dockerfile"):
        assert "Not built by our tests" in (folder / name).read_text("utf-8")


def test_the_unit_of_systemd_says_what_the_service_does() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((ROOT / "examples" / "dispatch.service").read_text("utf-8"))
    service = unit["Service"]
    assert service["Type"] == "notify-reload"
    assert int(service["WatchdogSec"]) > 0
    assert int(service["TimeoutStopSec"]) > 10
    assert service["ExecStart"].split()[1:3] == ["serve", "--config"]


def test_every_key_is_in_the_schema_with_what_it_means() -> None:
    described = json.dumps(schema())
    parts = {"LabFile": schema(), **schema()["$defs"]}
    keys = [(name, key, field) for name, part in parts.items() for key, field in part.get("properties", {}).items()]
    assert len(keys) > 60
    assert [(name, key) for name, key, field in keys if not {"description", "$ref"} & {*field}] == []
    assert '"additionalProperties": false' in described
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_options_have_a_row_for_every_key() -> None:
    """The rows are made from the keys: `make docs`."""
    page = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "generate.py"))["rendered"]("docs/options.md") == page, "run `make docs`"
    assert len(re.findall(r"(?m)^\| `[\w.]+` \| .+ \| .*\|$", page.partition("## lab.yaml")[2])) > 60


# Notifications


TARGET = "notifications: {targets: [{name: ops, url: "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            f"{TARGET}hunter2}}]}}",
            "lab.yaml:1:44: notifications.targets.0.url: expected a URL that apprise knows",
        ),
        (f"{TARGET}'json://x', kinds: [run]}}]}}", "kinds.0: expected one of run.ended, session.ended, machine.broken"),
        (f"{TARGET}'json://x', severity: high}}]}}", "severity: expected one of info, warning or critical, got 'high'"),
        (f"{TARGET}'json://x', groups: [y]}}]}}", "targets.0.groups.0: expected one of lab, got 'y'"),
        (
            f"{TARGET}'json://x', quiet: {{begin: '22', end: '07:00', zone: UTC}}}}]}}",
            "quiet.begin: expected a time of day such as 22:00, got '22'",
        ),
        (
            f"{TARGET}'json://x', quiet: {{begin: '22:00', end: '07:00', zone: Mars/Base}}}}]}}",
            "quiet.zone: expected a time zone such as Europe/Berlin or UTC, got 'Mars/Base'",
        ),
        (
            f"{TARGET}'json://x', quiet: {{begin: '07:00', end: '07:00', zone: UTC}}}}]}}",
            "quiet.end: expected another time than `begin`, got '07:00'",
        ),
        (f"{TARGET}'json://x'}}, {{name: ops, url: 'json://y'}}]}}", "expected a name of its own, got 'ops' as at"),
        ("notifications: {session_schemes: ['Slack://']}", "expected the scheme of an apprise URL, such as slack or"),
    ],
)
def test_what_is_wrong_with_notifications_is_told(tmp_path: Path, text: str, problem: str) -> None:
    [line] = told(tmp_path, text)
    assert problem in line
    assert "hunter2" not in line


def test_notifications_become_a_plan_that_shows_no_url(tmp_path: Path) -> None:
    text = (
        "groups: [{id: x86}]\nnotifications:\n  queue_wait: 2h\n  session_schemes: [slack]\n  targets:\n"
        "  - {name: ops, url: '${OPS}', kinds: [run.ended], severity: critical, groups: [x86, lab],"
        " outcomes: [failed], per_hour: 5, quiet: {begin: '22:00', end: '07:00', zone: Europe/Berlin, critical: true}}"
    )
    found = read(tmp_path, text, {"OPS": "json://me:hunter2@127.0.0.1/x"})
    plan = plan_of(found.content.notifications)
    assert (plan.queue_wait, plan.session_schemes) == (7200.0, frozenset({"slack"}))
    [target] = plan.targets
    assert target.url.reveal() == "json://me:hunter2@127.0.0.1/x"
    assert target.subscription == Subscription(
        kinds=frozenset({NotificationKind.RUN_ENDED}),
        severity=Severity.CRITICAL,
        groups=frozenset({"x86", "lab"}),
        outcomes=frozenset({Outcome.FAILED}),
        per_hour=5,
        quiet=QuietHours(begin=time(22), end=time(7), zone=ZoneInfo("Europe/Berlin"), critical=True),
    )
    assert "hunter2" not in f"{plan} {found}"


# The command


def dispatch(*words: str, cwd: Path, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return forked(cwd, "config", *words, environ={**os.environ, **(environ or {})})


def test_the_command_checks_a_file_and_names_all_mistakes(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("servr: {}\nserver: {log: '${LOG}'}\n")
    ran = dispatch("check", "lab.yaml", cwd=tmp_path, environ={"LOG": "xml"})
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [
        "lab.yaml:1:1: servr: expected another key, such as server, got 'servr'",
        "lab.yaml:2:15: server.log: expected one of text or json, got '${LOG}'",
    ]
    (tmp_path / "lab.yaml").write_text("groups: [{id: g, template_urls: ['http://x/c']}]")
    ran = dispatch("check", "lab.yaml", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "dispatch: http://x/c is not checked: it is fetched when a lab starts",
        "dispatch: lab.yaml is right: 0 machines, 1 group, 0 templates, 0 users",
    ]
    (tmp_path / "lab.yaml").write_text("groups: [{id: g, templates: [{id: t, kind: bakery}]}]")
    ran = dispatch("check", "lab.yaml", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[0] == (
        "dispatch: templates of the kind 'bakery' are not checked: installed here is boot, actions, deployment;"
        " a lab starts without it, and refuses to queue them"
    )


def test_the_command_shows_the_schema(tmp_path: Path) -> None:
    assert json.loads(dispatch("schema", cwd=tmp_path).stdout) == schema()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["chek"],
            "dispatch: config: expected one of check, schema, import, got 'chek'; see `dispatch config --help`\n",
        ),
        (["check"], "dispatch: config check: expected dispatch config check FILE, got 0 arguments\n"),
        (["check", "no.yaml"], "dispatch: no.yaml: expected a file that can be read, got: No such file or directory\n"),
    ],
)
def test_the_command_says_what_it_expects(tmp_path: Path, words: list[str], problem: str) -> None:
    ran = dispatch(*words, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", problem)


def test_without_the_extra_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    """Where a package is missing, an import of it fails."""
    code = (
        "import sys\nsys.modules['pydantic'] = None\nfrom pytest_dispatch.cli.main import main\n"
        "sys.exit(main(['config', 'check', 'lab.yaml']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "dispatch: a lab's configuration file needs pydantic, which this Python does not have; install with"
        " pip install 'pytest-dispatch[serve]'\n"
    )


HEALTH = """\
groups:
- id: racks
  health: {health}
  templates:
  - {{id: check, kind: boot, payload: {{media: efi, location: "folder:kept/check.efi", size: 16}}}}
sources: {{folders: {{kept: kept}}}}
"""


def test_a_group_says_how_its_machines_are_checked(tmp_path: Path) -> None:
    found = read(tmp_path, HEALTH.format(health='{template: check, every: 48h, at: "02:30", zone: Europe/Berlin}'))
    (group,) = roster_of(found).groups
    begin = TimeOfDay(hour=2, minute=30, zone="Europe/Berlin")
    assert group.health == HealthPlan(template="check", every=2 * DAY, begin=begin)


def test_machines_are_checked_once_a_day_by_default(tmp_path: Path) -> None:
    (group,) = roster_of(read(tmp_path, HEALTH.format(health="{template: check}"))).groups
    assert group.health == HealthPlan(template="check", every=DAY)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (
            "{template: chek}",
            "lab.yaml:3:22: groups.0.health.template: expected a template of the group (check), got 'chek'",
        ),
        (
            '{template: check, every: 5h, at: "02:00"}',
            "lab.yaml:3:36: groups.0.health.every: expected whole days, such as 24h, because of `at`, got '5h'",
        ),
        ('{template: check, at: "25:00"}', "lab.yaml:3:33: groups.0.health.at: expected a time of day such as 22:00"),
        ("{template: check, every: soon}", "lab.yaml:3:36: groups.0.health.every: expected a duration such as 30s"),
        ("{template: check, every: 0s}", "lab.yaml:3:36: groups.0.health.every: expected a duration longer than 0 s"),
    ],
)
def test_a_health_workload_that_cannot_be_is_told(tmp_path: Path, health: str, expected: str) -> None:
    (line,) = told(tmp_path, HEALTH.format(health=health))
    assert line.startswith(expected)


def test_health_and_approval_have_defaults_and_can_be_set(tmp_path: Path) -> None:
    usual = read(tmp_path, "{}").content
    assert (usual.health.faults, usual.health.again, usual.health.run_hold) == (3, 600.0, DAY)
    assert usual.server.unknown_machines == "approve"
    said = read(tmp_path, "server: {unknown_machines: welcome}\nhealth: {faults: 0, again: 1h, run_hold: 2d}").content
    assert (said.health.faults, said.health.again, said.health.run_hold) == (0, 3600.0, 2 * DAY)
    assert said.server.unknown_machines == "welcome"
    (line,) = told(tmp_path, "health: {faults: -1}")
    assert line.startswith("lab.yaml:1:18: health.faults: expected")
