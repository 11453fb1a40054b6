"""How much of a long walk a run of the tests takes: some steps, which a printed seed draws; all with `make torture`."""

from __future__ import annotations

import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, settings

#: Whether of tests that take long only some are taken (see `some_cases`), of walks half of the steps, and of what
#: hypothesis makes up a fifth.
QUICK = bool(os.environ.get("DISPATCH_QUICK"))

#: Whether every step of every walk is taken, and what can be large is.
TORTURE = bool(os.environ.get("DISPATCH_TORTURE"))

_SEED = "DISPATCH_SEED"


def seed() -> str:
    """What draws the steps; also for all processes that this one starts."""
    return os.environ.setdefault(_SEED, str(random.randrange(10**6)))


def header() -> str:
    """A line that says how to repeat the run."""
    cases = " and some tests that take long" * QUICK
    return "all steps of all walks" if TORTURE else f"some steps of walks{cases}: {_SEED}={seed()} draws these again"


def examples(usual: int, whole: int | None = None) -> int:
    """How many examples hypothesis makes up; the usual number with `make torture` too, unless it names another one."""
    return max(usual // 5, 10) if QUICK else larger(usual, whole or usual)


def larger(usual: int, whole: int) -> int:
    """How many of something there are: the usual number, or with `make torture` the whole one."""
    return whole if TORTURE else usual


# how fast a computer is makes no test fail
settings.register_profile(
    "tests",
    max_examples=examples(settings().max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def drawn(steps: Iterable[int], count: int) -> list[int]:
    """So many of the steps, the same ones for the same seed; half with `make quick`, all with `make torture`."""
    steps = list(steps)
    count = (count + 1) // 2 if QUICK else count
    return steps if TORTURE else _sample(steps, count)


def _sample(steps: list[int], count: int) -> list[int]:
    return sorted(random.Random(f"{seed()} {steps}").sample(steps, count))


def some_cases(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Divide tests into those that a quick run takes, and those that it leaves to the others.

    A mark `draw(N)` says how many of a test's cases it takes; `draw(N, of="WORDS")` how many of all tests whose marks
    have these words. Below 1 it is their share. Of a whole file's mark, tests with a mark of their own are no part.
    """
    tables = defaultdict(list)
    for item in items:
        if QUICK and (mark := item.get_closest_marker("draw")):
            tables[mark.kwargs.get("of", item.nodeid.partition("[")[0]), *mark.args].append(item)
    left: set[pytest.Item] = set()
    for (_, most), cases in tables.items():
        count = min(most, len(cases)) if most >= 1 else math.ceil(most * len(cases))
        left |= {*cases} - {cases[each] for each in _sample(list(range(len(cases))), count)}
    return [item for item in items if item not in left], [item for item in items if item in left]
