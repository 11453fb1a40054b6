"""How long it takes to explain why one of 10,000 queued runs waits for one of 200 machines, against one of 10."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Mapping

from bench_lab import Measure

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy, Policy, Priority, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.reasons import explain
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.workloads.boot.rules import RULES

MACHINES, QUEUED, FEW = 200, 10_000, 10
SESSIONS, RACKS = 20, 4
ASKED = 200  # runs that are asked about
ROUNDS = 3
LONGEST = 5.0  # milliseconds
NOW = 1000.0

REQUIRES = ((), ("arch=x86",), ("arch=arm",), ("mem>=64",), ("mem>=16", "arch=x86"))
PRIORITIES = (*[Priority.NORMAL] * 8, Priority.HIGH, Priority.LOW)


def _labels(number: int) -> Mapping[str, str]:
    arch, mem = ("x86", "arm")[number % 2], str(2 ** (number % 5 + 3))
    return {"rack": str(number % RACKS), "arch": arch, "serial": str(number), "mem": mem}


def _queue(queued: int) -> Queue:
    """Return a queue whose machines are all busy, and in which so many runs wait."""
    queue, chosen = Queue({BOOT: RULES}), random.Random(1)
    queue.group_queue.set([Group(id=f"rack{number}", labels={"rack": str(number)}) for number in range(RACKS)], NOW)
    for session in range(SESSIONS):
        queue.table.open(f"s{session}", Policy())
    for number in range(MACHINES):
        queue.machines.declare(f"m{number}", labels=_labels(number))
    for number in range(MACHINES + queued):
        if number == MACHINES:
            _occupy(queue)
        name = f"w{number % 50}"
        workload = Workload(
            name=name,
            kind=BOOT,
            payload={"media": "efi", "location": "sha256:0", "size": 1},
            requires=read_requirements(chosen.choice(REQUIRES) if number >= MACHINES else (), ""),
            priority=chosen.choice(PRIORITIES),
            group=f"rack{number % RACKS}",
        )
        run = queue.sessions.submit(f"s{chosen.randrange(SESSIONS)}", f"{name}#{number}", workload, NOW)
        queue.transitions.has_what_it_needs(run.id, NOW)
    return queue


def _occupy(queue: Queue) -> None:
    for number in range(MACHINES):
        name, labels = f"m{number}", _labels(number)
        queue.machines.asks(name, KnownBy.ADDRESS, NOW)
        queue.scheduler.take(Capacity(kind=BOOT, labels=labels, machine=name), NOW)


def _takes(run: Run, machine: str, share: float) -> float:  # noqa: ARG001 - all take as long
    return 60.0 * share


def _milliseconds(queue: Queue) -> list[float]:
    """Return how long it takes to explain each of some runs that wait, each the best of several times."""
    waiting = [run for run in queue.runs if queue.transitions.runs.record(run).is_waiting]
    return sorted(min(_once(queue, run) for _ in range(ROUNDS)) for run in random.Random(2).choices(waiting, k=ASKED))


def _once(queue: Queue, run: str) -> float:
    """Return the processor's time: nothing is waited for, so an idle computer answers after as long."""
    began = time.thread_time()
    explain(queue, run, NOW, _takes)
    return (time.thread_time() - began) * 1000


def measure() -> list[Measure]:
    """Ask about the same number of runs in turn in both queues; without the collector, whose time is the queue's."""
    long, short = _queue(QUEUED), _queue(FEW)
    gc.collect()
    gc.disable()
    try:
        ours, theirs = _milliseconds(long), _milliseconds(short)
    finally:
        gc.enable()
    median, reference = statistics.median(ours), statistics.median(theirs)
    return [
        Measure(
            f"explain, {MACHINES} machines and {QUEUED:,} queued, median",
            f"{FEW} queued",
            f"{median:.2f} ms",
            f"{reference:.2f} ms",
            median / reference,
            f"< {LONGEST:g} ms",
            median < LONGEST,
            f"99 of 100 took at most {ours[ASKED * 99 // 100 - 1]:.2f} ms",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
