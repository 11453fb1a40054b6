"""The part of an item's results that pytest does not print; it is attached to reports and goes only to the JUnit file.

pytest keeps every report of a session, and prints failed ones in full. A workload may send 100,000 cases, and messages
of a million lines, so pytest gets only as much of each item as a person can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pytest_dispatch.results.run_cases import Told

SUBTESTS = 10_000  # maximum number of sub-tests of an item; further cases are only counted
PRINTED = 100  # maximum number of failed sub-tests of an item that are printed; further ones are only counted
LINES = 100  # maximum number of lines printed of a message
CHARACTERS = 8000  # maximum number of characters printed of a message

FURTHER = "further failed cases"  # category of unprinted failures in pytest's last line

_TEXT, _CASES, _QUIET = "dispatch_text", "dispatch_cases", "dispatch_quiet"


@dataclass(frozen=True, slots=True)
class ItemDetails:
    """The unprinted part that is attached to a report.

    Attributes:
        text: The full text, if the report has only its beginning; else empty.
        cases: Cases that did not become sub-tests.
    """

    text: str = ""
    cases: Sequence[Told] = ()


def beginning(text: str) -> str:
    """Return the printed part of a message, with a note on how much was cut."""
    head = "\n".join(text[:CHARACTERS].split("\n")[:LINES])
    more = len(text) - len(head)
    return f"{head}\n… {more:,} more characters: see --dispatch-junit" if more else text


def attach(report: pytest.TestReport, rest: ItemDetails, *, quiet: bool = False) -> None:
    """Attach the unprinted part to a report; nothing is printed of a `quiet` report."""
    found = {_TEXT: rest.text, _CASES: list(rest.cases), _QUIET: quiet}
    vars(report).update({name: value for name, value in found.items() if value})


def take_off(report: pytest.TestReport) -> ItemDetails:
    """Remove the unprinted part from a report and return it, so that pytest does not keep it in memory."""
    return ItemDetails(vars(report).pop(_TEXT, ""), vars(report).pop(_CASES, ()))


def is_quiet(report: pytest.TestReport) -> bool:
    """Return whether the report has failed and is only counted, not printed."""
    return report.failed and bool(vars(report).get(_QUIET))
