"""The command `dispatch`: a lab with no pytest in front of it, and one line for whatever is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from drivers import offer_driver
from faults import fault
from forks import Piped, dispatching
from forks import dispatch as forked
from waiting import PATIENCE

from pytest_dispatch.cli import main as cli
from pytest_dispatch.cli.commands import COMMANDS
from pytest_dispatch.cli.serve_options import OPTIONS
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.model import Outcome, Policy, Workload
from pytest_dispatch.plugin import options
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

COMMAND = (sys.executable, "-m", "pytest_dispatch.cli.main")
NAMES = ", ".join(COMMANDS)
HERE = ("--bind=127.0.0.1:0", "--no-mdns")

ODD = """
import asyncio, logging, sys
from contextlib import suppress
from pathlib import Path
from pytest_dispatch.machines.base import DrivenMachine, Sign

class Machine:
    def __init__(self, what):
        self.what, self.is_off = what, asyncio.Event()
        self.is_off.set()

    async def boot_from(self, new_url):
        pass

    async def on(self):
        self.is_off.clear()
        Path(__file__).with_name("on").touch()

    async def until_off(self):
        await self.is_off.wait()

    async def off(self):
        if self.what == "odd?stays" and not self.is_off.is_set():
            raise OSError("the plug does not answer")

    async def read(self):
        if self.what == "odd?breaks":
            raise RuntimeError("the console broke")
        yield Sign(text="smoke", fault="smoke")  # a reason to power it off and on


def create(spec, state):
    loaded = [name for name in ("pytest", "_pytest", "rich", "pydantic", "alembic") if name in sys.modules]
    logging.getLogger("odd.driver").warning("loaded: %s", loaded)
    machine = Machine(spec.text)
    return [DrivenMachine(power=machine, boot=machine, console=machine)]
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of somebody who has a home and nothing in it, and the driver `odd`."""
    offer_driver(tmp_path / "odd", "odd", "odd_driver")
    (tmp_path / "odd" / "odd_driver.py").write_text(ODD)
    away = ("GITHUB_TOKEN", "GH_TOKEN", "GITHUB_API_URL", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    usual = {name: value for name, value in os.environ.items() if name not in away}
    path = os.pathsep.join(folder for folder in [str(tmp_path / "odd"), *sys.path] if folder)
    return {**usual, "HOME": str(tmp_path / "home"), "PYTHONPATH": path}


@dataclass(frozen=True)
class Serving:
    """One that is up."""

    process: subprocess.Popen[str] | Piped
    url: str
    token_file: Path

    def end(self, number: int) -> tuple[int | None, str, str]:
        """Its exit code, and what else it said."""
        self.process.send_signal(number)
        said, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said, errors


def up(process: subprocess.Popen[str] | Piped) -> Serving:
    """Wait until it is up."""
    assert process.stdout is not None
    serves, token, boots, link = (process.stdout.readline() for _ in range(4))
    url = re.fullmatch(r"dispatch: serving (http://127\.0\.0\.1:\d+)\n", serves)
    file = re.fullmatch(r"dispatch: the token of its API is in (.*)\n", token)
    assert url is not None, (serves, process.communicate(timeout=PATIENCE))
    assert file is not None, token
    assert re.fullmatch(r"dispatch: machines boot from http://127\.0\.0\.1:\d+/dispatch\n", boots)
    assert link.startswith(f"dispatch: sign in once as an administrator: {url[1]}/api/v1/sign-in/link?token=")
    return Serving(process, url[1], Path(file[1]))


@contextmanager
def serving(environ: dict[str, str], *words: str) -> Iterator[Serving]:
    with dispatching().piped(Path(environ["HOME"]).parent, "serve", *HERE, *words, environ=environ) as process:
        yield up(process)


@contextmanager
def serving_anew(environ: dict[str, str], *words: str, by: tuple[str, ...] = ()) -> Iterator[Serving]:
    """By an interpreter that has nothing imported yet."""
    command, pipe = [*by, *COMMAND, "serve", *HERE, *words], subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield up(process)
        finally:
            process.kill()


def release(github: FakeGitHub) -> Workload:
    """A workload that whoever is asked can fetch."""
    github.add_release("me/lab", "v1", {"a.efi": ("application/vnd.dispatch+efi", b"MZ" * 99)})
    return list_release("me/lab", "v1", None, github.url).workloads[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.draw(1)
def test_a_lab_serves_until_a_signal_ends_it(
    environ: dict[str, str], tmp_path: Path, github: FakeGitHub, number: int
) -> None:
    """Whoever may read the token's file may use it, also when the lab is there again."""
    wanted = RunRequest(key="k", workload=release(github))
    with serving(environ, f"--api-url={github.url}", "--machine=sim?pace=0.002") as lab:
        assert lab.token_file == tmp_path / "home" / ".local" / "share" / "pytest-dispatch" / "lab.db.token"
        assert stat.S_IMODE(lab.token_file.stat().st_mode) == 0o600
        token = lab.token_file.read_text().strip()
        client = LabClient(lab.url, token)
        session = client.open(OpenSession(source="w", policy=Policy())).id
        assert client.session(session).machines == ()  # not of this session: others may come
        [view] = client.submit(session, [wanted])
        assert next(seen for seen in client.follow(view.run.id) if seen.run.outcome).run.outcome is Outcome.PASSED
        client.close()
        code, said, errors = lab.end(number)
        assert (code, said, errors) == (0, "", "")
        assert lab.token_file.read_text().strip() == token


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks by /proc, as Linux has it")
def test_a_signal_that_is_ignored_stays_so(environ: dict[str, str]) -> None:
    """Or else `nohup` would be in vain."""
    with serving_anew(environ, by=("nohup",)) as lab:
        status = Path(f"/proc/{lab.process.pid}/status").read_text()
        [ignored] = re.findall(r"(?m)^SigIgn:\s*(\w+)$", status)
        assert int(ignored, 16) & 1 << signal.SIGHUP - 1
        assert lab.end(signal.SIGTERM)[0] == 0


