"""Test cases out of what a workload reports: JUnit XML, TAP, KTAP, or either within the report's body.

Pure text, from machines that may be broken or hostile. What looks like results and cannot be read, is not whole, or
contradicts itself, is a failed case that says so: it must not pass for a report that has no results.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.report.junit_results import CasesError, parse_junit
from pytest_dispatch.report.tap import read_tap
from pytest_dispatch.report.tap_lines import LOG_PREFIX, stands_in_log

_XML = re.compile(r"^[ \t\ufeff]*(?:<\?xml(?=[\s?])|(?=<testsuites?(?:[\s/>]|\Z)))", re.MULTILINE)
_PROLOG = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*+(?:\[.*?\]\s*+)?>)*+", re.DOTALL)
_ROOT = re.compile(r"<((?:[^\s/><:]*+:)?testsuites?)(?=[\s/>]|\Z)")
_CUT = re.compile(r"\Z|<[?!]|<t?e?s?t?s?u?i?t?e?s?\Z")
_LOGGED = re.compile(r"<\?xml(?=[\s?])|<testsuites?(?=[\s/>]|\Z)")
_LOGGED_MOST = 500  # places at which it is looked for what a log puts there
_BEGINNINGS = ("<?xml", "<testsuites")


def find_cases(
    *, cases: tuple[Case, ...] = (), junit: str | None = None, tap: str | None = None, body: str = ""
) -> tuple[Case, ...]:
    """Return the cases of a report: those sent as such and in results; only where there are none, those in its body."""
    given = cases
    given += () if junit is None else _read("JUnit", parse_junit, junit)
    given += () if tap is None else _read("TAP", parse_tap, tap)
    return given or cases_in_body(body)


def cases_in_body(text: str) -> tuple[Case, ...]:
    """Return the cases in a report's body.

    They are looked for where a line begins with an XML declaration or `<testsuite>`, or says `TAP version 13` or the
    like; where the body begins with a plan or the first result of TAP; and where it has results that no prose has. All
    that also behind what a log puts before each line. Anything else is a body without cases.
    """
    junit, rest = _junit_within(text)
    if junit is None:
        junit, _ = _junit_within(_without_log(text))
    found = () if junit is None else _read("JUnit", parse_junit, junit)
    return found + (read_tap(rest, whole=False) or ())


def parse_tap(text: str) -> tuple[Case, ...]:
    """Return the cases in TAP 13 or 14 or KTAP, also without a version line, and in a log.

    A result that is not ok has failed, unless it was to be skipped, or to fail (`# TODO`). Tests that were planned
    and did not run, a plan that is missing, and `Bail out!`, are failed cases.

    Raises:
        CasesError: There is neither a version line nor a result nor a plan in it.
    """
    cases = read_tap(text)
    if cases is None:
        if not text.strip():
            raise CasesError("ran no test: it is empty")
        raise CasesError("expected TAP with results such as 'ok 1 - name' or a plan such as '1..8', got neither")
    return cases


def _read(what: str, parse: Callable[[str], tuple[Case, ...]], text: str) -> tuple[Case, ...]:
    try:
        return parse(text)
    except CasesError as error:
        return (Case(name=what, outcome=Outcome.FAILED, message=f"unreadable: {error}"),)


def _junit_within(text: str) -> tuple[str | None, str]:
    """JUnit XML as it stands in a text, if there is some, and what of the text is none.

    What is cut off before its root can be told from another XML's may be JUnit, and is taken for it.
    """
    whole = text.strip("\ufeff \t\r\n")
    if whole and any(beginning.startswith(whole) for beginning in _BEGINNINGS):
        return whole, ""
    at = 0
    while found := _XML.search(text, at):
        begin = _end(_PROLOG, text, found.end() - len(found[0].lstrip("\ufeff \t")))
        at = max(begin, found.end() + 1)
        root = _ROOT.match(text, begin)
        if root or _CUT.match(text, begin):
            stop = _end_of(text, root) if root else len(text)
            lines = "\n" * text.count("\n", 0, found.start())  # so that a line has its number
            return lines + text[found.start() : stop], text[: found.start()] + text[stop:]
    return None, text


def _without_log(text: str) -> str:
    """The text without what a log puts before each line, if it does so before JUnit XML; else nothing."""
    shapes: list[str] = []
    for found in islice(_LOGGED.finditer(text), _LOGGED_MOST):
        if stands_in_log(text, found, shapes):
            return re.sub("|".join(f"^(?:{shape})" for shape in (*shapes, LOG_PREFIX)), "", text, flags=re.MULTILINE)
    return ""


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _end_of(text: str, root: re.Match[str]) -> int:
    """Where the root's last closing tag ends; the text's end if there is none."""
    closing = f"</{root[1]}>"
    at = text.rfind(closing, root.end())
    return len(text) if at < 0 else at + len(closing)
