"""Sessions that are cut off: what stops, what is kept, and what a resumed one does."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from faults import fault
from forked_workers import REAL
from plugin_bench import APART, WITHOUT, Bench, Scenario, clean
from waiting import PATIENCE

from pytest_dispatch.plugin.interrupts import GAP

pytestmark = pytest.mark.draw(7, of="interruptions")

THREE: dict[str, Scenario] = {"a": "pass", "b": "come-back", "c": "pass"}

#: On its machines `b` hangs, until the session is cut off; on those of the session that is resumed it does not.
HANGS_HERE = """
from pytest_dispatch.machines.sim.scenarios import SCENARIOS
from pytest_dispatch.machines.sim.driver import SimMachine

def create(spec, state):
    played = {**SCENARIOS, "come-back": SCENARIOS["hang"]}
    return [SimMachine(pace=0.001, scenarios=played).driven(f"bench-{number}") for number in (1, 2)]
"""


class Cut:
    """A pytest run in a process group of its own, to be cut off."""

    def __init__(self, bench: Bench, *args: str, machines: str = "--dispatch-machine=sim:1") -> None:
        assert bench.forks is not None
        self._log = bench.path / "out.txt"
        self.scratch = bench.path / "tmp"
        self.scratch.mkdir()
        command = bench.command("-v", *args, machines=machines)
        env = {**os.environ, "TMPDIR": str(self.scratch), REAL: "workers of the group"}
        self.process = bench.forks.start(bench.path, *command, out=self._log, environ=env)

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def until(self, words: str) -> None:
        """Wait until it has printed this."""
        self._wait(lambda: words in self.output)

    def until_there_is(self, path: Path) -> None:
        """Wait until it has made this file."""
        self._wait(path.exists)

    @property
    def address(self) -> tuple[str, int]:
        """Where its lab listens."""
        host, port = self.output.partition("boot URL http://")[2].partition("/")[0].split(":")
        return host, int(port)

    def _wait(self, reached: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < give_up, self.output
            time.sleep(0.02)

    def cut(self, *signals: signal.Signals) -> int:
        """Send signals, one after the other as a person would; returns its exit code."""
        for number, pause in zip(signals, [0.0, *[1.5 * GAP] * len(signals)], strict=False):
            time.sleep(pause)
            os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE)

    def cut_group(self) -> int:
        """Press Ctrl-C, which all of the group hear; returns its exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE)


def left_of(cut: Cut) -> list[str]:
    """Processes of the run's group that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[2]) == cut.process.pid and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def nothing_is_left(cut: Cut) -> bool:
    """Neither a process, nor the port, nor a file in between, nor pytest's word for a broken plugin."""
    assert "INTERNALERROR" not in cut.output
    assert left_of(cut) == []
    assert list(cut.scratch.iterdir()) == []
    with socket.create_server(cut.address):
        return True


REPORTS_AND_STAYS = """
import asyncio
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def play(stage):
    await stage.boot()
    await stage.report()
    await asyncio.Event().wait()

def create(spec, state):
    return [SimMachine(pace=0.001, scenarios={"pass": Scenario(play=play)}).driven("bench-1")]
"""


#: Once pytest has been told that the lab is up, and before it can be answered.
IS_KILLED = """
import asyncio, os, signal, sys, threading
from dataclasses import replace
from pytest_dispatch.machines.sim.driver import SimMachine

def told():
    frame = sys._current_frames()[threading.main_thread().ident]
    return frame.f_code.co_name == "until_told_to_stop"

class Killer:
    async def read(self):
        while not told():
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
        yield

def create(spec, state):
    return [replace(SimMachine().driven("bench-1"), console=Killer())]
"""


def collecting(bench: Bench) -> Cut:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("test_own.py").write_text(
        "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n"
    )
    cut = Cut(bench)
    cut.until_there_is(bench.path / "here")
    return cut


def no_machine_comes(bench: Bench) -> Cut:
    bench.workloads({"a": "pass"})
    cut = Cut(bench, machines="-v")
    cut.until("w::a.efi")
    return cut


def it_runs(bench: Bench) -> Cut:
    bench.workloads({"a": "hang"})
    cut = Cut(bench)
    cut.until("a.efi booting")
    return cut


def its_machine_is_not_back(bench: Bench) -> Cut:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("test_own.py").write_text(
        "import pytest\n"
        "@pytest.mark.dispatch('a.efi')\n"
        "def test_it(dispatch_workload):\n"
        "    dispatch_workload.report()\n"
    )
    cut = Cut(bench, "test_own.py", machines=bench.driver(REPORTS_AND_STAYS))
    cut.until("test_it PASSED")
    return cut


def machines_are_powered_off(bench: Bench) -> Cut:
    bench.workloads({"a": {"scenario": "hang", "expect": "boot"}})
    cut = Cut(bench, "--dispatch-junit=cases.xml", machines="--dispatch-machine=sim:1?pace=0.001")
    cut.until("to power off, at most ")
    return cut


