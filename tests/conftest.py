"""What every test here may use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compiled import dropped
from databases import needs_postgresql
from filelock import FileLock
from forks import Forks
from parallel import Longest, OneEmulator, longest_first
from torture import header, seed, some_cases

pytest_plugins = ["fixtures_databases", "fixtures_github", "fixtures_lab"]


@pytest.fixture(scope="session", autouse=True)
def _nothing_compiled_is_dropped() -> Iterator[None]:
    """No run inside this process is the first to import what is compiled: see `compiled`."""
    yield
    assert dropped() == [], "add these to FIRST in tests/support/compiled.py"


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the lab does."""
    return "asyncio"


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One for all tests: what they import is imported once."""
    with Forks(os.environ) as forks:
        yield forks


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees this computer's GitHub token, or writes into its user's cache; all see what a person would."""
    mine = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")
    in_ci = ("CI", "BUILD_NUMBER")  # where pytest cuts no line of its summary
    github = ("GITHUB_TOKEN", "GH_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GITHUB_API_URL")
    way = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "https_proxy", "HTTPS_PROXY")
    for name in (*github, *way, "PYTEST_ADDOPTS", *mine, *in_ci):
        monkeypatch.delenv(name, raising=False)
    folders = tmp_path_factory.getbasetemp()  # none is made here: to number them takes longer the more there are
    monkeypatch.setenv("GH_CONFIG_DIR", str(folders / "gh"))
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(folders / f"user-{name.lower()}"))


#: Of each user: in a folder for all, one may not open what another has made.
_MDNS = Path(tempfile.gettempdir()) / f"pytest-dispatch-mdns-{os.getuid()}.lock"


@pytest.fixture
def alone_on_mdns() -> Iterator[None]:
    """Whoever announces is heard by everybody on this computer: one test at a time, whichever process runs it."""
    with FileLock(_MDNS):
        yield


@pytest.fixture
def namespaces() -> list[str]:
    """The start of a command that runs in a network of its own, and may make others."""
    ways: tuple[list[str], ...] = ([], ["sudo", "-n"], ["unshare", "--user", "--map-root-user"])
    for way in ways[:1] if os.geteuid() == 0 else ways[1:]:
        command = [*way, "unshare", "--net"]
        if subprocess.run([*command, "ip", "link"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("nobody may make network namespaces here: needs root, or sudo, and the package iproute2")


#: Set where nothing may be left out: a test that was skipped for want of a package then fails the run.
NO_SKIPS = "DISPATCH_NO_SKIPS"


class _NoSkips:
    """Counts skipped tests, and fails the run if there were any."""

    def __init__(self) -> None:
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and not isinstance(report, pytest.SubtestReport):
            self._skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in self._skipped:
            terminalreporter.line(f"left out, though nothing may be ({NO_SKIPS}): {nodeid}", red=True)


def pytest_report_header() -> str:
    """What was drawn by lot can be drawn again."""
    return header()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneEmulator:
    """Keep together what shares fixtures or a processor."""
    return OneEmulator(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what needs PostgreSQL, before tests are selected by marks; begin with what takes longest."""
    for item in filter(needs_postgresql, items):
        item.add_marker("postgresql")
    yield
    if config.option.collectonly:  # docs/faults.py lists all, as they stand
        return
    taken, left = some_cases(items)
    if left:
        config.hook.pytest_deselected(items=left)
    items[:] = longest_first(taken)


def pytest_collection_finish() -> None:
    """What was collected stays: to look for garbage in it, as each run within a test does, takes long."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out where the environment says so; and Ctrl-C reaches those whom tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background, which children would inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Longest())
    seed()  # before pytest-xdist starts workers, which have the same one then
    if os.environ.get(NO_SKIPS):
        config.pluginmanager.register(_NoSkips())
