"""Extracts test cases from a workload's report: from JUnit XML, TAP or KTAP, also within the report's body.

The input is text from machines that may be broken or hostile. Text that looks like results, but is unreadable,
incomplete or contradictory, becomes a failed case that says so: it must not count as a report without results.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.console_text import console_text
from pytest_dispatch.results.junit_reader import CasesError, parse_junit
from pytest_dispatch.results.tap import read_tap
from pytest_dispatch.results.tap_lines import without_prefixes

_ASIDE = r"(?:<!--(?:(?!-->)[^\n])*+-->|<\?xml-[^\n>]*+>|<!DOCTYPE[^\n>\[]*+(?:\[[^\n\]]*+\])?>)[ \t]*+"
_XML = re.compile(
    rf"^[ \t]*+(?:(?P<declared><\?xml(?=[\s?]))|(?:{_ASIDE})*+(?=<(?:[\w.-]++:)?testsuites?(?:[\s/>]|\Z)))",
    re.MULTILINE,
)
_BEGUN = re.compile(r"<\?xml(?=[\s?])|<testsuites?(?=[\s/>])")
_PROLOG = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*+(?:\[.*?\]\s*+)?>)*+", re.DOTALL)
_ROOT = re.compile(r"<((?:[^\s/><:]*+:)?testsuites?)(?=[\s/>]|\Z)")
_CUT = re.compile(r"\Z|<[?!]|<t?e?s?t?s?u?i?t?e?s?\Z")
_BEGINNINGS = ("<?xml", "<testsuites")
_DOCUMENTS = 100  # maximum number of JUnit documents in a body; the last one contains the rest of the text


def find_cases(
    *, cases: tuple[Case, ...] = (), junit: str | None = None, tap: str | None = None, body: str = ""
) -> tuple[Case, ...]:
    """Return the cases in a report's fields; if there are none, return those in its body."""
    given = cases
    given += () if junit is None else _read("JUnit", parse_junit, junit)
    given += () if tap is None else _read("TAP", parse_tap, tap)
    return given or cases_in_body(body)


def cases_in_body(text: str) -> tuple[Case, ...]:
    """Return the cases in a report's body.

    A body has cases if a line begins with an XML declaration or `<testsuite>`, or is a TAP version line; if the body
    begins with a TAP plan or first result; or if it has TAP results that do not occur in prose. A log may put a prefix
    before each line. Any other body has no cases.
    """
    documents, rest = _junit_within(without_prefixes(console_text(text), _BEGUN))
    found = tuple(case for junit in documents for case in _read("JUnit", parse_junit, junit))
    return found + (read_tap(rest, whole=False) or ())


def parse_tap(text: str) -> tuple[Case, ...]:
    """Return the cases in TAP 13, TAP 14 or KTAP; the version line may be missing, and lines may have log prefixes.

    A result that is not ok has failed, unless it is marked as skipped or as expected to fail (`# TODO`). Planned tests
    that did not run, a missing plan, and `Bail out!` are failed cases.

    Raises:
        CasesError: The text has no version line, no result and no plan.
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


def _junit_within(text: str) -> tuple[list[str], str]:
    """Return the JUnit XML documents in a text, and the rest of the text.

    XML that is cut off before its root element is known counts as JUnit.
    """
    whole = text.strip()
    if whole and any(beginning.startswith(whole) for beginning in _BEGINNINGS):
        return [whole], ""
    documents: list[str] = []
    rest: list[str] = []
    at = 0
    while span := _document(text, at):
        start, stop = span if len(documents) < _DOCUMENTS else (span[0], len(text))
        lines = "\n" * text.count("\n", 0, start)  # keep the line numbers of the whole text
        documents.append(lines + text[start:stop])
        rest.append(text[at:start])
        at = stop
    return documents, "".join([*rest, text[at:]])


def _document(text: str, at: int) -> tuple[int, int] | None:
    """Return the offsets of the beginning and end of the next document; None if there is none."""
    while found := _XML.search(text, at):
        start = found.end() - len(found[0].lstrip(" \t"))
        begin = _end(_PROLOG, text, start)
        root = _ROOT.match(text, begin)
        if root:
            return start, _end_of(text, root)
        if found["declared"] and _CUT.match(text, begin):
            return start, len(text)
        at = max(begin, found.end() + 1)
    return None


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _end_of(text: str, root: re.Match[str]) -> int:
    """Return the offset after the root's last closing tag; the end of the text if there is none."""
    closing = f"</{root[1]}>"
    at = text.rfind(closing, root.end())
    return len(text) if at < 0 else at + len(closing)
