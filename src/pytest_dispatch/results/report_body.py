"""Reads the body of a PUT: JSON in whatever state it arrives, as a report with its cases.

What can be read is read: a byte-order mark, UTF-16, a NUL at the end, raw control characters and halves of characters
in strings, NaN for a number. What cannot, or says two things, is refused with the field, or with the line, the column
and what stands there.
"""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.core.verdict import worst
from pytest_dispatch.results.cases import find_cases
from pytest_dispatch.results.outcome_words import outcome_of
from pytest_dispatch.results.report_limits import measured
from pytest_dispatch.results.tap import MOST_CASES
from pytest_dispatch.results.text_position import place
from pytest_dispatch.support.codec import decode

LATIN = "(This report is not in UTF-8, as JSON has to be: the bytes that are not were read as Latin-1.)"

_ESCAPED = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}  # how Python's decoder keeps stray bytes


class ReportedCase(msgspec.Struct, kw_only=True):
    """One test inside the workload; the duration is in seconds."""

    name: str
    outcome: str | bool | None = None
    result: str | bool | None = None
    status: str | bool | None = None
    duration: Annotated[float, msgspec.Meta(ge=0)] | None = None
    message: str | None = None


class Reported(msgspec.Struct, kw_only=True):
    """The body of a PUT; everything from `result` on goes beyond what `beacon` 1.1.0 sends."""

    title: str
    body: str | None = None
    labels: list[str] | None = None
    assignees: list[str] | None = None
    milestone: str | None = None
    result: str | bool | None = None
    outcome: str | bool | None = None
    status: str | bool | None = None
    cases: Annotated[list[ReportedCase], msgspec.Meta(max_length=MOST_CASES)] | None = None
    junit: str | None = None
    tap: str | None = None


#: Fields and, within `cases`, fields of a case; and what a writer of JSON may have made of their names.
_MEANT = {name.casefold(): name for name in (*ReportedCase.__struct_fields__, *Reported.__struct_fields__)}


def read_report(data: bytes, *, unread: str = "") -> Report:
    """Return a PUT's body as a report.

    Args:
        data: All of it.
        unread: Why the results in it are not to be read; this is then its one case, which has failed.

    Raises:
        ValueError: It is none; the text says in one line what is wrong with it.
    """
    text, latin = _text(data)
    try:
        said = decode(text, Reported) if unread else _said(text)  # what takes too much is not tried another way
    except RecursionError as error:
        raise ValueError("expected a report: too many brackets within brackets") from error
    except msgspec.DecodeError as error:  # its subclass ValidationError names the field
        raise ValueError(f"expected a report: {error}") from error
    result = _outcome(said, "$")
    body = said.body or ""
    report = Report(
        title=said.title,
        body="\n\n".join(filter(None, (body, LATIN))) if latin else body,
        labels=tuple(said.labels or ()),
        assignees=tuple(said.assignees or ()),
        milestone=said.milestone or "",
        result=result,
        cases=_failed("results", unread) if unread else _cases(said, result),
        junit=said.junit or "",
        tap=said.tap or "",
    )
    return measured(report)


def _text(data: bytes) -> tuple[str, bool]:
    """JSON as text without half characters, and whether some of it had to be taken for Latin-1."""
    encoding = json.detect_encoding(data)
    latin = False
    try:
        text = data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise ValueError(f"expected JSON in UTF-8: {error.reason} at byte {error.start} of {encoding}") from error
        text, latin = data.decode(encoding, "surrogateescape").translate(_ESCAPED), True
    return _whole(text).rstrip("\0 \t\r\n"), latin


def _whole(text: str) -> str:
    """The text with halves of characters joined where both stand side by side, and replaced elsewhere."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _said(text: str) -> Reported:
    """What JSON says, also where it is not quite JSON.

    Raises:
        ValueError: It says no report; where it is no JSON, with the place.
        RecursionError: It is nested too deep.
    """
    try:
        reported = decode(text, Reported)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        reported = None
    try:
        said = _parsed(text)
        return reported or decode(_whole(json.dumps(said, ensure_ascii=False, allow_nan=False)), Reported)
    except json.JSONDecodeError as error:
        what = "it breaks off" if error.pos >= len(text) else error.msg
        raise ValueError(f"expected a report as JSON: {what}: {place(text, error.lineno, error.colno)}") from error
    except msgspec.DecodeError:
        raise
    except ValueError as error:  # also of a number that has no end
        raise ValueError(f"expected a report: {error}") from error


def _parsed(text: str) -> object:
    """JSON that may be not quite so; a constant that JSON has no word for, as NaN, is no time at all.

    Raises:
        ValueError: A field stands there twice, and says two things, or it has a name that only looks like a field's.
    """
    said = json.loads(text, strict=False, parse_constant=lambda _: 0.0, object_pairs_hook=_once)
    cases = said.get("cases") if isinstance(said, dict) else None
    for each in (said, *(cases if isinstance(cases, list) else ())):
        for name in each if isinstance(each, dict) else ():
            meant = _MEANT.get(name.casefold(), name)
            if meant != name:
                raise ValueError(f"expected the field {meant!r}, got {name[:40]!r}")
    return said


def _once(fields: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON, in which the last one of two fields would hold, as elsewhere it is the first."""
    said = dict(fields)
    if len(said) < len(fields):
        for name, value in fields:
            if said[name] != value:
                raise ValueError(f"the field {name[:40]!r} stands there twice, and says two things")
    return said


def _outcome(said: Reported | ReportedCase, where: str) -> Outcome | None:
    """The outcome that is told, by whatever name; the worst where several are, for one of them is then wrong.

    An empty one tells nothing beside another, and alone is no outcome: a script's variable that was never set.
    """
    words = {"outcome": said.outcome, "result": said.result, "status": said.status}
    given = {field: word for field, word in words.items() if word is not None}
    told = []
    for field, word in given.items():
        if word == "" and any(other != "" for other in given.values()):
            continue
        outcome = outcome_of(word)
        if outcome is None:
            raise _no_outcome(repr(str(word)[:40]), f"{where}.{field}")
        told.append(outcome)
    return worst(told) if told else None


def _no_outcome(got: str, where: str) -> ValueError:
    return ValueError(f"expected a report: expected passed, failed, error or skipped, got {got} - at `{where}`")


def _cases(said: Reported, result: Outcome | None) -> tuple[Case, ...]:
    """The cases that were sent as such, in JUnit and in TAP; only where there are none, those in the body."""
    sent = tuple(_case(case, f"$.cases[{at}]") for at, case in enumerate(said.cases or ()))
    junit, tap = said.junit, said.tap
    if result is Outcome.SKIPPED:  # then there need not be any
        junit, tap = junit or None, tap or None
    found = find_cases(cases=sent, junit=junit, tap=tap, body=said.body or "")
    nothing = not found and said.cases is not None and result is None
    return _failed("cases", "ran no test") if nothing else found


def _case(said: ReportedCase, where: str) -> Case:
    outcome = _outcome(said, where)
    if outcome is None:
        raise _no_outcome("none", f"{where}.outcome")
    return Case(name=said.name, outcome=outcome, duration=said.duration or 0.0, message=said.message or "")


def _failed(name: str, message: str) -> tuple[Case, ...]:
    return (Case(name=name, outcome=Outcome.FAILED, message=message),)
