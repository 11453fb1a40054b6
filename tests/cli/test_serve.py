"""`dispatch serve` as a service: its two addresses, its configuration file, its signals, and those who watch it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme
from databases import PostgresServer
from docs_examples import ROOT
from forks import dispatch
from journals import A, changes_of
from journals import session as record
from queue_bench import QueueBench
from receivers import Receiver, receiving
from services import COMMAND, FILE, Service, configured, seen, serving
from waiting import PATIENCE

from pytest_dispatch.cli.exit_codes import Code
from pytest_dispatch.cli.main import main
from pytest_dispatch.client.handshake import greeted
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Policy
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.server.api.schemas import OpenSession
from pytest_dispatch.store.accounts import audit_row
from pytest_dispatch.store.journal import Journal, run_rows, session_row
from pytest_dispatch.store.schema import sessions

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

# Two addresses


def test_machines_and_people_have_addresses_of_their_own(tmp_path: Path) -> None:
    with configured(tmp_path) as service:
        machines = service.boot.removesuffix("/dispatch")
        assert httpx.get(f"{service.api}/api/v1/openapi.json", headers=service.bearer()).status_code == 200
        assert httpx.get(f"{service.api}/dispatch").status_code == 404
        assert httpx.head(service.boot, headers={"User-Agent": "UefiHttpBoot/1.0"}).status_code == 200
        answer = httpx.get(f"{machines}/api/v1/openapi.json", headers=service.bearer(**{"User-Agent": "x"}))
        assert (answer.status_code, answer.text) == (404, "machines boot from /dispatch\n")


def test_a_service_says_how_it_is(tmp_path: Path) -> None:
    with configured(tmp_path) as service:
        for at in (service.api, service.boot.removesuffix("/dispatch")):
            said = httpx.get(f"{at}/healthz").json()
            assert (said["program"], said["status"], said["api"]) == ("pytest-dispatch", "ok", service.api)
            assert httpx.get(f"{at}/readyz").json() == {"status": "ready"}


def test_a_service_without_a_file_needs_none_of_the_extras(tmp_path: Path) -> None:
    """Where a package is missing, an import of it fails."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    wanted = {re.split(r"[\[>=<]", each)[0].lower() for extra in extras.values() for each in extra}
    by_module = importlib.metadata.packages_distributions().items()
    missing = [module for module, packages in by_module if wanted & {each.lower() for each in packages}]
    assert "pydantic" in missing
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({[each for each in missing if each != 'pytest_dispatch']}))\n"
        "from pytest_dispatch.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["serve", "--bind=127.0.0.1:0", "--no-mdns", "--db=lab.db", "--token-file=token"]
    with subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as lab:
        first = next(lab.stdout or iter(()), "")
        assert first.startswith("dispatch: serving http://127.0.0.1:")
        assert httpx.get(f"{first.split()[-1]}/sign-in").status_code == 200
        lab.terminate()
    assert lab.returncode == 0


def test_the_api_has_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "lab.pem")
    made.private_key_pem.write_to_path(tmp_path / "lab.key")
    text = FILE.format(log="text", machines="").replace(
        "announce: false", "announce: false, tls: {certificate: lab.pem, key: lab.key}"
    )
    (tmp_path / "lab.yaml").write_text(text)
    with serving(tmp_path, "--config=lab.yaml") as service:
        assert service.api.startswith("https://127.0.0.1:")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        assert httpx.get(f"{service.api}/readyz", verify=context).json() == {"status": "ready"}
    (tmp_path / "lab.key").write_text("nothing")
    ran = dispatch(tmp_path, "serve", "--config=lab.yaml")
    assert ran.returncode == 2
    assert re.match(r"lab\.yaml:\d+:\d+: server\.tls: expected a certificate and its key in PEM, got ", ran.stderr)


@pytest.mark.parametrize(("key", "place"), [("boot", "2:9"), ("api", "3:8")])
def test_a_port_that_is_taken_is_told_by_its_key(tmp_path: Path, key: str, place: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        at = {"boot": "127.0.0.1:0", "api": "127.0.0.1:0", key: taken}
        text = f"server:\n  boot: {at['boot']}\n  api: {at['api']}\n  announce: false\ndatabase: {{url: lab.db}}\n"
        (tmp_path / "lab.yaml").write_text(text)
        ran = dispatch(tmp_path, "serve", "--config=lab.yaml")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"dispatch: lab.yaml:{place}: server.{key}: cannot listen on {taken}: another program listens there; use"
        f" another port with server.{key} 127.0.0.1:PORT (port 0 picks a free one)\n"
    )