#: How far a session has come, and what pytest is about.
PHASES: Mapping[Callable[[Bench], Cut], str] = {
    collecting: "during collection",
    no_machine_comes: "in the setup of an item, while no machine comes",
    it_runs: "in the call of an item, while its workload runs",
    its_machine_is_not_back: "in the teardown of an item, while its machine is waited for",
    machines_are_powered_off: "at the end, while machines are powered off",
}
CUTS: Mapping[str, tuple[signal.Signals, ...]] = {
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
}
KEPT = "what ran to its end keeps its verdict, `--dispatch-resume` goes on with the rest; nothing is left running"


@pytest.mark.parametrize(
    ("phase", "signals"),
    [
        pytest.param(
            phase,
            signals,
            id=f"{phase.__name__}-{name}",
            marks=fault("pytest", f"{name} {when}", outcome=KEPT, told="exit code 2, as pytest tells Ctrl-C"),
        )
        for phase, when in PHASES.items()
        for name, signals in CUTS.items()
    ],
)
def test_a_session_is_cut_off(phase: Callable[[Bench], Cut], signals: tuple[signal.Signals, ...], bench: Bench) -> None:
    cut = phase(bench)
    code = cut.cut(*signals)
    assert nothing_is_left(cut)
    if code == -signal.SIGINT and len(signals) > 1:
        return  # the second one found pytest or Python in their own last steps, and they end by it
    assert code == pytest.ExitCode.INTERRUPTED, cut.output
    assert "Traceback" not in cut.output
    if phase is machines_are_powered_off:
        assert "interrupted while winding up; what is left is kept in the journal" in cut.output
        assert "1 passed" in cut.output
        assert 'name="a.efi"' in bench.path.joinpath("cases.xml").read_text()


@fault(
    "Crashes",
    "the lab's process is killed (SIGKILL) while the session is opened",
    outcome="nothing is run; exit code 4",
    told="one line: the lab's process was killed (SIGKILL)",
)
def test_the_lab_is_killed_while_the_session_is_opened(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.spawn(APART, machines=bench.driver(IS_KILLED))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = filter(None, result.errlines)
    assert line.startswith("ERROR: the lab at http://127.0.0.1:")
    assert line.endswith(": the lab's process was killed (SIGKILL); --dispatch-resume goes on with the session")


@pytest.mark.usefixtures("alone_on_mdns")
def test_the_lab_is_killed_before_it_is_announced(bench: Bench) -> None:
    """Which the header waits for."""
    bench.workloads({"a": "pass"})
    bench.path.joinpath("conftest.py").write_text(
        "import os, pathlib, pytest, signal\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_report_header():\n"
        "    [lab] = pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()\n"
        "    os.kill(int(lab), signal.SIGKILL)\n"
    )
    args = ["--dispatch-dir=w", "--dispatch-machine=sim", "--dispatch-bind=127.0.0.1:0", *WITHOUT]
    result = clean(bench.pytester.runpytest_subprocess(*args))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: the lab at *: the lab's process was killed (SIGKILL); --dispatch-resume goes*"]
    )


@fault(
    "pytest",
    "Ctrl-C with pytest-xdist's workers",
    outcome=KEPT,
    told="exit code 2, as pytest tells Ctrl-C",
)
def test_ctrl_c_with_workers(bench: Bench) -> None:
    bench.workloads({"a": "hang", "b": "hang"})
    cut = Cut(bench, "-n", "2", machines="--dispatch-machine=sim:2?pace=0.001")
    cut.until("b.efi booting")
    assert cut.cut_group() == pytest.ExitCode.INTERRUPTED
    assert nothing_is_left(cut)


#: As soon as the first was heard, however busy the computer is.
TOLD_AGAIN = """
import os, pytest, signal

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    heard = signal.getsignal(signal.SIGINT)

    def hear(number, frame):
        signal.signal(signal.SIGINT, heard)
        try:
            heard(number, frame)
        finally:
            os.kill(os.getpid(), {second})
            open("went-on", "w").close()

    signal.signal(signal.SIGINT, hear)
    return (yield)
"""


@fault(
    "pytest",
    "the program that started pytest hands Ctrl-C on to it, which it has heard already",
    outcome=KEPT,
    told="what one Ctrl-C tells",
)
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_that_comes_twice_at_once_is_one(bench: Bench, second: signal.Signals) -> None:
    bench.workloads({"a": "hang"})
    bench.path.joinpath("conftest.py").write_text(TOLD_AGAIN.format(second=int(second)))
    cut = Cut(bench, machines="--dispatch-machine=sim:1?pace=0.001")
    cut.until("a.efi booting")
    assert cut.cut(signal.SIGINT) == pytest.ExitCode.INTERRUPTED
    assert nothing_is_left(cut)
    assert (bench.path / "went-on").exists()


