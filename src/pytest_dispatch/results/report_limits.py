"""How much a report may hold: a bound for each of its fields, and the size by which all of one boot are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from sys import getsizeof

import msgspec

from pytest_dispatch.core.model import Case, Report

LINE = 10_000  # characters of a title, and of a case's name
NAME = 1000  # characters of a milestone, of a label, and of an assignee
NAMES = 1000  # labels of a report, and assignees
MESSAGE = 2**20  # characters of a case's message that are kept


class VolumeError(ValueError):
    """A field of a report is longer than any sensible one; the text names it."""


def measured(report: Report) -> Report:
    """Return the report with its size, and with the messages of its cases cut where they are too long.

    Raises:
        VolumeError: Another of its fields is too long.
    """
    for field, length, most in _lengths(report):
        if length > most:
            raise VolumeError(f"expected at most {most:,} {field}, got {length:,}")
    if any(len(case.message) > MESSAGE for case in report.cases):
        report = replace(report, cases=tuple(map(_cut, report.cases)))
    return replace(report, size=_size(report))


def _lengths(report: Report) -> Iterator[tuple[str, int, int]]:
    """What is bounded: its name, how long it is, and how long it may be."""
    yield "characters of `title`", len(report.title), LINE
    yield "characters of `milestone`", len(report.milestone), NAME
    for field, names in (("labels", report.labels), ("assignees", report.assignees)):
        yield f"`{field}`", len(names), NAMES
        yield f"characters of one of `{field}`", max(map(len, names), default=0), NAME
    yield "characters of a case's `name`", max((len(case.name) for case in report.cases), default=0), LINE


def _cut(case: Case) -> Case:
    more = len(case.message) - MESSAGE
    return case if more <= 0 else replace(case, message=f"{case.message[:MESSAGE]}\n… {more:,} more characters")


def _size(report: Report) -> int:
    """Bytes that it takes in memory or in the journal, whichever is more."""
    texts = (report.title, report.body, report.milestone, report.junit, report.tap, *report.labels, *report.assignees)
    cases = sum(
        getsizeof(case) + getsizeof(case.name) + getsizeof(case.message) + getsizeof(case.duration)
        for case in report.cases
    )
    lists = sum(map(getsizeof, (report.labels, report.assignees, report.cases)))
    return max(sum(map(getsizeof, texts)) + cases + lists, len(msgspec.json.encode(report)))
