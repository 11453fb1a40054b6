"""Limits for the fields of a report, and its size, which counts towards the limit for all reports of one boot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from sys import getsizeof

import msgspec

from pytest_dispatch.core.model import Case, Report

LINE = 10_000  # maximum characters of a title, and of a case's name
NAME = 1000  # maximum characters of a milestone, a label or an assignee
NAMES = 1000  # maximum number of labels, and of assignees
MESSAGE = 2**20  # characters of a case's message that are kept


class VolumeError(ValueError):
    """A field of a report is too long; the text names the field."""


def measured(report: Report) -> Report:
    """Return the report with its size set, and with overlong messages of cases cut.

    Raises:
        VolumeError: Another field is too long.
    """
    for field, length, most in _lengths(report):
        if length > most:
            raise VolumeError(f"expected at most {most:,} {field}, got {length:,}")
    if any(len(case.message) > MESSAGE for case in report.cases):
        report = replace(report, cases=tuple(map(_cut, report.cases)))
    return replace(report, size=_size(report))


def _lengths(report: Report) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the actual length and the maximum length of each limited field."""
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
    """Return the report's size in bytes, in memory or in the journal, whichever is larger."""
    texts = (report.title, report.body, report.milestone, report.junit, report.tap, *report.labels, *report.assignees)
    cases = sum(
        getsizeof(case) + getsizeof(case.name) + getsizeof(case.message) + getsizeof(case.duration)
        for case in report.cases
    )
    lists = sum(map(getsizeof, (report.labels, report.assignees, report.cases)))
    return max(sum(map(getsizeof, texts)) + cases + lists, len(msgspec.json.encode(report)))
