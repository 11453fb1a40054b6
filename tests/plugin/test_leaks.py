"""Nothing is left of a session: no thread, process, socket, open file or temporary file; one lab, one server."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from faults import fault
from plugin_bench import BESIDE, HERE, IN_THREAD, NEIGHBOURS, SIMS, Bench

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts by /proc, as Linux has it")

#: Looks around when pytest begins, and when all of it has ended; what came in between is left over.
PROBE = """
import json, os, socket, sys, threading
from pathlib import Path

def note(event, args):
    if event == "socket.bind" and args[0].type == socket.SOCK_STREAM:
        by = threading.current_thread().name
    elif event == "subprocess.Popen" and any("pytest_dispatch.lab_program.child_process" in arg for arg in args[1]):
        by = "the lab's process"
    else:
        return
    with open("labs.txt", "a") as file:
        file.write(by + "\\n")

sys.addaudithook(note)

def around():
    found = {f"thread {thread.name} {thread.ident}" for thread in threading.enumerate()}
    for link in Path("/proc/self/fd").iterdir():
        try:
            to = os.readlink(link)
        except OSError:
            continue
        if to.startswith(("socket:", "anon_inode:")) or Path(to).is_relative_to(Path.cwd()):
            found.add(f"file {to}")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(f"process {stat.parent.name} {state}")
    return found

before = around()

def pytest_unconfigure():
    who = os.environ.get("PYTEST_XDIST_WORKER", "main")
    Path(f"left-{who}.json").write_text(json.dumps(sorted(around() - before)))
"""


def plain(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": "pass", "b": "fail", "c": "no-boot"})
    return (SIMS,)


def in_a_thread(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    return (*plain(bench, github), IN_THREAD)


def stopped(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": "fail", "b": "hang", "c": "slow"})
    return (SIMS, "-x")


def without_machines(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": {"scenario": "pass", "assign-timeout": "0.2s"}})
    return ()


def with_issues(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    github.add_release("me/lab", "v1", {"a.efi": ("application/vnd.dispatch+efi", b"MZ" * 999)})
    api = (f"--dispatch-api-url={github.url}", f"--dispatch-token={github.token}", "--dispatch-cache=cache")
    return (SIMS, "--dispatch-repo=me/lab", *api)


def with_workers(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": "pass", "b": "fail", "c": "no-boot"})
    return (SIMS, "-n2")


def with_neighbours(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    """All that are installed with the tests, at work, and no pytest-xdist."""
    bench.workloads({"a": "pass", "b": "fail", "c": "no-boot"})
    bench.path.joinpath("covered.py").write_text("def half():\n    pass\n")
    bench.path.joinpath("test_own.py").write_text(BESIDE)
    others = ("xdist", "xdist.looponfail", "hypothesispytest", "schemathesis")
    away = [arg for name in others for arg in ("-p", f"no:{name}")]
    plugins = ("--reruns=1", "--timeout=300", "--cov=covered", "-p", "randomly")
    return (SIMS, *HERE, *away, *plugins, "-o", "asyncio_default_fixture_loop_scope=function")


def fixtures_fail(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": "hang", "b": "pass"})
    with bench.path.joinpath("conftest.py").open("a") as file:
        file.write(FRAIL_FIXTURE)
    return (SIMS,)


FRAIL_FIXTURE = """
import pytest

@pytest.fixture(autouse=True)
def around_it(request):
    assert request.node.name != "a.efi", "not today"
    yield
    assert not request.node.name, "never tidy"
"""


def the_lab_breaks(bench: Bench, github: FakeGitHub) -> tuple[str, ...]:
    bench.workloads({"a": "pass", "b": "hang"})
    with bench.path.joinpath("conftest.py").open("a") as file:
        file.write(BREAKS_THE_LAB)
    return (SIMS,)


BREAKS_THE_LAB = """
import sqlite3
from contextlib import closing

def pytest_dispatch_event(run, event):
    if event == "boot":
        with closing(sqlite3.connect("j.db")) as db, db:
            db.execute("DROP TABLE IF EXISTS dispatch_moments")
"""


#: What a session goes through, and what it ends with.
SESSIONS: Mapping[Callable[[Bench, FakeGitHub], tuple[str, ...]], int] = {
    plain: 1,
    in_a_thread: 1,
    stopped: 1,
    without_machines: 1,
    with_issues: 0,
    with_workers: 1,
    with_neighbours: 1,
    fixtures_fail: 1,
    the_lab_breaks: 1,
}


def left(bench: Bench) -> dict[str, Any]:
    """What each process of the session left."""
    return {path.stem: json.loads(path.read_text()) for path in bench.path.glob("left-*.json")}


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.__name__)
@pytest.mark.draw(2)
def test_nothing_is_left(
    session: Callable[[Bench, FakeGitHub], tuple[str, ...]],
    bench: Bench,
    github: FakeGitHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = bench.path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    bench.path.joinpath("conftest.py").write_text(PROBE)
    args = session(bench, github)
    source = () if any(arg.startswith("--dispatch-repo") for arg in args) else ("--dispatch-dir=w",)
    result = bench.start(*source, *args, "--dispatch-db=j.db")
    assert result.ret == SESSIONS[session]
    assert set(left(bench)) == {"left-main"} | ({"left-gw0", "left-gw1"} if session is with_workers else set())
    assert not any(left(bench).values()), left(bench)
    assert list(scratch.iterdir()) == []
    labs = [who for who in bench.path.joinpath("labs.txt").read_text().splitlines() if who != "MainThread"]
    where = "dispatch-lab" if session is in_a_thread else "the lab's process"
    assert labs == [where]  # others try whether there is IPv6
    if session is with_neighbours:
        [plugins] = re.findall(r"(?m)^plugins: (.*)$", result.stdout.str())
        active = {name.rpartition("-")[0] for name in plugins.split(", ")}
        packages = {point.name: point.dist.name for point in entry_points(group="pytest11") if point.dist}
        assert {packages[name].removeprefix("pytest-") for name in NEIGHBOURS} <= active
        assert "xdist" not in active
    if session is not the_lab_breaks:
        with closing(sqlite3.connect(bench.path / "j.db")) as journal:
            assert journal.execute("SELECT count(*) FROM dispatch_sessions").fetchone() == (1,)


@fault(
    "pytest",
    "the session cannot begin: its port is taken",
    outcome="nothing is run, nothing is left",
    told="one line, exit code 4",
)
def test_nothing_is_left_of_what_could_not_begin(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = bench.path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    bench.workloads({"a": "pass"})
    bench.path.joinpath("conftest.py").write_text(PROBE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = bench.start("--dispatch-dir=w", SIMS, f"--dispatch-bind=127.0.0.1:{taken.getsockname()[1]}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert left(bench) == {"left-main": []}
    assert list(scratch.iterdir()) == []
