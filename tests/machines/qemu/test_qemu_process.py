"""A process in QEMU's place: what is told when it does not start, and how it dies with its parent."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.qemu.process import Listener, leashed, running

linux = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
NOBODY = Listener(heard=lambda data: None, seen=lambda frame: None, shown=lambda sign: None)


def program(folder: Path, text: str) -> str:
    path = folder / "qemu"
    path.write_text(f"{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo one >&2; echo 'no such memory' >&2; echo >&2; exit 1", "with status 1; it said 'no such memory'"),
        ("exit 0", "QEMU ended by itself with status 0; it said nothing"),
        ("kill -9 $$", "QEMU was killed from outside (SIGKILL); it said nothing"),
        ("echo 'qemu: terminating on signal 15' >&2; kill $$", "(SIGTERM); it said 'qemu: terminating on signal 15'"),
        ("echo 'x.c:7: Assertion failed' >&2; kill -ABRT $$", "crashed (SIGABRT); it said 'x.c:7: Assertion failed'"),
        ("printf 'qemu: fatal: bad PC\\nEAX=0\\nEBX=0\\n' >&2; kill -ABRT $$", "it said 'qemu: fatal: bad PC'"),
        ("kill -64 $$", "QEMU was killed from outside (SIGRTMAX)"),
        ("kill -40 $$", "QEMU was killed from outside (signal 40)"),
        ("printf 'a\\033[2J\\377b\\n'; exit 1", "it said 'a\ufffdb'"),
    ],
)
async def test_a_qemu_that_does_not_start_is_told_in_its_last_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(MachineError) as caught:
        async with running([program(tmp_path, f"#!/bin/sh\n{text}")], NOBODY, tmp_path / "log"):
            pytest.fail("it did start")
    assert words in str(caught.value)


@pytest.mark.anyio
async def test_a_qemu_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    command = [program(tmp_path, "#!/no/such/interpreter")]
    with pytest.raises(MachineError, match=r"QEMU (did not start|ended by itself).*[Nn]o such file"):
        async with running(command, NOBODY, tmp_path / "log"):
            pytest.fail("it did start")


BABBLE = f"""#!{sys.executable}
import os, sys, time
os.write(int(sys.argv[2].rpartition("=")[2]), b"hello\\n")
time.sleep(600)
"""


@pytest.mark.anyio
async def test_a_qemu_that_speaks_no_qmp_is_told_and_killed(tmp_path: Path) -> None:
    command = [program(tmp_path, BABBLE)]
    with pytest.raises(MachineError, match="expected a JSON object from QEMU's control socket, got b'hello'"):
        async with running(command, NOBODY, tmp_path / "log"):
            pytest.fail("it did start")


SPEAKER = f"""#!{sys.executable}
import os, pathlib, sys
[path] = [word.rpartition("path=")[2] for word in sys.argv if "id=serial" in word]
line = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
try:
    for _ in range(20_000):
        os.write(line, b"x")
finally:
    pathlib.Path(sys.argv[0] + ".said").touch()
"""


@pytest.mark.anyio
async def test_what_a_machine_shows_is_kept_while_this_computer_has_no_time_for_it(tmp_path: Path) -> None:
    """QEMU writes a byte at a time, and drops what does not go out at once."""
    command = [program(tmp_path, SPEAKER)]
    shown: list[bytes] = []

    def heard(data: bytes) -> None:
        shown.append(data)
        while not Path(f"{command[0]}.said").exists():
            time.sleep(0.005)  # what else this process may have to do

    with pytest.raises(MachineError, match=r"with status 0;"):
        async with running(command, replace(NOBODY, heard=heard), tmp_path / "log"):
            pytest.fail("it speaks no QMP")
    assert len(b"".join(shown)) == 20_000


SETPRIV = shutil.which("setpriv")
PARENT = """
import subprocess, sys, time
print(subprocess.Popen(sys.argv[1:]).pid, flush=True)
time.sleep(600)
"""


@linux
@pytest.mark.parametrize(
    "setpriv",
    [
        pytest.param(SETPRIV, marks=pytest.mark.skipif(SETPRIV is None, reason="no setpriv: apt install util-linux")),
        None,
    ],
)
def test_a_leashed_process_dies_with_its_parent(setpriv: str | None) -> None:
    command = [sys.executable, "-c", PARENT, *leashed(["sleep", "600"], setpriv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        asyncio.run(until(lambda: name_of(child) == "sleep"))
        parent.kill()
    asyncio.run(until(lambda: name_of(child) != "sleep"))


def name_of(pid: int) -> str:
    """The name of a process, empty if it is gone or only waits to be taken note of."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    return "" if "State:\tZ" in status else status.split(maxsplit=2)[1]
