"""The processes that a test's own process has started (Linux), and the processor time that they took."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")


def children(program: bytes) -> list[int]:
    """Those that have this in their command line."""
    return [pid for pid in _started_by(TASKS) if program in _read(Path(f"/proc/{pid}/cmdline"))]


def processor_time() -> float:
    """Seconds that this process took, and all that it has started, those that still run too.

    Left out is what others than those who started it have waited for.
    """
    return sum(os.times()[:4]) + sum(map(_took, _below(TASKS)))


def _below(tasks: Path) -> Iterator[int]:
    for pid in _started_by(tasks):
        yield pid
        yield from _below(Path(f"/proc/{pid}/task"))


def _took(pid: int) -> float:
    """Seconds, with those of its ended children: see proc_pid_stat(5)."""
    after_its_name = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return sum(map(int, after_its_name[11:15])) / os.sysconf("SC_CLK_TCK")


def _started_by(tasks: Path) -> Iterator[int]:
    """Processes and threads may end while they are looked at."""
    with suppress(FileNotFoundError):
        for task in tasks.iterdir():
            yield from map(int, _read(task / "children").split())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has just ended
