"""A bench: a folder of workloads, simulated machines, and pytest runs that use them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest
from drivers import offer_driver
from forks import ALONE, Forks

#: What in-process runs of pytest would else import anew each time, and forget.
OURS = (
    "client.lab_client",
    "lab_program.in_process",
    "machines.qemu.driver",
    "github.issue_filer",
    "plugin.session",
    "sources.folder",
    "sources.release",
    "testing.github",
)
for module in (
    *(f"pytest_dispatch.{name}" for name in OURS),
    "anyio._backends._asyncio",
    "httpcore",  # httpx imports it late, and keeps its exceptions
    "httpx",
    "sqlalchemy.dialects.postgresql",
):
    import_module(module)

SIMS = "--dispatch-machine=sim:2?pace=0.001"
ONE = "--dispatch-machine=sim:1?pace=0.001"
#: A conftest.py that ends the session after its first item.
ENOUGH = "import pytest\ndef pytest_runtest_logfinish(): pytest.exit('enough')\n"
HERE = ("--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns")
#: What does not depend on where the lab runs is tested with one that need not be started as a program each time.
IN_THREAD = "--dispatch-lab=thread"
APART = "--dispatch-lab=process"

#: Plugins that are installed with the tests, and here only when a test asks for them.
NEIGHBOURS = (
    *("allure_pytest", "asyncio", "dependency", "flakefinder", "html", "html_fixtures", "metadata", "pytest_cov"),
    *("pytest_jsonreport", "pytest_order", "randomly", "repeat", "rerunfailures", "timeout"),
)
WITHOUT = (*ALONE, "-p", "xdist")

#: Tests of Python beside workloads, with something for each of the neighbours to do.
BESIDE = """
import asyncio, random, covered, pytest

@pytest.mark.asyncio
@pytest.mark.dispatch("a.efi")
async def test_async(dispatch_workload):
    await asyncio.sleep(0)
    assert dispatch_workload.report().result == "passed"

tries = []

def test_flaky():
    tries.append(random.random())
    assert len(tries) == 2
"""

SPEAKER = """
import json
from pathlib import Path
from pytest_dispatch.machines.sim.scenarios import Scenario
from pytest_dispatch.machines.sim.driver import SimMachine

async def say(stage):
    await stage.boot()
    for report in json.loads(Path("reports.json").read_text()):
        await stage.report(**report)

def create(spec, state):
    return [SimMachine(pace=0.001, scenarios={"pass": Scenario(play=say)}).driven()]
"""

GATED = """
import asyncio
from pathlib import Path
from pytest_dispatch.machines.sim.driver import SimMachine

class Gated(SimMachine):
    async def on(self):
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        await super().on()

def create(spec, state):
    pace = float(dict(spec.options)["pace"])
    return [Gated(pace=pace).driven(f"sim-{n}") for n in range(1, spec.count + 1)]
"""

Scenario = str | Mapping[str, str]


class Bench:
    """Makes folders of workloads, and runs pytest on them.

    Args:
        pytester: Its folder is ours.
        forks: Makes the processes of those runs that need not begin with an empty one.
    """

    def __init__(self, pytester: pytest.Pytester, forks: Forks) -> None:
        self.pytester = pytester
        self.forks = forks
        self.path = pytester.path
        # many runs import the same modules: let them be compiled once
        pytester._monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def workloads(self, scenarios: Mapping[str, Scenario], folder: str = "w") -> Path:
        """A folder with `NAME.efi` for each name; a mapping may say more of it than its scenario."""
        path = self.path / folder
        path.mkdir(exist_ok=True)
        tables = []
        for name, said in scenarios.items():
            file = name if "." in name else f"{name}.efi"
            keys = {"scenario": said} if isinstance(said, str) else dict(said)
            plays(path / file, keys.pop("scenario", "pass"))
            keys = {"name": file, **keys}
            tables.append("[[workload]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()))
        (path / "dispatch.toml").write_text("\n".join(tables))
        return path

    def driver(self, source: str) -> str:
        """A package of a third party with a driver for machines of our own; returns the option that asks for one."""
        offer_driver(self.path, "bench", "bench_driver")
        self.path.joinpath("bench_driver.py").write_text(source)
        self.pytester.syspathinsert()
        return "--dispatch-machine=bench"

    def gated(self, machines: str) -> str:
        """Simulated machines, such as `2?pace=0.1`, that are powered on once there is a file `go`."""
        return f"{self.driver(GATED)}:{machines}"

    def saying(self, *reports: Mapping[str, object]) -> str:
        """A machine whose workloads all report these; returns the option that asks for it."""
        self.path.joinpath("reports.json").write_text(json.dumps(reports))
        return self.driver(SPEAKER)

    def command(self, *args: str, folder: str = "w", machines: str = SIMS) -> tuple[str, ...]:
        """Arguments of a run with machines."""
        return (f"--dispatch-dir={folder}", machines, *HERE, *WITHOUT, *args)

    def run(self, *args: str, folder: str = "w", machines: str = SIMS) -> pytest.RunResult:
        """Run pytest in this process, where standard output is no file; nothing may be left of it."""
        command = self.command(IN_THREAD, *args, folder=folder, machines=machines)
        before = {*threading.enumerate()}  # another test's may be about to end
        result = self.pytester.runpytest_inprocess(*command)
        assert not [each for each in {*threading.enumerate()} - before if each.name.startswith("dispatch")]
        return clean(result)

    def spawn(self, *args: str, folder: str = "w", machines: str = SIMS) -> pytest.RunResult:
        """Run pytest in a process of its own; its lab is in there too, unless an argument says otherwise."""
        command = self.command(IN_THREAD, *args, folder=folder, machines=machines)
        return clean(self.fork(*command))

    def fork(self, *args: str, environ: Mapping[str, str] | None = None) -> pytest.RunResult:
        """What `pytester.runpytest_subprocess` does, sooner."""
        number, begun = len(list(self.path.glob("stdout*"))), time.monotonic()
        out, err = (self.path / f"{name}{number or ''}" for name in ("stdout", "stderr"))
        command = (f"--basetemp={self.path}/runpytest-{number}", *args)
        code = self.forks.start(self.path, *command, out=out, err=err, environ=environ).wait(120)
        lines, errors = (file.read_text("utf-8").splitlines() for file in (out, err))
        print(*lines, *errors, sep="\n")
        return pytest.RunResult(code, lines, errors, time.monotonic() - begun)

    def start(self, *args: str) -> pytest.RunResult:
        """Run pytest in a process of its own, without a source or machines that are not named."""
        options = () if set(HERE) <= set(args) else (*HERE, *WITHOUT)
        return clean(self.pytester.runpytest_subprocess(*options, *args, timeout=120))

    def refused(self, *args: str) -> str:
        """Run pytest with something that it cannot use; returns its one line about it."""
        result = self.pytester.runpytest_inprocess(*args, IN_THREAD, *WITHOUT)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "test session starts" not in result.stdout.str()
        [line] = [line for line in result.errlines if line]
        return line.removeprefix("ERROR: ")


def plays(path: Path, scenario: str) -> None:
    """Make a workload for which a simulated machine plays this."""
    path.write_bytes(b"MZ" + path.name.encode() * 50 + f"\nsim: {scenario}\n".encode())


def clean(result: pytest.RunResult) -> pytest.RunResult:
    """The result, if nothing in it is for the plugin's authors alone."""
    shown = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in shown
    assert "Traceback" not in shown
    return result