def test_a_journal_that_another_lab_has_is_told_by_its_key(tmp_path: Path) -> None:
    with configured(tmp_path):
        ran = dispatch(tmp_path, "serve", "--config=lab.yaml")
    assert ran.returncode == 1
    assert re.match(
        r"dispatch: lab\.yaml:\d+:\d+: database\.url: .*another lab is using it; .* with database\.url", ran.stderr
    )


def test_pages_that_are_named_may_call_the_api(tmp_path: Path) -> None:
    text = FILE.format(log="text", machines="").replace("announce", "cors_origins: [https://pages.example], announce")
    (tmp_path / "lab.yaml").write_text(text)
    with serving(tmp_path, "--config=lab.yaml") as service:
        where, asked = f"{service.api}/api/v1/openapi.json", {"Access-Control-Request-Method": "GET"}
        for origin, before, after in (("https://pages.example", 204, 200), ("https://other.example", 403, 403)):
            first = httpx.options(where, headers={"Origin": origin, **asked})
            answer = httpx.get(where, headers=service.bearer(Origin=origin))
            assert (first.status_code, answer.status_code) == (before, after)
            allowed = origin if after == 200 else None
            assert {each.headers.get("Access-Control-Allow-Origin") for each in (first, answer)} == {allowed}
        assert (
            "Authorization"
            in httpx.options(where, headers={"Origin": "https://pages.example", **asked}).headers[
                "Access-Control-Allow-Headers"
            ]
        )


def test_a_private_lab_names_the_service_that_has_its_port(tmp_path: Path) -> None:
    with configured(tmp_path) as service:
        port = int(httpx.URL(service.boot).port or 0)
        private = InProcessLab(
            LabConfig(
                api_url="https://api.github.com",
                host="127.0.0.1",
                port=port,
                path="/dispatch",
                allow=(),
                announce=False,
                machines=(),
                db=str(tmp_path / "own.db"),
                cache=tmp_path / "own",
                cache_limit=10**9,
            )
        )
        expected = (
            f"cannot listen on 127.0.0.1:{port}: a lab of `dispatch serve` on this computer does; use that one with"
            f" --dispatch-lab {service.api}, or another port with --dispatch-bind 127.0.0.1:PORT"
        )
        with pytest.raises(LabError, match=re.escape(expected)):
            private.start("")


def test_the_port_that_machines_boot_from_is_told_from_the_api(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(tmp_path) as service:
        monkeypatch.setenv("DISPATCH_TOKEN", service.token)
        token = Token(service.token, "DISPATCH_TOKEN")
        boot = str(httpx.URL(service.boot).copy_with(path="")).rstrip("/")
        why = f"expected the API of a lab, got {boot}, where machines boot from and report to; its API is at "
        why += service.api
        with closing(LabClient(boot, service.token)) as client, pytest.raises(LabError, match=f"^{re.escape(why)}$"):
            greeted(client, token)
        assert main(["audit", "--lab", boot]) == Code.NO_LAB
        assert capsys.readouterr().err == f"dispatch: {why}\n"
        secure = service.api.replace("http:", "https:")
        why = f"the lab at {secure} cannot be reached: it speaks no TLS there; begin the address with http://"
        with closing(LabClient(secure, service.token)) as client, pytest.raises(LabError, match=re.escape(why)):
            greeted(client, token)


# Without a file


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["--api=0.0.0.0:0"],
            "--api: expected an address of this computer alone such as 127.0.0.1:8081, or --insecure",
        ),
        (
            ["--bind=127.0.0.9:18080", "--api=127.0.0.9:18080"],
            "--api: expected another port than the one that machines boot from, got 127.0.0.9:18080 for both",
        ),
        (["--api=here"], "--api: expected ADDRESS:PORT such as"),
        (
            ["--config=lab.yaml", "--bind=127.0.0.1:0"],
            "--config: expected no other option but --token-file, got --bind",
        ),
        (["--config=no.yaml"], "no.yaml: expected a file that can be read, got: No such file or directory"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, words: list[str], why: str) -> None:
    environ = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    ran = dispatch(tmp_path, "serve", *words, environ=environ)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"dispatch: {why}")