def test_a_second_ctrl_c_while_the_first_is_told(bench: Bench) -> None:
    bench.workloads({"a": "hang"})
    bench.path.joinpath("conftest.py").write_text(
        "import os, signal, time\n"
        "def pytest_keyboard_interrupt():\n"
        f"    time.sleep({2 * GAP})\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    cut = Cut(bench, machines="--dispatch-machine=sim:1?pace=0.001")
    cut.until("a.efi booting")
    assert cut.cut(signal.SIGINT) == pytest.ExitCode.INTERRUPTED
    assert nothing_is_left(cut)
    assert "! KeyboardInterrupt !" in cut.output


CHATTY = """
import asyncio, logging
from pathlib import Path
from pytest_dispatch.machines.sim.driver import SimMachine

class Chatty(SimMachine):
    async def on(self):
        count = 0
        while not Path("quiet").exists():
            for _ in range(20):
                logging.getLogger("chatty").warning("word " * 200)
            count += 20 * Path("stopped").exists()
            if count > 3000:  # more than wait to be told, and than fit between the processes
                Path("flooded").touch()
            await asyncio.sleep(0.001)
        await super().on()

def create(spec, state):
    return [Chatty(pace=0.001).driven("bench-1")]
"""


def _answer(address: tuple[str, int]) -> int:
    """The status of the answer to a machine that asks for what there is not."""
    with closing(http.client.HTTPConnection(*address, timeout=30)) as connection:
        connection.request("GET", "/nothing")
        return connection.getresponse().status


@fault(
    "pytest",
    "pytest is stopped (Ctrl-Z), or kept busy by a test, while the lab has much to log",
    outcome="machines are served as ever",
    told="`… more lines were logged, faster than pytest took them`",
)
def test_machines_are_served_while_pytest_is_stopped(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    cut = Cut(bench, "--log-file=log.txt", machines=bench.driver(CHATTY))
    cut.until("w::a.efi")
    os.kill(cut.process.pid, signal.SIGSTOP)
    bench.path.joinpath("stopped").touch()
    give_up = time.monotonic() + PATIENCE
    try:
        assert [_answer(cut.address) for _ in range(100)] == [404] * 100
        while not bench.path.joinpath("flooded").exists():
            assert time.monotonic() < give_up
            time.sleep(0.01)
    finally:
        bench.path.joinpath("quiet").touch()
        os.kill(cut.process.pid, signal.SIGCONT)
    assert cut.process.wait(PATIENCE) == pytest.ExitCode.OK
    assert re.search(
        r"\d+ more lines were logged, faster than pytest took them", bench.path.joinpath("log.txt").read_text()
    )


@fault(
    "pytest",
    "a session that was cut off is resumed, with other machines",
    outcome="what had ended keeps its verdict, the rest is run; nobody waits for machines that ended with the old lab",
    told="`resumed` in the header",
)
@pytest.mark.parametrize("signals", CUTS.values(), ids=CUTS)
def test_a_resumed_session_goes_on_where_one_was_cut_off(bench: Bench, signals: tuple[signal.Signals, ...]) -> None:
    bench.workloads(THREE)
    cut = Cut(bench, machines=bench.driver(HANGS_HERE))
    cut.until("b.efi booting")
    cut.until("w::a.efi PASSED")
    assert cut.cut(*signals) == pytest.ExitCode.INTERRUPTED
    assert left_of(cut) == []
    assert "w::a.efi PASSED" in cut.output
    again = bench.spawn("-v", "--dispatch-resume")
    again.assert_outcomes(passed=2, failed=1)
    again.stdout.fnmatch_lines(["dispatch: w;*resumed*"])
    assert "a.efi assigned" not in again.stdout.str()


def test_a_killed_session_is_resumed_without_running_anything_twice(bench: Bench) -> None:
    bench.workloads(THREE)
    cut = Cut(bench, machines=bench.driver(HANGS_HERE))
    for shown in ("w::a.efi PASSED", "b.efi booting", "c.efi booting"):  # the end of `a` is on disk by then
        cut.until(shown)
    assert cut.cut(signal.SIGKILL) == -signal.SIGKILL
    again = bench.spawn("-v", "--dispatch-resume")
    again.assert_outcomes(passed=2, failed=1)
    assert "a.efi assigned" not in again.stdout.str()
    assert "the lab was restarted" in again.stdout.str()


def test_without_drain_nobody_is_waited_for(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.spawn("--dispatch-drain=0").assert_outcomes(passed=1)


@fault(
    "pytest",
    "`-x` or `--maxfail` ends the session at a failure",
    outcome="what runs is cancelled, which no report calls a failure; `--dispatch-resume` goes on with it",
    told="the failure, with its whole story",
)
def test_x_leaves_the_rest_to_a_resumed_session(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "pass"})
    first = bench.spawn("-x", "-v", machines="--dispatch-machine=sim:1?pace=0.02")
    assert first.parseoutcomes()["failed"] >= 1
    assert "w::c.efi" not in first.stdout.str().partition("FAILURES")[0].partition("b.efi FAILED")[2]
    again = bench.spawn("-v", "--dispatch-resume")
    assert again.parseoutcomes()["passed"] == 2
    assert "a.efi assigned" not in again.stdout.str()
