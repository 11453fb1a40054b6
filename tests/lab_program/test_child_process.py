"""`dispatch serve` for the program that started it: lines of JSON in and out, and an end with its input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from labs import plan
from waiting import PATIENCE

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab_program.child_messages import Start, encode
from pytest_dispatch.server.api.schemas import OpenSession

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

COMMAND = (sys.executable, "-m", "pytest_dispatch.cli.main")


@contextmanager
def started(tmp_path: Path, parent: int) -> Iterator[subprocess.Popen[bytes]]:
    """One whose standard input and output are ordinary pipes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [*COMMAND, "serve", f"--parent={parent}", f"--scratch={scratch}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    """Say this, and return the answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def test_it_is_started_and_stopped_by_lines_of_json(tmp_path: Path) -> None:
    with started(tmp_path, os.getpid()) as process:
        ready = say(process, encode(Start(plan(tmp_path), "w")))["ready"]
        client = LabClient(ready["url"], ready["token"])
        assert client.open(OpenSession(source="w", policy=Policy())).id
        client.close()
        assert say(process, b'{"stop": {}}\n') == {"stopped": {"pending": 0, "unfiled": [], "trouble": ""}}
        assert process.wait(PATIENCE) == 0


def test_it_ends_with_its_input(tmp_path: Path) -> None:
    with started(tmp_path, os.getpid()) as process:
        assert "ready" in say(process, encode(Start(plan(tmp_path), "w")))
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 1
    assert not (tmp_path / "scratch").exists()


def test_it_ends_where_another_program_started_it(tmp_path: Path) -> None:
    with started(tmp_path, os.getppid()) as process:
        assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"start\n", "expected a line of JSON with one of start, stop, ready, refused, logged, stopped, got something"),
        (b'{"stop": {}}\n', "expected start first, got stop"),
        (b'{"start": {"config": {}, "source": "w"}}\n', "missing required field `api_url` - at `$.config`"),
    ],
    ids=["no JSON", "no start", "no configuration"],
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, line: bytes, why: str) -> None:
    with started(tmp_path, os.getpid()) as process:
        refused = say(process, line)["refused"]
        assert refused["kind"] == "ConfigError"
        assert why in refused["why"]
        assert process.wait(PATIENCE) == 0