def test_without_a_file_everything_is_in_the_users_folders(tmp_path: Path) -> None:
    words = ("--bind=127.0.0.1:0", "--no-mdns")
    with serving(tmp_path, *words, HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path / "data")) as service:
        made = [path for path in (tmp_path / "data" / "pytest-dispatch").rglob("*") if path.is_file()]
        assert {"lab.db", "lab.db.token"} <= {path.name for path in made}
        assert [path for path in made if path.stat().st_mode & 0o077] == []  # others on this computer read none of it
        assert service.api != service.boot
        answer = httpx.post(f"{service.api}/api/v1/reload", headers=service.bearer())
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("expected a lab with a configuration file, got one without")
        environ = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
        environ.pop("DISPATCH_TOKEN", None)
        listed = dispatch(tmp_path, "users", "list", "--lab", service.api, environ=environ)
        assert "admin" in listed.stdout, listed.stderr  # with the token that the service wrote


# Reloading


ONE = "{id: rack-1, identities: {addresses: [192.0.2.1]}}"
TWO = "{id: rack-2, labels: [gpu]}"
NOTHING: dict[str, list[str]] = {"added": [], "changed": [], "gone": []}


def rewrite(service: Service, folder: Path, machines: str) -> None:
    (folder / "lab.yaml").write_text(FILE.format(log="text", machines=machines))


RELOADED = {
    "who": "lab",
    "address": "127.0.0.1",
    "target": "lab.yaml",
    "before": {"machines": {"rack-1": {"identities": ["address:192.0.2.1"], "labels": {}, "driver": ""}}},
    "after": {"machines": {"rack-2": {"identities": [], "labels": {"gpu": ""}, "driver": ""}}},
}


def audited(service: Service, action: str) -> list[dict[str, object]]:
    """Entries of the audit log, as far as they are the same for each run of a test."""
    entries = httpx.get(f"{service.api}/api/v1/audit", headers=service.bearer(), params={"action": action}).json()
    return [{name: entry[name] for name in RELOADED} for entry in entries]


def test_the_file_is_read_anew_when_the_api_is_asked_to(tmp_path: Path) -> None:
    with configured(tmp_path, machines=ONE) as service:
        rewrite(service, tmp_path, TWO)
        answer = httpx.post(f"{service.api}/api/v1/reload", headers=service.bearer())
        machines = {"added": ["rack-2"], "changed": [], "gone": ["rack-1"]}
        others = {"groups": NOTHING, "templates": NOTHING, "cycles": NOTHING, "keys": [], "restart": []}
        assert answer.json() == {"machines": machines, **others}
        seen(lambda: service.logs("reloaded by the API: machines: added rack-2; gone rack-1; groups: as before"))
        assert audited(service, "lab.reload") == [RELOADED]
        rewrite(service, tmp_path, "{id: 5}")
        answer = httpx.post(f"{service.api}/api/v1/reload", headers=service.bearer())
        assert answer.status_code == 400
        assert answer.json() == {"error": "lab.yaml:4:17: machines.0.id: expected a text, got 5: write it in quotes"}


def test_the_file_is_read_anew_on_sighup(tmp_path: Path) -> None:
    with configured(tmp_path, machines=ONE) as service:
        rewrite(service, tmp_path, "{id: 5}")
        service.process.send_signal(signal.SIGHUP)
        seen(lambda: service.logs("not reloaded: lab.yaml:4:17: machines.0.id: expected a text, got 5"))
        rewrite(service, tmp_path, TWO)
        service.process.send_signal(signal.SIGHUP)
        seen(lambda: service.logs("reloaded by SIGHUP: machines: added rack-2; gone rack-1"))
        seen(lambda: audited(service, "lab.reload"))
        assert audited(service, "lab.reload") == [{**RELOADED, "address": "SIGHUP"}]
        assert service.end() == 0


# The end


