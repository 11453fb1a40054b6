"""From pytest's start to the first HEAD answered with a workload, against the same with nothing of ours in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench_lab import Measure

from pytest_dispatch.testing.github import FakeGitHub

COUNTS = {
    8: 1.1,
    1000: 2.0,
}  # workloads, and the bound: the reference alone takes most of the 0.5 s that were to be reached, see the row
ROUNDS = 7
PORT = 18077
GIVE_UP = 60.0  # seconds
_TYPE = "application/vnd.dispatch+efi"
_HEAD = b"HEAD /dispatch HTTP/1.1\r\nHost: lab\r\n\r\n"
_PYTEST = ("-m", "pytest", "-qq", "--disable-plugin-autoload")  # what we develop with is not our users'


@dataclass(frozen=True)
class Step:
    """A moment of the start, as `tracing/sitecustomize.py` notes it.

    Attributes:
        what: What has happened by then.
        lab: Whether in the lab's process; else in pytest's.
        event: The note.
        nth: Which of these notes in its process, up to the answer.
    """

    what: str
    lab: bool
    event: str
    nth: int = 0


STEPS = (
    Step("Python runs", False, "interpreter"),
    Step("pytest is imported", False, "import pytest_dispatch.plugin.command_line"),
    Step("the lab is spawned", False, "subprocess.Popen"),
    Step("Python runs in the lab", True, "interpreter"),
    Step("the plugin's side is imported, and listing begins", False, "import pytest_dispatch.plugin.lab_process"),
    Step("its client is imported", False, "import pytest_dispatch.client.plain_channel"),
    Step("the lab's modules are imported, and the journal is opened", True, "sqlite3.connect"),
    Step("the lab listens", True, "socket.bind"),
    Step("pytest opens its session", False, "socket.connect", -2),
    Step("it is open, pytest collects and submits", False, "socket.connect", -1),
)


def first_head() -> float:
    """Ask until a workload is offered; returns when it was, on the monotonic clock."""
    give_up = time.monotonic() + GIVE_UP
    while time.monotonic() < give_up:
        try:
            asking = socket.create_connection(("127.0.0.1", PORT), timeout=GIVE_UP)
        except ConnectionRefusedError:
            time.sleep(0.001)
            continue
        with asking, asking.makefile("rb") as answer:
            asking.sendall(_HEAD)
            if any(line.lower().startswith(b"dispatch-workload:") for line in iter(answer.readline, b"\r\n")):
                return time.monotonic()
    raise TimeoutError(f"no workload was offered within {GIVE_UP:g} s")


def _environ(notes: Path | None) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if notes is None:
        return environ
    modules = {step.event.removeprefix("import ") for step in STEPS if step.event.startswith("import ")}
    traced = {"STARTING_NOTES": str(notes), "STARTING_MODULES": ",".join(modules)}
    return {**environ, **traced, "PYTHONPATH": str(Path(__file__).with_name("tracing"))}


def started(folder: Path, source: Sequence[str], notes: Path | None = None) -> float:
    """Seconds from pytest's start to the first workload offered; with `notes`, its steps are written there."""
    command = [sys.executable, *_PYTEST, "-p", "pytest_dispatch.plugin", "-p", "no:cacheprovider", *source]
    command += ["--dispatch-no-mdns", f"--dispatch-bind=127.0.0.1:{PORT}", f"--dispatch-db={folder}/journal.db"]
    command += [f"--dispatch-cache={folder}/cache", "--dispatch-issues=none"]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder / "own", env=_environ(notes), stdout=subprocess.DEVNULL) as pytest:
        try:
            return first_head() - began
        finally:
            _interrupted(pytest)


def _interrupted(pytest: subprocess.Popen[bytes]) -> None:
    """End pytest; again if need be, as Python loses a KeyboardInterrupt that comes while a weak reference dies."""
    while pytest.poll() is None:
        pytest.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            pytest.wait(5)


def bare(folder: Path) -> float:
    """Seconds from pytest's start to an answer of a bare server, which it spawns when it would spawn a lab."""
    command = [sys.executable, *_PYTEST, "-p", "no:cacheprovider", "-p", "bare_start", "test_it.py"]
    environ = {**_environ(None), "PYTHONPATH": str(Path(__file__).parent), "BARE_PORT": str(PORT)}
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder / "own", env=environ, stdout=subprocess.DEVNULL) as pytest:
        try:
            return first_head() - began
        finally:
            _interrupted(pytest)


def steps(folder: Path, source: Sequence[str]) -> list[tuple[str, float]]:
    """Each step of a start, and when it was reached, in milliseconds since pytest's start."""
    notes = folder / "notes"
    notes.unlink(missing_ok=True)
    began = time.monotonic()
    answered = started(folder, source, notes)
    seen = [line.split(" ", 2) for line in notes.read_text().splitlines()]
    pytest = seen[0][1]
    found = []
    for step in STEPS:
        mine = [float(when) for when, pid, what in seen if (pid != pytest) == step.lab and what.strip() == step.event]
        at = [when - began for when in mine if when - began <= answered]
        if at:
            found.append((f"{'lab' if step.lab else 'pytest'}: {step.what}", 1000 * at[step.nth]))
    return [*found, ("machine: its HEAD is answered", 1000 * answered)]


def _prepared(folder: Path, github: FakeGitHub, count: int) -> dict[str, list[str]]:
    """Make a folder and a release with so many workloads; returns the options for each."""
    workloads = folder / "workloads"
    workloads.mkdir()
    for number in range(count):
        (workloads / f"w{number:04}.efi").write_bytes(b"MZ" * 2048)
    github.add_release("me/lab", f"v{count}", {file.name: (_TYPE, file.read_bytes()) for file in workloads.iterdir()})
    (folder / "own").mkdir()
    (folder / "own" / "pytest.ini").write_text("[pytest]\n")
    (folder / "own" / "test_it.py").write_text("def test_it(): pass\n")
    release = ["--dispatch-repo=me/lab", f"--dispatch-tag=v{count}", f"--dispatch-api-url={github.url}"]
    return {"a folder": ["--dispatch-dir=../workloads"], "a release": release}


def _row(what: str, ours: list[float], theirs: list[float], bound: float, note: str) -> Measure:
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Measure(
        f"pytest's start to the first HEAD answered, {what}",
        "the same with nothing of ours: pytest, aiohttp, SQLAlchemy, SQLite",
        f"{mine:.2f} s",
        f"{other:.2f} s",
        ratio,
        f"≤ {bound:g} s",
        mine <= bound,
        note,
    )


def measure() -> list[Measure]:
    """Rounds in turn, medians compared; cache and journal are there already, as for all sessions but the first."""
    rows = []
    for count, bound in COUNTS.items():
        with ExitStack() as parts:
            folder = Path(tempfile.mkdtemp(prefix="dispatch-bench-"))
            parts.callback(shutil.rmtree, folder)
            sources = _prepared(folder, parts.enter_context(FakeGitHub()), count)
            for source in sources.values():
                started(folder, source)
            took: dict[str, list[float]] = {name: [] for name in [*sources, "bare"]}
            for _ in range(ROUNDS):
                took["bare"].append(bare(folder))
                for name, source in sources.items():
                    took[name].append(started(folder, source))
            for name, source in sources.items():
                told = "; ".join(f"{what} at {at:.0f} ms" for what, at in steps(folder, source))
                rows.append(_row(f"{count:,} workloads of {name}", took[name], took["bare"], bound, told))
    return rows


if __name__ == "__main__":
    for result in measure():
        result.show()
