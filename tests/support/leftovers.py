"""What a process has, to see whether something is left over: memory, objects, threads, tasks, files and sockets."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import stat
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
POOLS = ("asyncio", "people")
GROWING = ("dispatch-notify",)  # pools of the lab: that one is there counts, not how far it has grown


@dataclass(frozen=True, slots=True)
class Standing:
    """What it has at one moment.

    Attributes:
        memory: Resident, in MiB, once what is free was given back.
        objects: That the garbage collector knows, by type.
        threads: Their names, without numbers; of pools, which grow up to their size, none, or of the lab's at most one.
        tasks: Of all event loops, by name without numbers, or by what they run.
        files: What descriptors stand for, by kind.
    """

    memory: float
    objects: Counter[str]
    threads: Counter[str]
    tasks: Counter[str]
    files: Counter[str]

    @classmethod
    def now(cls) -> Standing:
        for _ in range(3):
            gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        known = gc.get_objects()
        tasks = [each for each in known if isinstance(each, asyncio.Task) and not each.done()]
        return cls(
            memory=pages * os.sysconf("SC_PAGE_SIZE") / MIB,
            objects=Counter(type(each).__qualname__ for each in known),
            threads=_threads(),
            tasks=Counter(_name_of(each) for each in tasks),
            files=_files(),
        )

    def more(self, before: Standing) -> dict[str, dict[str, int]]:
        """What there is more of than before, but for memory."""
        kinds = {name: (getattr(self, name), getattr(before, name)) for name in ("threads", "tasks", "files")}
        return {name: dict(now - then) for name, (now, then) in kinds.items() if now - then}


def _threads() -> Counter[str]:
    found = Counter(_stem(each.name) for each in threading.enumerate())
    return Counter({name: 1 if name in GROWING else count for name, count in found.items() if name not in POOLS})


def _name_of(task: asyncio.Task[object]) -> str:
    """Return what a task does, if nobody has named it."""
    stem = _stem(task.get_name())
    return getattr(task.get_coro(), "__qualname__", stem) if stem == "Task" else stem


def _stem(name: str) -> str:
    return name.rstrip("0123456789-_ ")


def _files() -> Counter[str]:
    found: Counter[str] = Counter()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found["sockets" if stat.S_ISSOCK(handle.stat().st_mode) else str(handle.readlink())] += 1
    return found