def test_what_is_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    with configured(tmp_path) as service, ExitStack() as stack:
        where = httpx.URL(service.api)
        wire = stack.enter_context(socket.create_connection((where.host, where.port)))
        body = json.dumps({"source": "w", "policy": {}}).encode()
        head = f"POST /api/v1/sessions HTTP/1.1\r\nHost: {where.host}\r\nAuthorization: Bearer {service.token}\r\n"
        wire.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
        client = LabClient(service.api, service.token)
        seen(lambda: client.open(OpenSession(source="v", policy=Policy())))  # it has the first part by now
        service.process.send_signal(signal.SIGTERM)
        seen(lambda: httpx.get(f"{service.api}/readyz").json() == {"status": "stopping"})
        wire.sendall(body[5:])
        answer = wire.recv(10_000).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "the lab is stopping and takes no new work; send it again when the lab is back" in answer
        assert service.process.wait(PATIENCE) == 0
        client.close()


def test_whoever_asks_twice_does_not_wait(tmp_path: Path) -> None:
    with configured(tmp_path) as service, ExitStack() as stack:
        where = httpx.URL(service.api)
        wire = stack.enter_context(socket.create_connection((where.host, where.port)))
        head = f"POST /api/v1/sessions HTTP/1.1\r\nHost: {where.host}\r\nAuthorization: Bearer {service.token}\r\n"
        wire.sendall(f"{head}Content-Length: 9\r\n\r\n1".encode())
        httpx.get(f"{service.api}/healthz")
        service.process.send_signal(signal.SIGTERM)
        seen(lambda: httpx.get(f"{service.api}/readyz").json() == {"status": "stopping"})
        assert service.end() == 128 + signal.SIGTERM


# Those who watch it


@contextmanager
def manager(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and its name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(folder / "notify"))
        there.settimeout(PATIENCE)
        yield there, str(folder / "notify")


def test_a_service_manager_is_told_how_it_is(tmp_path: Path) -> None:
    with manager(tmp_path) as (there, name), configured(tmp_path, NOTIFY_SOCKET=name) as service:
        assert there.recv(100) == b"READY=1"
        service.process.send_signal(signal.SIGHUP)
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", there.recv(100))
        assert there.recv(100) == b"READY=1"
        assert service.end() == 0
        assert there.recv(100) == b"STOPPING=1"


