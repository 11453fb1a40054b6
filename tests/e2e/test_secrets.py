"""No secret is ever shown: planted everywhere, looked for everywhere, while everything goes wrong."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from boots import wanted as wanted_bytes
from faults import fault
from fetching import EFI
from forks import Forks
from plugin_bench import IN_THREAD, WITHOUT, Bench

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.api import GitHubApi, checked_api_url
from pytest_dispatch.plugin.settings import read_settings
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.cache import CacheFolder
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.support.blocking import Stop
from pytest_dispatch.testing.github import Exchange, FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

OPTION, GITHUB, GH, ASKED = (f"ghp_{word}{word * 2}" for word in ("fromOption", "fromGithub", "fromGh", "fromProgram"))
PASSWORD = "hushhushhush"
#: What every token that the lab makes begins with in these runs, in two halves: the files here are searched too.
MADE = ("plan", "ted7")

#: Loaded by every Python of the runs: tokens can be told then, those of the lab and of its machines.
PLANT = f"""
import os, secrets

made = secrets.token_urlsafe

def marked(size=None):
    with open(os.environ["NOTED"] + "/made", "a") as file:
        file.write("x")
    return "".join({MADE!r}) + made(size)  # not a sum, which would be one word in the compiled file

secrets.token_urlsafe = marked
"""

#: A machine that breaks the lab, with its boot URL in the error's own frame.
BREAKER = """
from pytest_dispatch.machines.base import DrivenMachine
from pytest_dispatch.machines.sim.driver import SimMachine

class Breaks:
    async def read(self):
        raise RuntimeError("the console broke")
        yield

def create(spec, state):
    machine = SimMachine()
    return [DrivenMachine(power=machine, boot=machine, console=Breaks())]
"""

#: A driver that tells the URL by which it reaches its machine, wherever it can.
TELLER = """
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.sim.driver import SimMachine

WHERE, ERROR = {where!r}, {error}

class Teller(SimMachine):
    def __init__(self, url):
        super().__init__(pace=0.001)
        self.url = url

    async def on(self):
        if WHERE == "on":
            raise ERROR(f"cannot reach {{self.url}}")
        await super().on()

    async def pause(self, seconds):
        self.console.show(Sign(text=f"goes on at {{self.url}}"))
        await super().pause(seconds)

def create(spec, state):
    if WHERE == "create":
        raise ERROR(f"cannot reach {{spec.url}}")
    return [Teller(spec.url).driven()]
"""

USES = """
def test_it(dispatch_lab, dispatch_workload, request, pytestconfig):
    config, options, session = pytestconfig, vars(pytestconfig.option), request.session
    known, params, plugins = vars(config.known_args_namespace), config.invocation_params, config.pluginmanager
    handed_to_a_worker = getattr(config, "workerinput", None)
    machines, run, url = dispatch_lab.machines, dispatch_workload.run, dispatch_lab.url
    with open("dump.txt", "w") as file:
        faulthandler.dump_traceback(file)
    assert not run
"""

RAISES = "def {hook}({arguments}):\n    config_of_the_user = {arguments}\n    raise RuntimeError('a mistake')\n"


@pytest.fixture
def noted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of what is searched, known to the runs."""
    folder = tmp_path_factory.mktemp("noted")
    monkeypatch.setenv("NOTED", str(folder))
    return folder


