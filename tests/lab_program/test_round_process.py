"""The pytest of a round: what it is told and what not, and how its end is seen."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE, until

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.cycle_state import Round
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.round_runner import RoundEnd
from pytest_dispatch.lab_program.round_process import RoundLauncher, RunningRound
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.round_tokens import RoundTokens

pytestmark = pytest.mark.anyio

ROUND = Round(cycle="rack", number=7, began=0.0, tries=1)

#: Stands for pytest: writes what it was told, and then does what a file beside it says.
PROGRAM = """
import json, os, sys
told = {"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd()}
open("told.json", "w").write(json.dumps(told))
exec(open("does.py").read())
"""


@pytest.fixture
def tokens() -> RoundTokens:
    return RoundTokens()


@pytest.fixture
def launcher(tmp_path: Path, tokens: RoundTokens) -> RoundLauncher:
    secrets = {"GITHUB_TOKEN": "the lab's", "DISPATCH_TOKEN": "the lab's", "HOME": "/the/labs"}
    return RoundLauncher(tmp_path / "rounds", lambda: "http://lab:1", tokens, {"PATH": os.environ["PATH"], **secrets})


def plan(folder: Path, does: str = "", **more: object) -> CyclePlan:
    (folder / "pytest.py").write_text(PROGRAM)
    (folder / "does.py").write_text(does)
    made = CyclePlan(name="rack", folder=str(folder), schedule=Schedule(every=60.0), limit=3600.0)
    return replace(made, **more)  # type: ignore[arg-type]


async def over(running: RunningRound) -> RoundEnd:
    async with asyncio.timeout(PATIENCE):
        return await running.ended()


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


async def test_it_is_told_where_the_lab_is_and_nothing_that_is_secret(tmp_path: Path, launcher: RoundLauncher) -> None:
    made = plan(tmp_path, arguments=("-k", "a"), group="racks", environment={"MAAS_URL": "http://maas"})
    await over(await launcher.begin(made, ROUND))
    found = told(tmp_path)
    junit = next(each for each in found["argv"] if each.startswith("--junitxml="))
    assert not Path(junit.partition("=")[2]).parent.exists(), "what it wrote is removed when it is kept"
    assert found["argv"] == [
        "-k",
        "a",
        "--dispatch-lab=http://lab:1",
        "--dispatch-owner=cycle rack, round 7",
        "--dispatch-lease=3600s",
        junit,
        "--dispatch-group=racks",
        "--dispatch-resume",
    ]
    environ = found["environ"]
    assert environ["MAAS_URL"] == "http://maas"
    assert environ["HOME"] == "/the/labs"
    assert "GITHUB_TOKEN" not in environ
    assert environ["DISPATCH_TOKEN"] != "the lab's"
    assert found["cwd"] == str(tmp_path)


async def test_its_token_is_for_its_group_alone_and_ends_with_it(
    tmp_path: Path, launcher: RoundLauncher, tokens: RoundTokens
) -> None:
    running = await launcher.begin(plan(tmp_path, "import time; time.sleep(600)", group="racks"), ROUND)
    file = tmp_path / "told.json"
    await until(lambda: file.exists() and file.read_text().endswith("}"))
    environ = told(tmp_path)["environ"]
    found = tokens.find(environ["DISPATCH_TOKEN"])
    assert found is not None
    assert (found.name, found.role, found.groups) == ("cycle rack", Role.OPERATOR, frozenset(("racks",)))
    running.kill()
    assert (await over(running)).code == -9
    assert tokens.find(environ["DISPATCH_TOKEN"]) is None


@pytest.mark.parametrize(
    ("does", "code"),
    [
        ("", 0),
        ("sys.exit(1)", 1),
        ("os.kill(os.getpid(), 9)", -9),
    ],
    ids=["all of it", "with failures", "killed"],
)
async def test_how_it_ended_is_seen(tmp_path: Path, launcher: RoundLauncher, does: str, code: int) -> None:
    assert (await over(await launcher.begin(plan(tmp_path, does), ROUND))).code == code


async def test_it_ends_with_the_process_that_watches_it(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "print(os.getpid(), flush=True); os.kill(os.getppid(), 9); import time; time.sleep(600)"
    end = await over(await launcher.begin(plan(tmp_path, does), ROUND))
    assert end.code == -9
    await until(lambda: not _runs(int(end.output)))


async def test_its_output_and_its_junit_file_are_kept(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "print('\\x1b[31mred\\x1b[0m'); open(sys.argv[4].partition('=')[2], 'w').write('<testsuites/>')"
    running = await launcher.begin(plan(tmp_path, does), ROUND)
    end = await over(running)
    assert (end.output, end.junit) == ("red\n", "<testsuites/>")
    assert await launcher.output(ROUND) == "red\n"
    launcher.forget(ROUND)
    assert await launcher.output(ROUND) == ""


async def test_a_junit_file_of_an_earlier_try_does_not_count(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "open(sys.argv[4].partition('=')[2], 'w').write('<testsuites/>')"
    await over(await launcher.begin(plan(tmp_path, does), ROUND))
    assert (await over(await launcher.begin(plan(tmp_path, ""), ROUND))).junit == ""


async def test_ctrl_c_reaches_it(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "import time\ntry:\n print('up', flush=True); time.sleep(600)\nexcept KeyboardInterrupt:\n sys.exit(2)"
    running = await launcher.begin(plan(tmp_path, does), ROUND)
    output = tmp_path / "rounds" / "rack" / "7" / "output.txt"
    await until(lambda: output.exists() and output.read_text() == "up\n")
    running.interrupt()
    assert (await over(running)).code == 2


async def test_what_it_has_started_ends_with_it(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    end = await over(await launcher.begin(plan(tmp_path, does), ROUND))
    await until(lambda: not _runs(int(end.output)))


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def test_what_has_left_its_process_group_ends_with_it_too(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    end = await over(await launcher.begin(plan(tmp_path, does), ROUND))
    await until(lambda: not _runs(int(end.output)))


async def test_one_whose_watcher_does_nothing_more_is_killed_all_the_same(
    tmp_path: Path, launcher: RoundLauncher
) -> None:
    does = "print(os.getpid(), flush=True); os.kill(os.getppid(), 19); import time; time.sleep(600)"
    running = await launcher.begin(plan(tmp_path, does), ROUND)
    output = tmp_path / "rounds" / "rack" / "7" / "output.txt"
    await until(lambda: output.exists() and output.read_text().endswith("\n"))
    running.kill()
    end = await over(running)
    assert end.code == -9
    await until(lambda: not _runs(int(end.output)))


JUNIT = "junit = sys.argv[4].partition('=')[2]\n"


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("os.symlink('/etc/passwd', junit)", "Too many levels of symbolic links"),
        ("os.link('does.py', junit)", "it is not a file of its own"),
        ("os.mkfifo(junit)", "it is not a file of its own"),
        ("os.mkdir(junit)", "it is not a file of its own"),
    ],
    ids=["a link", "another name", "a pipe", "a folder"],
)
async def test_only_a_file_of_its_own_is_read_as_junit(
    tmp_path: Path, launcher: RoundLauncher, does: str, why: str
) -> None:
    end = await over(await launcher.begin(plan(tmp_path, JUNIT + does), ROUND))
    assert (end.code, end.why, end.junit) == (None, f"its JUnit file cannot be read: {why}", "")


async def test_a_selection_cannot_have_other_files_shown_as_its_output(tmp_path: Path, launcher: RoundLauncher) -> None:
    output = tmp_path / "rounds" / "rack" / "7" / "output.txt"
    for does in (f"os.symlink('/etc/passwd', '{output}')", f"os.mkdir('{output}')"):
        end = await over(await launcher.begin(plan(tmp_path, f"os.remove('{output}')\n{does}"), ROUND))
        assert (end.code, end.output) == (0, "")
        launcher.forget(ROUND)


async def test_ctrl_c_reaches_it_also_if_the_lab_ignores_it(tmp_path: Path, launcher: RoundLauncher) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = await launcher.begin(plan(tmp_path, "import time; print('up', flush=True); time.sleep(600)"), ROUND)
    finally:
        signal.signal(signal.SIGINT, before)
    output = tmp_path / "rounds" / "rack" / "7" / "output.txt"
    await until(lambda: output.exists() and "up" in output.read_text())
    running.interrupt()
    assert (await over(running)).code == -signal.SIGINT


async def test_it_can_run_as_a_user_by_name(tmp_path: Path, launcher: RoundLauncher) -> None:
    end = await over(await launcher.begin(plan(tmp_path, "print(os.getuid())", user=getpass.getuser()), ROUND))
    assert end.output == f"{os.getuid()}\n"


async def test_endless_output_ends_it(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "while True: print('x' * 2**20)"
    end = await over(await launcher.begin(plan(tmp_path, does), ROUND))
    assert (end.code, end.why) == (None, "pytest wrote more than 64 MiB of output")
    assert len(end.output) < 2 * 2**20


async def test_a_junit_file_without_end_is_not_read(tmp_path: Path, launcher: RoundLauncher) -> None:
    does = "open(sys.argv[4].partition('=')[2], 'w').truncate(2**25 + 1)"
    end = await over(await launcher.begin(plan(tmp_path, does), ROUND))
    assert (end.code, end.why, end.junit) == (None, "its JUnit file has more than 32 MiB", "")


async def test_what_cannot_be_started_says_why(tmp_path: Path, launcher: RoundLauncher) -> None:
    end = await over(await launcher.begin(plan(tmp_path, python="/nowhere/python"), ROUND))
    assert (end.code, end.why) == (None, "pytest cannot be started: No such file or directory: /nowhere/python")
    gone = replace(plan(tmp_path), folder=str(tmp_path / "gone"))
    end = await over(await launcher.begin(gone, ROUND))
    assert end.why == f"pytest cannot be started: No such file or directory: {tmp_path}/gone"


async def test_an_unknown_user_is_refused_and_no_token_stays(
    tmp_path: Path, launcher: RoundLauncher, tokens: RoundTokens
) -> None:
    with pytest.raises(ConfigError, match=r"^user: expected a user of this computer, got 'nobody-here'$"):
        await launcher.begin(plan(tmp_path, user="nobody-here"), ROUND)
    assert not tokens.all()