def test_a_watchdog_gets_signs_of_life(tmp_path: Path) -> None:
    with manager(tmp_path) as (there, name):
        with configured(tmp_path, NOTIFY_SOCKET=name, WATCHDOG_USEC="100000") as service:
            assert [there.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            assert service.end() == 0
        with configured(tmp_path, NOTIFY_SOCKET=name, WATCHDOG_USEC="100000", WATCHDOG_PID="1") as service:
            while there.recv(100) != b"READY=1":
                pass
            assert select.select([there], [], [], 0.3)[0] == []  # that is another process's
            assert service.end() == 0


@contextmanager
def starting(folder: Path, database: str, notify: str) -> Iterator[subprocess.Popen[str]]:
    """A service that is not up yet."""
    text = FILE.format(log="text", machines="").replace("{url: lab.db}", "{url: '${DATABASE_URL}'}")
    (folder / "lab.yaml").write_text(text)
    environ = {**os.environ, "DATABASE_URL": database, "NOTIFY_SOCKET": notify}
    with (
        (folder / "log").open("w") as errors,
        subprocess.Popen(
            [*COMMAND, "--config=lab.yaml", "--token-file=token"],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


WAITS = b"STATUS=the database's server does not answer (no answer)\nEXTEND_TIMEOUT_USEC=30000000"


def test_a_service_waits_for_a_database_that_starts_later(tmp_path: Path, own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    with manager(tmp_path) as (there, name), starting(tmp_path, own_postgres.url, name) as process:
        assert there.recv(200) == WAITS
        own_postgres.start()
        while (told := there.recv(200)).startswith(b"STATUS=the database's server does not answer ("):
            pass  # with other reasons too: it may be seen while it starts up
        assert told == b"READY=1"
        assert process.stdout is not None
        assert process.stdout.readline().startswith("dispatch: serving http://127.0.0.1:")
        said = (tmp_path / "log").read_text()
        assert said.count("its server does not answer (no answer): the lab waits for it to start") == 1
        assert "s3cret" not in said


def test_a_signal_ends_the_wait_for_a_database(tmp_path: Path, own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    with manager(tmp_path) as (there, name), starting(tmp_path, own_postgres.url, name) as process:
        assert there.recv(200) == WAITS
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"  # of a line of the log


@pytest.mark.parametrize("log", ["text", "json"])
def test_each_request_has_an_id_in_the_log(tmp_path: Path, log: str) -> None:
    with configured(tmp_path, log=log) as service:
        wanted = f"{service.api}/api/v1/openapi.json"
        answer = httpx.get(wanted, headers=service.bearer(**{"X-Request-Id": "mine-1"}))
        assert answer.headers["X-Request-Id"] == "mine-1"
        others = [httpx.get(wanted, headers=service.bearer(**{"X-Request-Id": odd})) for odd in ("", "a b", "x" * 65)]
        assert len({other.headers["X-Request-Id"] for other in others}) == 3
        assert {len(other.headers["X-Request-Id"]) for other in others} == {16}
        httpx.get(f"{service.api}/healthz")
        assert service.end() == 0
        lines = service.log.read_text().splitlines()
        assert len(lines) == 4
        if log == "text":
            line = r"dispatch: \S+\.request_log: GET /api/v1/openapi\.json: 200 in \d+ ms \[mine-1\]"
            assert re.fullmatch(f"{TIME} {line}", lines[0])
            return
        said = json.loads(lines[0])
        assert said.items() >= {"level": "info", "request": "mine-1", "method": "GET", "status": 200}.items()
        assert said["path"] == "/api/v1/openapi.json"
        assert re.fullmatch(TIME, said["time"])


def test_the_journal_of_systemd_gets_lines_without_a_time(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    there = (tmp_path / "log").stat()
    for stream, timed in ((f"{there.st_dev}:{there.st_ino}", False), (f"{there.st_dev}:{there.st_ino + 1}", True)):
        with configured(tmp_path, JOURNAL_STREAM=stream) as service:
            httpx.get(f"{service.api}/api/v1/openapi.json", headers=service.bearer())
            assert service.end() == 0
            [line] = service.log.read_text().splitlines()
            assert bool(re.match(f"{TIME} dispatch: ", line)) is timed, line
            assert timed or line.startswith("dispatch: ")


# Notifications

HOOK_SECRET = "TopSecretPath77"
NOTIFICATIONS = """
notifications:
  targets:
    - name: ops
      url: ${OPS_URL}
      kinds: [machine.held]
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def states(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "lab.db")) as db:
        return {row[0] for row in db.execute("SELECT state FROM dispatch_notifications")}


def hold(service: Service, reason: str) -> None:
    at = f"{service.api}/api/v1/machines/bench-1/hold"
    assert httpx.post(at, headers=service.bearer(), json={"reason": reason}).status_code == 200


def test_a_killed_service_loses_no_notification(tmp_path: Path, receiver: Receiver) -> None:
    receiver.hangs = True
    machine = "{id: bench-1}"
    environ = {"OPS_URL": receiver.url(HOOK_SECRET, "?rto=60")}
    with configured(tmp_path, machines=machine, more=NOTIFICATIONS, **environ) as service:
        for number in range(3):
            hold(service, f"reason {number}")
        seen(lambda: receiver.asked)
        service.process.kill()
        log = service.log.read_text()
    assert states(tmp_path) == {"waiting"}
    receiver.let_go()
    with configured(tmp_path, machines=machine, more=NOTIFICATIONS, **environ) as service:
        seen(lambda: states(tmp_path) == {"sent"})
        [status] = httpx.get(f"{service.api}/api/v1/notifications", headers=service.bearer()).json()
        assert (status["name"], status["waiting"], status["sent"]) == ("ops", 0, 3)
        log += service.log.read_text()
        assert service.end() == 0
    said = [message["message"] for message in receiver.messages]
    assert {f"reason {number}; until released" for number in range(3)} <= set(said)
    assert HOOK_SECRET not in log
    assert HOOK_SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.glob("lab.db*"))


def test_a_service_ends_while_a_target_hangs(tmp_path: Path, receiver: Receiver) -> None:
    receiver.hangs = True
    environ = {"OPS_URL": receiver.url(HOOK_SECRET, "?rto=600")}
    with configured(tmp_path, machines="{id: bench-1}", more=NOTIFICATIONS, **environ) as service:
        hold(service, "why not")
        seen(lambda: receiver.asked)
        assert service.end() == 0


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.draw(1)
def test_a_session_of_a_shared_lab_names_who_is_told(tmp_path: Path, receiver: Receiver, allowed: bool) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.efi").write_bytes(b"MZ" + bytes(100))
    schemes = "\nnotifications: {session_schemes: [json]}\n" if allowed else ""
    with configured(tmp_path, machines="{id: bench-1, driver: 'sim?pace=0.001'}", more=schemes) as service:
        told = {"DISPATCH_TOKEN": service.token, "DISPATCH_NOTIFY": receiver.url(HOOK_SECRET)}
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--dispatch-dir=w",
                f"--dispatch-lab={service.api}",
            ],
            cwd=tmp_path,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        said = ran.stdout + ran.stderr + service.log.read_text()
    assert HOOK_SECRET not in said
    if allowed:
        assert ran.returncode == 0, said
        [title] = receiver.titles
        assert title.startswith("session w")
        assert title.endswith(": 1 passed")
    else:
        assert ran.returncode == pytest.ExitCode.USAGE_ERROR
        assert "--dispatch-notify: expected a URL that this lab sends to for its sessions (none), got json://…" in said
        assert receiver.asked == []


# What is kept


def filled(file: Path, day: float) -> None:
    """Make the journal of a service: sessions of one run each, closed on each of the last 40 days."""
    bench = QueueBench("a")
    bench.boot(A)
    bench.put(A)
    run, now = changes_of(bench)[-1].run, time.time()
    journal = Journal(file, None)
    journal.open()
    for age in range(40):
        at = now - (age + 0.5) * day
        closed = {**session_row(record(f"s{age}", opened=at))[1], "closed": at}
        journal.write([(sessions, closed), *run_rows(replace(run, id=f"s{age}.1", session=f"s{age}"))])
        journal.write([audit_row(AuditEntry(at=at, who="ada", signed_in="", address="", action="x", target=f"{age}"))])
    journal.write([]).result()
    journal.close()


def test_a_service_keeps_what_its_retention_says(tmp_path: Path) -> None:
    day = 86400.0
    filled(tmp_path / "lab.db", day)
    with configured(tmp_path) as service:  # for ever
        assert service.end() == 0
    (tmp_path / "lab.yaml").write_text(FILE.format(log="text", machines="") + "retention: {runs: 30d, audit: 35d}\n")
    with serving(tmp_path, "--config=lab.yaml") as service:
        seen(lambda: service.logs("older than `retention` says: 10 runs"))
        query = {"action": "x", "most": "100"}
        entries = httpx.get(f"{service.api}/api/v1/audit", headers=service.bearer(), params=query).json()
        assert sorted(int(entry["target"]) for entry in entries) == list(range(35))
        assert service.end() == 0
    with closing(sqlite3.connect(tmp_path / "lab.db")) as db:
        kept = {row[0] for row in db.execute("SELECT session FROM dispatch_runs")}
    assert kept == {f"s{age}" for age in range(30)}


# The first administrator


def test_the_first_administrators_link_is_on_standard_output_alone(tmp_path: Path) -> None:
    said = "dispatch: sign in once as an administrator: "
    with configured(tmp_path) as service:
        seen(lambda: len(service.said) > 3)
        link = service.said[3].removeprefix(said)
        assert link.startswith(f"{service.api}/api/v1/sign-in/link?token=")
        assert httpx.get(f"{link}x").status_code == 401
        answer = httpx.get(link)
        assert answer.status_code == 303
        assert httpx.get(link).status_code == 401
        seen(lambda: service.log.read_text().count("/api/v1/sign-in/link") == 3)
        assert link.partition("=")[2] not in service.log.read_text()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert httpx.get(f"{service.api}/api/v1/me", headers={"Cookie": cookie}).json()["role"] == "admin"
        assert service.end() == 0
    with configured(tmp_path) as service:
        assert service.end() == 0
        assert len(service.said) == 3  # there is an administrator