def test_it_goes_on_with_its_journal_and_tells_no_secret(
    environ: dict[str, str], tmp_path: Path, github: FakeGitHub
) -> None:
    files = (f"--db={tmp_path}/some/j.db", f"--token-file={tmp_path}/secret", f"--cache={tmp_path}/assets")
    wanted, sessions = RunRequest(key="k", workload=release(github)), set()
    for _ in range(2):
        with serving(environ, f"--api-url={github.url}", *files) as lab:
            assert lab.token_file == tmp_path / "secret"
            token = lab.token_file.read_text().strip()
            client = LabClient(lab.url, token)
            opened = client.open(OpenSession(source="w", policy=Policy(), resume=True))
            client.submit(opened.id, [wanted])
            sessions.add(opened.id)
            client.close()
            seen = Path(f"/proc/{lab.process.pid}/cmdline")
            assert not seen.exists() or token.encode() not in seen.read_bytes()
            code, said, errors = lab.end(signal.SIGTERM)
            assert (code, token in said + errors) == (0, False)
    assert len(sessions) == 1
    assert (tmp_path / "assets").is_dir()


def test_a_token_is_kept_unless_others_may_know_it(environ: dict[str, str], tmp_path: Path) -> None:
    file, seen = tmp_path / "token", list[str]()
    for mode in (0o600, 0o600, 0o640):
        if seen:
            file.chmod(mode)
        with serving(environ, f"--token-file={file}") as lab:
            seen.append(file.read_text())
            assert lab.end(signal.SIGTERM)[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert seen[0] == seen[1] != seen[2]


def test_what_a_driver_says_is_shown_and_pytest_is_not_loaded(environ: dict[str, str]) -> None:
    with serving_anew(environ, "--machine=odd") as lab:
        code, out, log = lab.end(signal.SIGTERM)
    assert (code, out, log.partition(" ")[2]) == (0, "", "dispatch: odd.driver: loaded: []\n")  # after the time


@fault(
    "Crashes",
    "`dispatch serve` breaks",
    outcome="it ends with exit code 1; its journal is as it was",
    told="`dispatch: `, and why, in one line",
)
def test_a_lab_that_breaks_ends(environ: dict[str, str]) -> None:
    with serving(environ, "--machine=odd?breaks") as lab:
        _, errors = lab.process.communicate(timeout=PATIENCE)
        assert lab.process.returncode == 1
        assert "the console broke" in errors.splitlines()[-1]
        assert errors.splitlines()[-1].startswith("dispatch: ")


def test_a_lab_that_does_not_end_as_it_should_says_so(environ: dict[str, str], tmp_path: Path) -> None:
    with serving(environ, "--machine=odd?stays") as lab:
        give_up = time.monotonic() + PATIENCE
        while not (tmp_path / "odd" / "on").exists() and time.monotonic() < give_up:
            time.sleep(0.005)
        code, _said, errors = lab.end(signal.SIGTERM)
        assert code == 1
        assert errors.splitlines()[-1] == "dispatch: not everything could be stopped: OSError: the plug does not answer"


def test_a_secret_in_a_machine_s_url_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    ran = forked(tmp_path, "serve", *HERE, "--machine=odd://me:s3cret@bmc-1", environ=environ)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("dispatch: --machine: expected no secret on the command line")
    assert "got 'odd://***@bmc-1'; have its driver read it from a file or the environment" in ran.stderr
    assert "s3cret" not in ran.stderr


def test_a_port_that_is_taken(environ: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = forked(tmp_path, "serve", f"--bind=127.0.0.1:{port}", "--no-mdns", environ=environ)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"dispatch: cannot listen on 127.0.0.1:{port}: another program listens there; use another port with"
        " --bind 127.0.0.1:PORT (port 0 picks a free one)\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full, as Linux has it")
def test_who_cannot_be_told_that_it_is_up(environ: dict[str, str], tmp_path: Path) -> None:
    words, full, errors = (*HERE, f"--token-file={tmp_path}/token"), Path("/dev/full"), tmp_path / "errors"
    ran = dispatching().start(tmp_path, "serve", *words, out=full, err=errors, environ=environ)
    why = "standard output cannot be written (No space left on device): nobody would know that it is up"
    assert (ran.wait(PATIENCE), errors.read_text()) == (1, f"dispatch: {why}\n")


def test_a_journal_is_copied_while_a_lab_writes_it_and_put_back(environ: dict[str, str], tmp_path: Path) -> None:
    db, copy = tmp_path / "j.db", tmp_path / "copy.db"
    with serving(environ, f"--db={db}") as lab:
        client = LabClient(lab.url, lab.token_file.read_text().strip())
        client.open(OpenSession(source="w", policy=Policy()))
        client.close()
        ran = forked(tmp_path, "backup", f"--db={db}", str(copy), environ=environ)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == f"dispatch: the journal {db} is copied to {copy}\n"
        refused = forked(tmp_path, "restore", f"--db={db}", str(copy), environ=environ)  # it is in use
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert lab.end(signal.SIGTERM)[0] == 0
    ran = forked(tmp_path, "restore", f"--db={db}", str(copy), environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"dispatch: the journal {db} is again as in {copy}; what it was is kept as {tmp_path}")
    ran = forked(tmp_path, "migrate", f"--db={db}", environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(rf"dispatch: the journal {db} was of version \d+, which is current\n", ran.stdout)


@pytest.mark.parametrize("words", [["migrate"], ["backup", "copy.db"]], ids=" ".join)
def test_where_there_is_no_journal(environ: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    ran = forked(tmp_path, *words, f"--db={tmp_path}/none.db", environ=environ)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"dispatch: journal {tmp_path}/none.db: ")
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["bake"],
            f"expected one of {NAMES}, got 'bake'; see `dispatch --help`",
        ),
        (
            ["help", "bake"],
            f"expected one of {NAMES}, got 'bake'",
        ),
        (["login"], "the following arguments are required: URL; see `dispatch login --help`"),
        (["login", "lab:80"], "URL: expected a lab's address such as https://lab.example:8080, got 'lab:80'"),
        (
            ["logout", "http://me:hush@lab"],
            "URL: expected a lab's address such as https://lab.example:8080, got one with",
        ),
        (["backup"], "the following arguments are required: FILE; see `dispatch backup --help`"),
        (["serve", "--oven"], "unrecognized arguments: --oven; see `dispatch serve --help`"),
        (["serve", "--bind"], "argument --bind: expected one argument; see `dispatch serve --help`"),
        (["serve", "--bind=here"], "--bind: expected ADDRESS:PORT such as 0.0.0.0:8080"),
        (["serve", "--path=x"], "--path: expected a path such as /dispatch"),
        (["serve", "--allow=all"], "--allow: expected a network such as"),
        (["serve", "--machine=7"], "--machine: expected a SPEC such as"),
        (["serve", *HERE, "--machine=toaster"], "--machine: expected one of "),
        (["serve", "--boot-tool=x"], "--boot-tool: expected a tool such as"),
        (["serve", "--cache-limit=0"], "--cache-limit: expected a number of gigabytes"),
        (["serve", "--cache=~nobody-of-that-name/x"], "--cache: expected a path, got '~nobody-of-that-name/x'"),
        (["serve", "--api-url=ftp://x"], "--api-url: "),
        (["serve", "--db=odd://x"], "--db: expected a file, or a database's URL"),
        (["serve", "--db=postgresql://u:hush@x/y"], "--db: expected no password on the command line"),
        (["serve", *HERE, "--token-file=/dev/null/x"], "--token-file: expected a file that can be written, got /dev"),
        (["serve", "--parent=1"], "--scratch: expected a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_one_line(environ: dict[str, str], tmp_path: Path, words: list[str], why: str) -> None:
    ran = forked(tmp_path, *words, environ=environ)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"dispatch: {why}")
    assert ran.stderr.count("\n") == 1
    assert "hush" not in ran.stderr


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"], ["help", "help"]], ids=" ".join)
def test_help_lists_the_commands(environ: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    ran = forked(tmp_path, *words, environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line.split()[0] for line in ran.stdout.splitlines() if re.match(r"  \w", line)] == list(COMMANDS)


@pytest.mark.parametrize("words", [["config", "--help"], ["config", "check", "--help"]], ids=" ".join)
def test_help_tells_of_files_of_a_lab(environ: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    ran = forked(tmp_path, *words, environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "check FILE" in ran.stdout


@pytest.mark.parametrize("words", [["help", "serve"], ["serve", "--help"]], ids=" ".join)
def test_help_tells_of_a_command(environ: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    ran = forked(tmp_path, *words, environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "--bind HOST:PORT" in ran.stdout
    assert "--parent" not in ran.stdout


def test_the_version(environ: dict[str, str], tmp_path: Path) -> None:
    for word in ("version", "--version"):
        assert forked(tmp_path, word, environ=environ).stdout == f"pytest-dispatch {version('pytest-dispatch')}\n"
    as_json = forked(tmp_path, "version", "--json", environ=environ)
    assert json.loads(as_json.stdout) == {"version": version("pytest-dispatch")}


def test_the_command_is_installed() -> None:
    [point] = entry_points(group="console_scripts", name="dispatch")
    assert point.load() is cli.main


def test_options_are_named_as_pytest_s() -> None:
    known = {option.name for option in options.OPTIONS} | {f"--{name.replace('_', '-')}" for name, _ in options.INI}
    assert {f"--dispatch-{option.name}" for option in OPTIONS} <= known
