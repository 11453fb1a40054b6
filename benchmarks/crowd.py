"""p99 of a request while many machines boot and report, against 10: as machines come, and all in one instant."""

from __future__ import annotations

import contextlib
import random
import resource
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_lab import Measure, RunningLab, running_lab

from machines import Ask, drive

CROWD = 1000
HALL = 10_000  # switched on one after the other, fifty a second
FEW = 10
BOUND = 20

SPREAD = (1.0, 10.0)  # seconds that a DHCP client waits at random when it is switched on (RFC 2131, section 4.4.1)
LOAD = 2.0  # from the last byte until the workload speaks, as the simulated machines have it
WORK = 8.0  # from there to its report; likewise
ROUNDS = 3  # of the few, as they come
INSTANTS = 20  # of the few, in one instant


def _as_they_come(chance: random.Random, longest: float = SPREAD[1]) -> list[Ask]:
    """All are switched on at once; firmware, `beacon` and its report each have a connection of their own."""
    return [
        Ask("HEAD", pause=chance.uniform(SPREAD[0], longest), fresh=True),
        Ask("GET"),
        Ask("POST", pause=LOAD, fresh=True),
        Ask("PUT", b'{"title": "bench"}', pause=WORK, fresh=True),
    ]


def _in_one_instant(_chance: random.Random) -> list[Ask]:
    """All ask at the same moment, and go on as soon as they are answered."""
    return [Ask("HEAD"), Ask("GET"), Ask("POST"), Ask("PUT", b'{"title": "bench"}')]


def _p99(took: list[list[float]]) -> float:
    every = sorted(seconds for each in took for seconds in each)
    return every[int(len(every) * 0.99)]


def _slowest(took: list[list[float]]) -> float:
    return max(seconds for each in took for seconds in each)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


@contextlib.contextmanager
def _lab() -> Iterator[RunningLab]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        file = Path(scratch) / "asset.efi"
        file.write_bytes(b"\xa5" * 16384)
        with running_lab([file], 2 * CROWD + HALL + (INSTANTS + ROUNDS) * FEW) as lab:
            yield lab
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def measure() -> list[Measure]:
    """Each machine has an address of its own; an answer that is not 200 ends the benchmark."""
    chance = random.Random(1)
    with _lab() as lab:
        few = [each for _ in range(ROUNDS) for each in drive(lab.port, [_as_they_come(chance) for _ in range(FEW)])]
        crowd = drive(lab.port, [_as_they_come(chance) for _ in range(CROWD)])
        instants = [
            each for _ in range(INSTANTS) for each in drive(lab.port, [_in_one_instant(chance) for _ in range(FEW)])
        ]
        burst = drive(lab.port, [_in_one_instant(chance) for _ in range(CROWD)])
        longest = HALL / 50
        hall = drive(lab.port, [_as_they_come(chance, longest) for _ in range(HALL)])
    together = f"{CROWD} machines, switched on together"
    apart = f"{HALL} machines, switched on within {longest:.0f} s"
    return [_coming(together, crowd, few), _coming(apart, hall, few), _bursting(burst, instants)]


def _coming(which: str, crowd: list[list[float]], few: list[list[float]]) -> Measure:
    ratio = _p99(crowd) / _p99(few)
    return Measure(
        f"{which}, boot and report: p99 of a request",
        f"{FEW} machines",
        f"{_ms(_p99(crowd))} (slowest {_ms(_slowest(crowd))})",
        _ms(_p99(few)),
        ratio,
        f"no error, ≤ {BOUND}",
        ratio <= BOUND,
        f"firmware asks {SPREAD[0]:g} to {SPREAD[1]:g} s after power-on, at random, as RFC 2131 has it",
    )


def _bursting(burst: list[list[float]], few: list[list[float]]) -> Measure:
    """What no firmware does: it shows the order in which those are served who all wait at once."""
    ratio = _p99(burst) / _p99(few)
    whole = sorted(map(sum, burst))
    unfair = whole[-1] / statistics.median(whole)
    return Measure(
        f"{CROWD} machines, all of them asking in one instant and without a pause: p99 of a request",
        f"{FEW} machines",
        f"{_ms(_p99(burst))} (slowest {_ms(_slowest(burst))})",
        _ms(_p99(few)),
        ratio,
        f"no error, < {CROWD // FEW}; nobody starves",
        ratio < CROWD / FEW and unfair < 2,
        f"a queue a hundred times as long; the last machine was through {unfair:.2f} times as late as the median",
    )


if __name__ == "__main__":
    for result in measure():
        result.show()
