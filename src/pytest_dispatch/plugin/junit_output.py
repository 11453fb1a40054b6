"""What pytest does not print of an item: it travels with pytest's reports, and goes into the JUnit file alone.

pytest keeps every report of a session, and prints the failed ones whole. A workload may send 100,000 cases, and
messages of a million lines: of each item pytest gets what a person reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

SUBTESTS = 10_000  # that an item has; further cases are counted
PRINTED = 100  # failed sub-tests of an item that are printed; further ones are counted
LINES = 100  # of a message that are printed
CHARACTERS = 8000  # likewise

FURTHER = "further failed cases"  # how pytest's last line counts those that are not printed

_TEXT, _CASES, _QUIET = "dispatch_text", "dispatch_cases", "dispatch_quiet"

#: A case's name, its outcome as pytest tells it, its duration in seconds, and its message: all that pytest-xdist sends.
Told = tuple[str, str, float, str]


@dataclass(frozen=True, slots=True)
class Unprinted:
    """What came with a report.

    Attributes:
        text: The whole of what the report tells the beginning of; empty if it tells all.
        cases: Those that no sub-test was made of.
    """

    text: str = ""
    cases: Sequence[Told] = ()


def beginning(text: str) -> str:
    """As much of a message as is printed, and how much more there is."""
    head = "\n".join(text[:CHARACTERS].split("\n")[:LINES])
    more = len(text) - len(head)
    return f"{head}\n… {more:,} more characters: see --dispatch-junit" if more else text


def attach(report: pytest.TestReport, rest: Unprinted, *, quiet: bool = False) -> None:
    """Let a report take the rest along; nothing is printed of a `quiet` one."""
    found = {_TEXT: rest.text, _CASES: list(rest.cases), _QUIET: quiet}
    vars(report).update({name: value for name, value in found.items() if value})


def take_off(report: pytest.TestReport) -> Unprinted:
    """What a report has taken along, which pytest is not to keep with it."""
    return Unprinted(vars(report).pop(_TEXT, ""), vars(report).pop(_CASES, ()))


def is_quiet(report: pytest.TestReport) -> bool:
    """Whether it has failed, and is counted without being printed."""
    return report.failed and bool(vars(report).get(_QUIET))
