"""How long to fuzz: a moment in the tests, always the same; minutes, always different, with `make fuzz`."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from torture import examples

#: Minutes for each of the tests; 0 is the short run, in which nothing is left to chance.
MINUTES = float(os.environ.get("DISPATCH_FUZZ_MINUTES") or 0)

#: Examples so far, by what was fuzzed.
TRIED: Counter[str] = Counter()

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]


def fuzz(name: str, usual: int, check: Callable[..., object], *inputs: st.SearchStrategy[Any]) -> None:
    """Check so many examples, fewer in a quick run; in the long run again and again, until the time is over.

    Args:
        name: What is fuzzed, for people.
        usual: How many make up the short run, and a round of the long one.
        check: Raises if something is wrong.
        inputs: Of the check.
    """

    def counted(*values: Any) -> None:
        TRIED[name] += 1
        check(*values)

    chosen = settings(
        max_examples=usual if MINUTES else examples(usual),
        derandomize=not MINUTES,
        deadline=None,
        database=None,
        suppress_health_check=_SLOW,
    )
    give_up = time.monotonic() + 60 * MINUTES
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of inputs that take long to show: they are meant to
            chosen(given(st.tuples(*inputs))(lambda values: counted(*values)))()
        if time.monotonic() >= give_up:
            break
    if MINUTES:
        print(f"\nfuzzed {name}: {TRIED[name]} examples")
