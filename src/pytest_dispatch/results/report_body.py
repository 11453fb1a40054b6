"""Parses the body of a PUT, which may be imperfect JSON, into a report with its cases.

The parser accepts a byte-order mark, UTF-16, a NUL at the end, raw control characters and lone surrogates in strings,
and NaN as a number. JSON that is unreadable or contradictory is refused; the error names the field, or the line and
column with the text there.
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

_ESCAPED = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}  # surrogates with which Python decodes invalid bytes


class ReportedCase(msgspec.Struct, kw_only=True):
    """One test inside the workload; the duration is in seconds."""

    name: str
    outcome: str | bool | None = None
    result: str | bool | None = None
    status: str | bool | None = None
    duration: Annotated[float, msgspec.Meta(ge=0)] | None = None
    message: str | None = None


class Reported(msgspec.Struct, kw_only=True):
    """The body of a PUT; `beacon` 1.1.0 does not send the fields from `result` on."""

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


#: The names of the fields of reports and cases, by their lower-case form.
_MEANT = {name.casefold(): name for name in (*ReportedCase.__struct_fields__, *Reported.__struct_fields__)}


def read_report(data: bytes, *, unread: str = "") -> Report:
    """Parse the body of a PUT into a report.

    Args:
        data: The whole body.
        unread: Why not to read the results in it; the report then has one failed case with this message.

    Raises:
        ValueError: The body is not a report; the text says in one line what is wrong with it.
    """
    text, latin = _text(data)
    try:
        said = decode(text, Reported) if unread else _said(text)  # `_said` may exceed the limits again
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
    """Return the JSON as text without lone surrogates, and whether some bytes had to be decoded as Latin-1."""
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
    """Return the text with surrogate pairs joined, and lone surrogates replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _said(text: str) -> Reported:
    """Parse JSON, also if it is slightly malformed.

    Raises:
        ValueError: The text is not a report; names the place if it is not JSON.
        RecursionError: The JSON is nested too deeply.
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
    except ValueError as error:  # also for numbers with too many digits
        raise ValueError(f"expected a report: {error}") from error


def _parsed(text: str) -> object:
    """Parse JSON that may be slightly malformed; read NaN and infinities as 0.

    Raises:
        ValueError: A field occurs twice with different values, or the case of a field's name is wrong.
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
    """Return a JSON object; refuse duplicate fields with different values, because parsers differ in their choice."""
    said = dict(fields)
    if len(said) < len(fields):
        for name, value in fields:
            if said[name] != value:
                raise ValueError(f"the field {name[:40]!r} occurs twice, with different values")
    return said


def _outcome(said: Reported | ReportedCase, where: str) -> Outcome | None:
    """Return the outcome in any of its three fields; the worst if they differ, because one of them must be wrong.

    An empty field is ignored if another one is set. Alone it is an error: a script's variable was probably never set.
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
    """Return the cases in the fields `cases`, `junit` and `tap`; if there are none, return those in the body."""
    sent = tuple(_case(case, f"$.cases[{at}]") for at, case in enumerate(said.cases or ()))
    junit, tap = said.junit, said.tap
    if result is Outcome.SKIPPED:  # a skipped workload need not have results
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
