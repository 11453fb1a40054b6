"""Faults of a disk, and of the process that writes to it, brought about from outside: see disk.c."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("cc") or shutil.which("clang")),
    reason="needs Linux and a C compiler: apt install clang",
)


@functools.cache
def shim() -> Path:
    """The library that stands between a program and its disk, built anew for each run of the tests."""
    compiler = shutil.which("clang") or shutil.which("cc")
    assert compiler is not None
    folder = tempfile.mkdtemp(prefix="disk-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = Path(folder) / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, source], check=True)
    return built


def preloaded() -> dict[str, str]:
    """The environment of a process whose disk is to have faults."""
    return {**os.environ, "LD_PRELOAD": str(shim())}


def killed(file: Path, step: int, *, commits: bool = False, parent: bool = False) -> dict[str, str]:
    """Further environment: the process is killed at this write or flush of the file and those beside it.

    Args:
        file: What is written to.
        step: Which one, counted from 1.
        commits: Count only the first write of each commit, at which nothing of it is on disk, and its flush, after
            which all of it is.
        parent: The process that started this one is killed with it.
    """
    also = {name: "1" for name, wanted in (("DISK_STEPS", commits), ("DISK_PARENT", parent)) if wanted}
    return {"DISK_FILE": str(file), "DISK_AT": str(step), **also}


def killed_at_server(folder: Path, step: int) -> dict[str, str]:
    """Further environment: the process is killed at this commit on a server, right before or right after it is sent.

    Args:
        folder: Of the server's socket.
        step: Which one, counted from 1: each commit has two.
    """
    return {"DISK_SERVER": str(folder), "DISK_AT": str(step), "DISK_STEPS": "1"}


def failing(
    file: Path, error: int, *, step: int = 1, commits: bool = False, sign: Path | None = None
) -> dict[str, str]:
    """Further environment: from this write or flush on, all of the file's fail.

    Args:
        file: What is written to.
        error: The error's number.
        step: Which write is the first to fail, counted from 1; with a sign, from the time when it is there.
        commits: Count only the first write and the flush of each commit.
        sign: A file that a test makes when the disk is to fail.
    """
    signed = {} if sign is None else {"DISK_SIGN": str(sign)}
    return {**killed(file, step, commits=commits), "DISK_ERRNO": str(error), **signed}
