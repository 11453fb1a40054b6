"""Reads the cases in JUnit XML, and detects broken or contradictory content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from xml.etree import ElementTree as ET
from xml.parsers import expat

from pytest_dispatch.core.model import BAD, Case, Outcome
from pytest_dispatch.results.outcome_words import outcome_of
from pytest_dispatch.results.tap import MOST_CASES
from pytest_dispatch.results.text_position import place

MOST_TEXT = 32 * 2**20  # maximum number of characters; a whole report has at most half as many
_MOST_ELEMENTS = 500_000
_DEPTH = 64  # maximum nesting of elements
_NAME = 400  # maximum number of characters of a name

_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
#: Characters that XML 1.0 forbids (section 2.2); console output is full of them.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile("&#(?:x0*([0-9a-fA-F]{1,6})|0*([0-9]{1,7}));")

_SUITES = ("testsuites", "testsuite")
_OUTCOMES = {
    "failure": Outcome.FAILED,
    "error": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "ignored": Outcome.SKIPPED,
    "disabled": Outcome.SKIPPED,
}
#: Attributes with which test runners state an outcome, and attributes of suites that count failures.
_STATES = ("status", "result", "outcome", "state", "success", "passed")
_BAD_COUNTS = ("failures", "failure", "failed", "errors", "error")
_TEXTS = ("system-out", "system-err", "properties")
#: CTest's message for a test that it could not run; CTest counts the test as failed, but writes `<skipped>`.
_NOT_RUN = "Unable to find executable"


class CasesError(ValueError):
    """The text is not test results; the message says in one line what was expected and what came."""


def parse_junit(text: str) -> tuple[Case, ...]:
    """Return the cases in JUnit XML, named `classname.name`.

    Both `failure` and `error` become failed cases, because either is the workload's fault; the outcome `error` is
    reserved for faults of the lab. A failure outside of a test becomes a failed case of its suite. So does a suite
    whose header counts more failures than its cases show, and XML without any case.

    Raises:
        CasesError: The text is not JUnit XML, is too large or too deeply nested, or declares a document type.
    """
    root = ET.fromstring(checked_xml(text))  # noqa: S314 - the guard has let no document type pass
    if _tag(root) not in _SUITES:
        raise CasesError(f"expected JUnit XML with <testsuites> or <testsuite> outside, got <{_tag(root)[:40]}>")
    cases: list[Case] = []
    _Reader(root).read(root, cases)
    return tuple(cases) or (Case(name="JUnit", outcome=Outcome.FAILED, message="ran no test"),)


def checked_xml(text: str) -> bytes:
    """Return JUnit XML as it can be given to any parser: without declaration, document type, and what XML forbids.

    Raises:
        CasesError: It is empty, no XML, too large or too deeply nested, or declares a document type.
    """
    if len(text) > MOST_TEXT:
        raise CasesError(f"expected JUnit XML of at most {MOST_TEXT} characters, got {len(text)}")
    if not text.strip():
        raise CasesError("ran no test: it is empty")
    data = _clean(text).encode()
    _Guard().check(data)
    return data


def _clean(text: str) -> str:
    """Return the text without forbidden characters and without the XML declaration, whose encoding no longer applies.

    Line numbers stay the same.
    """
    text = _FORBIDDEN.sub("", text.lstrip("\ufeff"))
    text = _REFERENCE.sub(lambda found: found[0] if _allowed(found) else "", text) if "&#" in text else text
    text = _DECLARATION.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text, count=1)
    return text.rstrip()


def _allowed(reference: re.Match[str]) -> bool:
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    return 0 < code <= 0x10FFFF and not _FORBIDDEN.match(chr(code))


class _Guard:
    """Checks XML against limits before a tree is built from it."""

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
            why = expat.ErrorString(error.code)
            where = place(data.decode(), error.lineno, error.offset + 1)  # the offset is in characters, from 0
            raise CasesError(f"expected JUnit XML, got some that is not well-formed: {why}: {where}") from error

    def _doctype(self, *_: object) -> None:
        # Only a document type can declare entities: no entity expansion ("billion laughs"), no external files.
        raise CasesError("expected JUnit XML without a document type declaration, got one")

    def _start(self, name: str, _: object) -> None:
        self._depth += 1
        self._elements += 1
        self._cases += name.rpartition("}")[2].lower() == "testcase"
        if self._depth > _DEPTH or self._elements > _MOST_ELEMENTS:
            raise CasesError(
                f"expected JUnit XML with at most {_MOST_ELEMENTS} elements, {_DEPTH} within each other, got more"
            )
        if self._cases > MOST_CASES:
            raise CasesError(f"expected at most {MOST_CASES} test cases, got more")

    def _end(self, *_: object) -> None:
        self._depth -= 1


class _Reader:
    """Walks through suites; `root` tells which test runner wrote them."""

    def __init__(self, root: ET.Element) -> None:
        # The headers of pytest count sub-tests, those of doctest and Catch2 assertions, which have no <testcase>.
        self._counts_tests = not any(
            each.get("name") in ("pytest", "pytest tests") or "doctest_version" in each.attrib or _is_catch2(each)
            for each in (root, *root)
        )

    def read(self, suite: ET.Element, cases: list[Case]) -> None:
        """Add the cases of a suite and of nested suites, and a failed case if the suite's header contradicts them."""
        begin = len(cases)
        self._children(suite, suite, cases)
        what = self._contradiction(suite, Counter(case.outcome for case in cases[begin:]))
        if what:
            cases.append(Case(name=_title(suite), outcome=Outcome.FAILED, message=what))

    def _children(self, element: ET.Element, suite: ET.Element, cases: list[Case]) -> None:
        for child in element:
            tag = _tag(child)
            if tag == "testcase":
                cases.append(_case(child))
            elif tag in _SUITES:
                self.read(child, cases)
            elif _OUTCOMES.get(tag) is Outcome.FAILED:  # an error in import, setup or teardown of the suite
                cases.append(Case(name=_title(suite), outcome=Outcome.FAILED, message="\n".join(_said(child))))
            elif tag not in _TEXTS:
                self._children(child, suite, cases)

    def _contradiction(self, suite: ET.Element, shown: Counter[Outcome]) -> str:
        """Return what the header counts beyond the cases; empty if a case has failed, which decides the outcome."""
        if shown[Outcome.FAILED]:
            return ""
        header = {name.lower(): value for name, value in suite.attrib.items()}
        bounds = dict.fromkeys(_BAD_COUNTS, 0)
        if self._counts_tests:
            skipped = shown[Outcome.SKIPPED]
            bounds |= {"tests": shown.total(), "skipped": skipped, "disabled": skipped}
        counted = {what: _count(header.get(what, "")) for what in bounds}
        if not any(counted[what] for what in _BAD_COUNTS) and BAD.intersection(_stated(suite)):
            return "its header says that it failed, and none of its cases did"
        return ", ".join(
            f"its header counts {counted[what]} {what}, its cases show {most}"
            for what, most in bounds.items()
            if counted[what] > most
        )


