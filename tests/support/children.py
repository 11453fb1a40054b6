"""The processes that a test's own process has started (Linux)."""

from __future__ import annotations

from pathlib import Path

TASKS = Path("/proc/self/task")


def children(program: bytes) -> list[int]:
    """Those that have this in their command line. Threads and processes may end while they are looked at."""
    pids = [int(pid) for task in TASKS.iterdir() for pid in _read(task / "children").split()]
    return [pid for pid in pids if program in _read(Path(f"/proc/{pid}/cmdline"))]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has just ended
