"""Test cases out of what a workload reports: JUnit XML, TAP, KTAP, or either within the report's body.

Pure text, from machines that may be broken or hostile: sizes are bounded and XML that could refer to anything
outside itself is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from xml.parsers import expat

from junitparser import Attr, Error, Failure, JUnitXml, JUnitXmlError, TestCase, TestSuite

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.report.tap import MOST_CASES, read_tap
from pytest_dispatch.report.tap_lines import LOG_PREFIX

MOST_TEXT = 32 * 2**20  # characters of JUnit XML; a whole report has at most half of that
_MOST_ELEMENTS = 500_000
_DEPTH = 64  # elements within elements
_NAME = 400

_VERSION = re.compile(rf"^(?:{LOG_PREFIX})?[ \t]*(?:TAP version 1[34]|KTAP version 1)[ \t]*\r?$", re.MULTILINE)
_ANY_VERSION = re.compile(rf"^(?:{LOG_PREFIX})?[ \t]*K?TAP version [0-9]{{1,3}}[ \t]*\r?$", re.MULTILINE)
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
#: What XML 1.0 has no place for (section 2.2), written out or as a reference; consoles are full of it.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
    "|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));"
)


class CasesError(ValueError):
    """What was given as test results is none; the text says in one line what was expected and what came."""


def find_cases(*, cases: tuple[Case, ...] = (), junit: str = "", tap: str = "", body: str = "") -> tuple[Case, ...]:
    """The cases of a report: those sent as such and in results; only where there are none, those in its body.

    Raises:
        CasesError: `junit` or `tap` is given and is no such thing.
    """
    given = cases + (parse_junit(junit) if junit else ()) + (parse_tap(tap) if tap else ())
    return given or cases_in_body(body)


def cases_in_body(text: str) -> tuple[Case, ...]:
    """The cases in a report's body, if it is JUnit XML as a whole or has a line `TAP version 13` or the like.

    Anything else, also what only looks like results, is a body without cases.
    """
    begin = text[:100].lstrip("\ufeff \t\r\n")
    if begin.startswith(("<?xml", "<testsuite")):
        try:
            return parse_junit(text)
        except CasesError:
            return ()
    version = _VERSION.search(text)
    return (read_tap(text, version.start()) or ()) if version else ()


def parse_tap(text: str) -> tuple[Case, ...]:
    """The cases in TAP 13 or 14 or KTAP, also without a version line, and in a kernel's log.

    A result that is not ok has failed, unless it was to be skipped, or to fail (`# TODO`). Tests that were planned
    and did not run, and `Bail out!`, are failed cases.

    Raises:
        CasesError: There is neither a result nor a plan in it.
    """
    version = _ANY_VERSION.search(text)
    cases = read_tap(text, version.start() if version else 0)
    if cases is None:
        raise CasesError("expected TAP with results such as 'ok 1 - name' or a plan such as '1..8', got neither")
    return cases


def parse_junit(text: str) -> tuple[Case, ...]:
    """The cases in JUnit XML, named `classname.name`.

    A failure and an error are both the workload's: its test did not pass, whatever the runner calls it. (The outcome
    `error` is kept for faults of the lab.)

    Raises:
        CasesError: It is no JUnit XML, or larger or deeper than any is, or declares a document type.
    """
    if len(text) > MOST_TEXT:
        raise CasesError(f"expected JUnit XML of at most {MOST_TEXT} characters, got {len(text)}")
    clean = _FORBIDDEN.sub("", text.lstrip("\ufeff"))
    data = _DECLARATION.sub("", clean, count=1).strip().encode()  # it may name an encoding that is no longer so
    _Guard().check(data)
    try:
        root = _JUnitXml.fromstring(data)
    except JUnitXmlError as error:
        raise CasesError("expected JUnit XML with <testsuites> or <testsuite> outside, got another") from error
    return tuple(_case(found) for suite in root for found in suite)


class _Guard:
    """Reads XML through once, before anything is built of it."""

    def __init__(self) -> None:
        self._depth = 0
        self._elements = 0
        self._cases = 0

    def check(self, data: bytes) -> None:
        parser = expat.ParserCreate("utf-8", "}")  # with namespaces, as the tree is built later
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise CasesError(f"expected JUnit XML, got what is not well-formed: {error}") from error

    def _doctype(self, *_: object) -> None:
        # entities can only be declared there: no billion laughs, nothing read from elsewhere
        raise CasesError("expected JUnit XML without a document type declaration, got one")

    def _start(self, name: str, _: object) -> None:
        self._depth += 1
        self._elements += 1
        self._cases += name == "testcase"
        if self._depth > _DEPTH or self._elements > _MOST_ELEMENTS:
            raise CasesError(
                f"expected JUnit XML with at most {_MOST_ELEMENTS} elements, {_DEPTH} within each other, got more"
            )
        if self._cases > MOST_CASES:
            raise CasesError(f"expected at most {MOST_CASES} test cases, got more")

    def _end(self, *_: object) -> None:
        self._depth -= 1


class _TestCase(TestCase):
    status = Attr()  # GoogleTest: `notrun` for a disabled test


class _TestSuite(TestSuite):
    testcase = _TestCase


class _JUnitXml(JUnitXml):
    testsuite = _TestSuite


def _case(found: TestCase) -> Case:
    results = found.result
    bad = [result for result in results if isinstance(result, (Failure, Error))]
    outcome = Outcome.PASSED
    if bad:
        outcome = Outcome.FAILED
    elif results or (isinstance(found, _TestCase) and found.status == "notrun"):
        outcome = Outcome.SKIPPED
    texts = [text for result in bad or results for text in _said(result.message, result.text)]
    name = ".".join(filter(None, (found.classname, found.name))) or "unnamed"
    return Case(name=name[:_NAME], outcome=outcome, duration=_duration(found), message="\n".join(texts))


def _said(message: str | None, text: str | None) -> Iterator[str]:
    """Message and text of a result, where the text does not repeat the message."""
    head, rest = (message or "").strip(), (text or "").strip()
    if head and not rest.startswith(head):
        yield head
    if rest:
        yield rest


def _duration(found: TestCase) -> float:
    try:
        seconds = found.time or 0.0
    except ValueError:  # some writers put words there
        return 0.0
    return seconds if isfinite(seconds) and seconds > 0 else 0.0