def _is_catch2(suite: ET.Element) -> bool:
    return suite.get("hostname") == "tbd"


def _title(suite: ET.Element) -> str:
    name = suite.get("name", "")
    return f"suite {name}"[:_NAME] if name else "JUnit"


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _case(found: ET.Element) -> Case:
    results = list(_results(found))
    said = [_OUTCOMES[_tag(result)] for result in results]
    said += _stated(found)
    said += [outcome for each in _within(found) for outcome in _stated(each) if outcome in BAD]
    outcome = Outcome.PASSED
    if BAD.intersection(said):
        outcome = Outcome.FAILED
    elif Outcome.SKIPPED in said:
        outcome = Outcome.SKIPPED
    if any(_tag(result) == "skipped" and result.get("type") == "todo" for result in results):  # Node: expected to fail
        outcome = Outcome.SKIPPED
    if any(result.get("message") == _NOT_RUN for result in results):
        outcome = Outcome.FAILED
    bad = [result for result in results if _OUTCOMES[_tag(result)] is Outcome.FAILED]
    texts = [text for result in bad or results for text in _said(result)]
    name = ".".join(filter(None, (found.get("classname"), found.get("name")))) or "unnamed"
    return Case(name=name[:_NAME], outcome=outcome, duration=_duration(found.get("time", "")), message="\n".join(texts))


def _results(element: ET.Element) -> Iterator[ET.Element]:
    """Return the elements that tell a test's outcome, including those in steps of the test."""
    return (each for each in _within(element) if _tag(each) in _OUTCOMES)


def _within(element: ET.Element) -> Iterator[ET.Element]:
    """Yield the nested elements that may tell outcomes."""
    for child in element:
        if _tag(child) not in _TEXTS:
            yield child
        if _tag(child) not in (*_TEXTS, *_OUTCOMES):
            yield from _within(child)


def _stated(element: ET.Element) -> Iterator[Outcome]:
    """Yield the outcomes in an element's attributes; of several words, as in `FAILED (3)`, a bad first word counts."""
    for name, words in element.attrib.items():
        if name.lower() not in _STATES:
            continue
        outcome = outcome_of(words)
        first = outcome_of((re.findall("[a-z]+", words.lower()) or [""])[0])
        if outcome or first in BAD:
            yield outcome or Outcome.FAILED


def _said(result: ET.Element) -> Iterator[str]:
    """Yield the message and the text of a result, without repeating the message."""
    head, rest = result.get("message", "").strip(), (result.text or "").strip()
    if head and not rest.startswith(head):
        yield head
    if rest:
        yield rest


def _count(text: str) -> int:
    """Return a number in a header; 0 if it is missing or not a number, as some test runners write."""
    found = re.fullmatch(r"\+?(\d+)(?:\.0*)?", text.strip().replace(",", ""))
    return int(found[1][:18]) if found else 0


def _duration(text: str) -> float:
    """Return seconds; accept `0.16`, `0,16` with a decimal comma, and `1,234.5` with thousands separators."""
    marks = [mark for mark in text if mark in ".,"]
    if len(marks) > 1 and len(set(marks)) == 1:  # only thousands separators
        text = text.replace(marks[0], "")
    elif marks:
        whole, _, rest = text.rpartition(marks[-1])
        text = f"{whole.replace(marks[0], '')}.{rest}"
    try:
        seconds = float(text or 0)
    except ValueError:  # some test runners write words
        return 0.0
    return seconds if isfinite(seconds) and seconds > 0 else 0.0