@pytest.fixture
def bench(pytester: pytest.Pytester, forks: Forks, noted: Path) -> Iterator[Bench]:
    bench = Bench(pytester, forks)
    bench.workloads({"a": "pass", "b": "fail"})
    bench.path.joinpath("planted.py").write_text(PLANT)
    bench.path.joinpath("sitecustomize.py").write_text("import planted")
    pytester.syspathinsert()
    yield bench
    forks.end()


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A fake that knows every one of these tokens."""
    with FakeGitHub() as fake:
        fake.tokens |= {OPTION, GITHUB, GH, ASKED}
        fake.add_release("me/lab", "v1", {"a.efi": (EFI, b"MZ-a")}, private=True)
        yield fake


#: Where a token is put, and the arguments that say so.
Place = Callable[[pytest.MonkeyPatch, Path], tuple[str, ...]]


def by_option(_monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    return (f"--dispatch-token={OPTION}",)


def by_option_apart(_monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    return ("--dispatch-token", OPTION)


def by_file(_monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[str, ...]:
    """A file of arguments that names another one."""
    folder.joinpath("more").write_text(f"--dispatch-token\n{OPTION}\n")
    folder.joinpath("arguments").write_text(f"-ra\n@{folder}/more\n")
    return (f"@{folder}/arguments",)


def by_file_of_its_own(_monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[str, ...]:
    folder.joinpath("token").write_text(OPTION)
    return ("--dispatch-token", f"@{folder}/token")


def by_option_twice(_monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    return (f"--dispatch-token={GH}", "--dispatch-token", OPTION)


def by_addopts_of_the_environment(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--dispatch-token {OPTION}")
    return ()


def by_environment(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", GITHUB)
    return ()


def by_github_enterprise_token(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    monkeypatch.setenv("GITHUB_ENTERPRISE_TOKEN", GH)
    return ()


def by_program(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[str, ...]:
    """A `gh` that is signed in."""
    program = folder / "gh"
    program.write_text(f"#!/bin/sh\necho {ASKED}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return ()


def by_machine(_monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    """A machine whose BMC wants a password."""
    return (f"--dispatch-machine=bench://me:{PASSWORD}@bmc-1/x?token={OPTION}&labels=gpu", f"--dispatch-token={OPTION}")


def by_notify(_monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[str, ...]:
    """A target of notifications that is not there, whose URL has a password and a token.

    The journal has it until the message is sent, so that the next lab can send it; nothing else may.
    """
    target = f"json://me:{PASSWORD}@127.0.0.1:9/{OPTION}"
    return (f"--dispatch-notify={target}", f"--dispatch-token={OPTION}", f"--dispatch-db={folder}/journal.db")


def by_proxy(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    """One that is not there, whose URL has a password."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}")
    return (f"--dispatch-token={OPTION}",)


def by_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> tuple[str, ...]:
    monkeypatch.setenv("all_proxy", f"http://me:{PASSWORD}")
    return (f"--dispatch-token={OPTION}",)


def shown_in(folder: Path, *texts: str) -> set[str]:
    """Where a secret is to be seen: in a text, or in a file of the folder."""
    secrets = [word.encode() for word in (OPTION, GITHUB, GH, ASKED, PASSWORD, "".join(MADE))]
    found = {text for text in texts if any(secret in text.encode() for secret in secrets)}
    for path in folder.rglob("*"):
        if path.is_file() and stat.S_ISREG(path.stat().st_mode) and any(s in path.read_bytes() for s in secrets):
            found.add(str(path.relative_to(folder)))
    return found


LOUD = ("-vvv", "--showlocals", "--debug", "-o", "log_cli_level=DEBUG", "-o", "log_level=DEBUG", "-rA")
FILES = ("--junitxml=own.xml", "--dispatch-junit=cases.xml", "--dispatch-db=journal.db", "--dispatch-cache=cache")
QUICK = ("--dispatch-retries=0", "--dispatch-drain=0", "--dispatch-machine=sim?pace=0.001")
HERE = ("--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns")
FOLDER = ("--dispatch-dir=w", "--dispatch-issues=all", "--dispatch-issues-repo=me/lab")
RELEASE = ("--dispatch-repo=me/lab",)


def run(bench: Bench, *arguments: str) -> pytest.RunResult:
    """Run pytest so that what it makes is marked, and what those make whom it starts."""
    environ = {**os.environ, "PYTHONPATH": str(bench.path)}
    return bench.fork("-p", "planted", *WITHOUT, *arguments, environ=environ)


def loudly(bench: Bench, *arguments: str) -> pytest.RunResult:
    """Run pytest so that it tells all it knows; nothing of that may be a secret."""
    result = run(bench, *LOUD, *FILES, *HERE, *arguments)
    debug = bench.path.joinpath("pytestdebug.log").read_text(errors="replace")
    assert "pytest_sessionstart" in debug or "ERROR" in result.stderr.str()
    assert shown_in(bench.path, result.stdout.str(), result.stderr.str()) == set()
    return result


