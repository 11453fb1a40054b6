"""Where the JUnit file of `--dispatch-junit` may be written to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from faults import fault

from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.plugin.junit_collector import JunitCollector


def written(path: Path) -> str:
    log = JunitCollector()
    log.check(path)
    return log.write(path)


def test_what_is_open_already_may_be_written_to() -> None:
    """As `/dev/stdout` is, and what a shell puts in the place of `>(command)`."""
    reading, writing = os.pipe()
    path = Path(f"/dev/fd/{writing}")
    assert written(path) == f"JUnit file with 0 cases: {path}"
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert b"<testsuite " in pipe.read()


def test_it_may_be_thrown_away() -> None:
    assert written(Path("/dev/null")).endswith(": /dev/null")


@fault(
    "pytest",
    "`--dispatch-junit` names a pipe, or one is put there before the session ends",
    outcome="nothing begins, exit code 4; unchanged where the session runs already",
    told="`--dispatch-junit: cannot write … (it is a named pipe)`; nobody waits for a reader",
)
def test_nobody_waits_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    expected = rf"^--dispatch-junit: cannot write {path} \(it is a named pipe\); give another file$"
    with pytest.raises(ConfigError, match=expected):
        JunitCollector.check(path)
    with pytest.raises(LabError, match=expected):
        JunitCollector().write(path)


def test_a_socket_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        with pytest.raises(ConfigError, match="cannot write"):
            JunitCollector.check(path)