Wrong = tuple[Place, tuple[str, ...], Callable[[Bench, FakeGitHub], None], str]


def nothing(_bench: Bench, _github: FakeGitHub) -> None:
    """All is well."""


def refuse(call: str, status: int, **more: object) -> Callable[[Bench, FakeGitHub], None]:
    return lambda _bench, github: github.fail_next(call, status=status, times=99, **more)  # type: ignore[arg-type]


def echo(_bench: Bench, github: FakeGitHub) -> None:
    """An answer that has the token in it."""
    github.fail_next("GET *", status=403, message=f"no access for {OPTION}", times=99)


def raising(hook: str, arguments: str) -> Callable[[Bench, FakeGitHub], None]:
    def write(bench: Bench, _github: FakeGitHub) -> None:
        bench.pytester.makeconftest(RAISES.format(hook=hook, arguments=arguments))

    return write


def breaking(bench: Bench, _github: FakeGitHub) -> None:
    bench.driver(BREAKER)


def telling(where: str, error: str = "MachineError") -> Callable[[Bench, FakeGitHub], None]:
    def write(bench: Bench, _github: FakeGitHub) -> None:
        bench.driver(TELLER.format(where=where, error=error))

    return write


def using(bench: Bench, _github: FakeGitHub) -> None:
    bench.pytester.makepyfile(f"import faulthandler, pytest\n@pytest.mark.dispatch('a.efi')\n{USES.strip()}\n")


#: What goes wrong; whose token; the arguments; how; and a word of what is told, so that it did go wrong.
WRONG: dict[str, Wrong] = {
    "all is well": (by_option, (*FOLDER, *QUICK, "--tb=long"), nothing, "issue: "),
    "all is well, with pytest-xdist": (by_option, (*FOLDER, *QUICK, "-n1"), nothing, "issue: "),
    "the release is refused with 401": (
        by_option_apart,
        (*RELEASE, *QUICK),
        refuse("GET *", 401),
        "expired or mistyped?",
    ),
    "the release is not there": (by_environment, (*RELEASE, *QUICK, "--dispatch-tag=v9"), nothing, "no release with"),
    "GitHub says the token itself": (by_option, (*RELEASE, *QUICK), echo, "no access for ***"),
    "storage refuses": (
        by_program,
        (*RELEASE, *QUICK, "--tb=native", "--dispatch-issues=none"),
        refuse("GET /storage/*", 404),
        "404",
    ),
    "the proxy is not there": (
        by_proxy,
        (*RELEASE, *QUICK, "--dispatch-api-url=https://api.nowhere.invalid"),
        nothing,
        "(HTTPS_PROXY): connection refused",
    ),
    "the proxy is none": (
        by_proxy_that_is_none,
        (*RELEASE, *QUICK, "--dispatch-api-url=https://api.nowhere.invalid"),
        nothing,
        "all_proxy: expected where the proxy is",
    ),
    "GitHub's name is not known": (
        by_github_enterprise_token,
        (*RELEASE, *QUICK, "--dispatch-api-url=https://api.nowhere.invalid"),
        nothing,
        "cannot be reached",
    ),
    "issues are refused": (by_file, (*FOLDER, *QUICK, IN_THREAD), refuse("POST /repos/*/issues", 401), "not filed"),
    "the lab breaks": (
        by_environment,
        (*FOLDER, "--dispatch-drain=0", "--dispatch-machine=bench", "--tb=long"),
        breaking,
        "the lab is broken",
    ),
    **{
        f"a machine's URL has a password, and its driver tells {what}": (
            by_machine,
            (*FOLDER, "--dispatch-drain=0", "--tb=long", *where),
            telling(*how),
            told,
        )
        for what, where, how, told in (
            ("nobody", (), ("",), "machines bench://***@bmc-1/x?token=***&labels=gpu"),
            ("nobody, with pytest-xdist", ("-n1",), ("",), "machines bench://***@bmc-1/x?token=***&labels=gpu"),
            ("it at once", (), ("create",), "cannot reach bench://me:***@bmc-1/x?token=***"),
            ("it by an error of any kind", (), ("create", "KeyError"), "cannot reach bench://me:***@bmc-1/x?token=***"),
            (
                "it when the machine cannot be powered on",
                (),
                ("on",),
                "no machine is left: bench-1: cannot reach bench://me:***@",
            ),
            (
                "it by a defect",
                (),
                ("on", "KeyError"),
                "the driver of bench-1 raised KeyError: 'cannot reach bench://me:",
            ),
            ("it by a defect, in a thread", (IN_THREAD,), ("on", "KeyError"), "the driver of bench-1 raised KeyError"),
            ("it on the console", (), ("",), "goes on at bench://me:***@bmc-1/x?token=***"),
        )
    },
    "nobody takes a notification": (by_notify, (*FOLDER, *QUICK), nothing, "not told, --dispatch-notify 1 (json): "),
    "nobody takes a notification, with pytest-xdist": (
        by_notify,
        (*FOLDER, *QUICK, "-n1"),
        nothing,
        "not told, --dispatch-notify 1 (json): ",
    ),
    "a test fails, and somebody is to be told": (
        by_notify,
        (*FOLDER, *QUICK, IN_THREAD, "--tb=long"),
        using,
        "assert not run",
    ),
    "a hook raises at the beginning": (
        by_option,
        (*FOLDER, *QUICK, IN_THREAD, "--full-trace"),
        raising("pytest_dispatch_workloads", "config"),
        "a mistake",
    ),
    "a hook raises under way": (
        by_option,
        (*FOLDER, *QUICK, IN_THREAD, "--full-trace"),
        raising("pytest_dispatch_verdict", "run"),
        "a mistake",
    ),
    "a test fails that uses the fixtures": (by_option, (*FOLDER, *QUICK, "--tb=long"), using, "assert not run"),
    "a test fails that uses the fixtures, the token is in a file": (
        by_file,
        (*FOLDER, *QUICK, IN_THREAD, "--tb=long"),
        using,
        "assert not run",
    ),
    "a test fails in a worker, the token is in a file": (
        by_file_of_its_own,
        (*FOLDER, *QUICK, "--tb=long", "-n1"),
        using,
        "assert not run",
    ),
    "a test fails, the token was given twice": (
        by_option_twice,
        (*FOLDER, *QUICK, IN_THREAD, "--tb=long"),
        using,
        "assert not run",
    ),
    "a test fails, the token is in PYTEST_ADDOPTS": (
        by_addopts_of_the_environment,
        (*FOLDER, *QUICK, IN_THREAD, "--tb=long"),
        using,
        "assert not run",
    ),
    "a test fails with native tracebacks": (
        by_option,
        (*FOLDER, *QUICK, IN_THREAD, "--tb=native"),
        using,
        "assert not run",
    ),
    "an option is wrong": (by_option, (*FOLDER, *QUICK, "--dispatch-expect=luck"), nothing, "got 'luck'"),
    "the journal cannot be had": (
        by_option,
        (*FOLDER, *QUICK, f"--dispatch-db=postgresql+psycopg://u:{PASSWORD}@127.0.0.1:9/x"),
        nothing,
        "journal",
    ),
    **{
        f"the journal cannot be had, its password is {where}": (
            by_option,
            (*FOLDER, *QUICK, IN_THREAD, f"--dispatch-db=postgresql+psycopg://{url}"),
            nothing,
            f"journal postgresql+psycopg://{shown}: cannot open it",
        )
        for where, url, shown in (
            ("in its query", f"127.0.0.1:9/x?user=u&password={PASSWORD}", "127.0.0.1:9/x?password=***&user=u"),
            ("long and with slashes", f"u:a/{PASSWORD}/b@127.0.0.1:9/x", "u:***@127.0.0.1:9/x"),
            ("its key's", f"127.0.0.1:9/x?sslpassword={PASSWORD}", "127.0.0.1:9/x?sslpassword=***"),
        )
    },
    "the token is none": (
        lambda *_: (f"--dispatch-token={OPTION} {OPTION}",),
        (*FOLDER, *QUICK),
        nothing,
        "the token from --dispatch-token is invalid",
    ),
    "a machine cannot be brought up": (
        by_environment,
        (*FOLDER, "--dispatch-machine=qemu?memory=none"),
        nothing,
        "behind memory=",
    ),
}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(
            wrong,
            id=what,
            marks=fault(
                "Hostile input",
                f"Somebody reads all that a run with `-vvv --showlocals --debug` says and leaves behind: {what}",
                outcome="as without",
                told="no secret, and where a token is in question, where it came from",
            ),
        )
        for what, wrong in WRONG.items()
    ],
)
@pytest.mark.draw(6)
def test_no_secret_is_shown(
    bench: Bench,
    github: FakeGitHub,
    noted: Path,
    wrong: Wrong,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place, arguments, break_it, told = wrong
    given = place(monkeypatch, tmp_path_factory.mktemp("bin"))
    break_it(bench, github)
    result = loudly(bench, f"--dispatch-api-url={github.url}", *given, *arguments)
    assert told in result.stdout.str() + result.stderr.str()
    if "a.efi " in result.stdout.str():
        assert (noted / "made").read_text().count("x") >= 1  # the lab's tokens were planted


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\0" + GITHUB.encode())
    assert shown_in(tmp_path, f"x{OPTION}", "".join(MADE), "nothing") == {
        f"x{OPTION}",
        "".join(MADE),
        "deep/file",
    }


def test_a_password_in_a_machine_s_url_is_warned_of_and_refused_in_an_ini_file(bench: Bench) -> None:
    given = f"bench://me:{PASSWORD}@bmc-1"
    result = bench.pytester.runpytest_inprocess(
        "-W", "error", "--co", "--dispatch-dir=w", "--dispatch-machine=sim", "--dispatch-machine", given, *WITHOUT
    )
    [line] = [line for line in result.errlines if line]
    assert line.startswith("ERROR: --dispatch-machine: everybody on this computer can read it in the list of processes")
    bench.path.joinpath("pytest.ini").write_text(f"[pytest]\ndispatch_machine =\n    sim\n    {given}\n")
    result = bench.pytester.runpytest_inprocess("--co", "--dispatch-dir=w", *WITHOUT)
    [line] = [line for line in result.errlines if line]
    assert line.startswith("ERROR: --dispatch-machine: expected no secret in an ini file or behind -o")
    assert PASSWORD not in line
    bench.path.joinpath("pytest.ini").write_text("[pytest]\ndispatch_machine =\n    sim\n    sim:2\n")
    assert bench.pytester.runpytest_inprocess("--co", "--dispatch-dir=w", *WITHOUT).ret == 0


@pytest.mark.parametrize("place", [by_option, by_option_apart])
def test_a_token_on_the_command_line_is_warned_of(bench: Bench, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given = place(monkeypatch, bench.path)
    result = bench.pytester.runpytest_inprocess("--co", "--dispatch-dir=w", *given, *WITHOUT)
    assert "everybody on this computer can read it" in result.stdout.str()
    result = bench.pytester.runpytest_inprocess("-W", "error", "--co", "--dispatch-dir=w", *given, *WITHOUT)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in result.errlines if line]
    assert line.startswith("ERROR: --dispatch-token: everybody on this computer can read it in the list of processes")


def test_a_token_from_elsewhere_is_not_warned_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    given = by_file_of_its_own(monkeypatch, bench.path)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--dispatch-token={OPTION}")
    monkeypatch.setenv("GITHUB_TOKEN", GITHUB)
    result = bench.pytester.runpytest_inprocess("-W", "error", "--co", "--dispatch-dir=w", *given, *WITHOUT)
    assert result.ret == 0
    assert "everybody" not in result.stdout.str()


PLACES_OF_OTHERS = {
    "-o": ("", ("-o", f"dispatch_token={OPTION}")),
    "-o in one": ("", (f"-odispatch_token={OPTION}",)),
    "--override-ini": ("", (f"--override-ini=dispatch_token={OPTION}",)),
    "ini key": (f"dispatch_token = {OPTION}", ()),
    "ini key beside an option": (f"dispatch_token = {OPTION}", (f"--dispatch-token={GH}",)),
    "addopts": (f"addopts = --dispatch-token={OPTION}", ()),
    "addopts, apart": (f"addopts = --dispatch-token {OPTION}", ()),
    "addopts beside an option": (f"addopts = --dispatch-token {OPTION}", (f"--dispatch-token={GH}",)),
    "-o in addopts": (f"addopts = -o dispatch_token={OPTION}", ()),
    "password": (f"dispatch_db = postgresql+psycopg://u:{PASSWORD}@127.0.0.1:9/x", ()),
    "password in a query": (f"dispatch_db = postgresql+psycopg://127.0.0.1:9/x?password={PASSWORD}", ()),
    "password in addopts": (f"addopts = --dispatch-db=postgresql+psycopg://u:{PASSWORD}@127.0.0.1:9/x", ()),
}


@fault(
    "Hostile input",
    "Somebody writes a token or a database's password into an ini file, its `addopts`, or behind `-o`",
    outcome="nothing is run",
    told="the option, and where to put it instead; exit code 4",
)
@pytest.mark.parametrize("where", PLACES_OF_OTHERS)
@pytest.mark.draw(4)
def test_a_secret_that_others_could_read_is_refused(bench: Bench, where: str) -> None:
    ini, given = PLACES_OF_OTHERS[where]
    bench.pytester.makeini(f"[pytest]\n{ini}\n")
    result = run(bench, *LOUD, *QUICK, "--dispatch-dir=w", *HERE, *given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in result.errlines if line and not line.startswith("w")]
    option, instead = (
        ("--dispatch-db", "PGPASSWORD") if where.startswith("password") else ("--dispatch-token", "GITHUB")
    )
    assert line.startswith(f"ERROR: {option}: expected no secret in an ini file or behind -o")
    assert instead in line
    bench.path.joinpath("tox.ini").unlink()
    assert shown_in(bench.path, result.stdout.str(), result.stderr.str()) == set()


def test_the_database_is_opened_with_the_password_that_was_given(pytester: pytest.Pytester) -> None:
    """Although all that is shown of it is masked, beside a token too."""
    url = f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:9/x"
    config = pytester.parseconfig("--dispatch-repo=me/lab", f"--dispatch-token={OPTION}", f"--dispatch-db={url}")
    settings = read_settings(config)
    assert settings.plan.db == url
    assert settings.plan.token is not None
    assert settings.plan.token.reveal() == OPTION
    assert config.getoption("dispatch_db") == "postgresql+psycopg://u:***@127.0.0.1:9/x"
    assert config.getoption("dispatch_token") == "***"


def test_the_arguments_of_others_stay_as_they_are(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--hub')")
    hub = f"http://u:{OPTION}@127.0.0.1/{OPTION}"
    config = pytester.parseconfig(f"--dispatch-token={OPTION}", f"--hub={hub}", "--", OPTION)
    assert config.getoption("hub") == hub
    assert config.args == [OPTION]


SHOWS = """
import sys

def pytest_report_header(config):
    return [
        f"{config.invocation_params} {config.args} {sys.argv}",
        f"{config.option} {config.known_args_namespace} {config.getoption('dispatch_token')}",
    ]

def pytest_configure_node(node):
    print(node.workerinput["mainargv"], vars(node.config.option), file=sys.stderr)
"""


@pytest.mark.parametrize(("place", "how"), [(by_option, "-n1"), (by_option_apart, "--co"), (by_file, "--co")])
@pytest.mark.draw(1)
def test_what_others_show_of_the_command_line_is_masked(
    bench: Bench,
    place: Place,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """As plugins do that write a report's head, and as pytest-xdist hands it on."""
    bench.pytester.makeconftest(SHOWS)
    given = place(monkeypatch, tmp_path_factory.mktemp("given"))
    result = loudly(bench, *given, *QUICK, "--dispatch-dir=w", how)
    assert "***" in result.stdout.str()
    assert ("***" in result.stderr.str()) == (how == "-n1")


@pytest.mark.anyio
async def test_private_workloads_are_the_users_alone(github: FakeGitHub, tmp_path: Path) -> None:
    token = Token(OPTION, "a test", github.url)
    [wanted] = list_release("me/lab", None, token, github.url).workloads
    async with aclosing(AssetFetcher(tmp_path / "cache", 10**9, token)) as cache:
        await cache.fetch(wanted_bytes(wanted))
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_private_workloads_are_the_users_alone_in_a_folder_for_all_too(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o755)
    CacheFolder(tmp_path / "cache", 10**9).open(Stop())
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "cache").iterdir() if each.is_dir()}
    assert set(modes.values()) == {0o700}
    assert {"sha256", "partial"} <= modes.keys()


HANDOVER = """
import stat
from pathlib import Path

def test_it(request):
    path = Path(request.config.workerinput["dispatch"])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    Path("handed-over").write_text(str(path))
"""


def test_what_pytest_xdist_hands_over_is_the_users_alone_and_gone_at_the_end(bench: Bench) -> None:
    bench.path.joinpath("test_handover.py").write_text(HANDOVER)
    run(bench, "--dispatch-dir=w", *QUICK, *HERE, "-n1", "-k", "test_it").assert_outcomes(passed=1)
    assert not Path((bench.path / "handed-over").read_text()).parent.exists()


# Child processes

#: A QEMU that notes what everybody on this computer could see of it.
NOTES = """#!/bin/sh
case "$1" in --version) echo "QEMU emulator version 9.0.0"; esac
{ tr '\\0' '\\n' < /proc/$$/cmdline; tr '\\0' '\\n' < /proc/$$/environ; echo end; } >> "$NOTED/noted"
exit 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_no_child_process_has_a_secret(
    bench: Bench,
    github: FakeGitHub,
    noted: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Not in its arguments, and of tokens and passwords nothing in its environment."""
    programs = tmp_path_factory.mktemp("bin")
    for name in ("qemu-system-x86_64", "setpriv"):
        (programs / name).write_text(NOTES)
        (programs / name).chmod(0o755)
    in_urls = {"HTTPS_PROXY": f"me:{PASSWORD}@127.0.0.1:9", "DATABASE": f"postgresql://me:{PASSWORD}@db.test/x"}
    for variable, value in {"GITHUB_TOKEN": GITHUB, "GH_TOKEN": GH, **in_urls}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    firmware = bench.path / "firmware.fd"
    firmware.write_bytes(b"x" * 65536)
    machine = f"--dispatch-machine=qemu?code={firmware}&vars={firmware}"
    result = loudly(
        bench, *FOLDER, f"--dispatch-api-url={github.url}", machine, "--dispatch-retries=0", "--dispatch-drain=0"
    )
    assert result.ret != 0
    text = (noted / "noted").read_text()
    assert text.count("end\n") >= 2  # it was asked for its version, and started
    assert shown_in(noted) == set()


# Other servers


@contextmanager
def elsewhere() -> Iterator[tuple[FakeGitHub, list[Exchange]]]:
    """Another server on this computer, at another port, and all that it is asked."""
    seen: list[Exchange] = []
    with FakeGitHub(observer=seen.append) as other:
        yield other, seen


@pytest.mark.parametrize("verb", ["get", "post"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_api_s_token_follows_no_redirect_to_another_origin(github: FakeGitHub, verb: str, status: int) -> None:
    """Nor to another port of the same host; to storage and from pages, see test_download_faults and test_release."""
    with elsewhere() as (other, seen), GitHubApi(github.url, Token(OPTION, "a test", github.url)) as api:
        github.fail_next("*", status=status, headers={"Location": f"{other.url}/stolen"}, times=9)
        ask = {"get": partial(api.get, "/x", dict), "post": partial(api.post, "/x", {"title": "t"}, dict)}
        with pytest.raises(DispatchError):
            ask[verb]()
    assert [each.headers.get("Authorization") for each in seen if each.headers.get("Authorization")] == []


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        checked_api_url(f"https://me:{PASSWORD}@git.example/api/v3")
    assert PASSWORD not in str(caught.value)
