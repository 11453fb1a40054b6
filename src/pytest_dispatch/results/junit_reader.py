"""Reads JUnit XML: the cases in it, and what in it is broken or contradicts itself."""

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

MOST_TEXT = 32 * 2**20  # characters; a whole report has at most half of that
_MOST_ELEMENTS = 500_000
_DEPTH = 64  # elements within elements
_NAME = 400

_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
#: What XML 1.0 has no place for (section 2.2); consoles are full of it.
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
#: Attributes by which test runners state an outcome, and headers of suites count bad ones.
_STATES = ("status", "result", "outcome", "state", "success", "passed")
_BAD_COUNTS = ("failures", "failure", "failed", "errors", "error")
_TEXTS = ("system-out", "system-err", "properties")
#: What CTest says of a test that it could not run, and counts as failed, in spite of its `<skipped>`.
_NOT_RUN = "Unable to find executable"


class CasesError(ValueError):
    """What was given as test results is none; the text says in one line what was expected and what came."""


def parse_junit(text: str) -> tuple[Case, ...]:
    """Return the cases in JUnit XML, named `classname.name`.

    A failure and an error are both the workload's: its test did not pass, whatever the runner calls it. (The outcome
    `error` is kept for faults of the lab.) One that stands in a suite and not in a test, and a header that counts more
    than the suite's cases show, is a failed case, and so is XML without a single case.

    Raises:
        CasesError: It is no JUnit XML, or larger or deeper than any is, or declares a document type.
    """
    if len(text) > MOST_TEXT:
        raise CasesError(f"expected JUnit XML of at most {MOST_TEXT} characters, got {len(text)}")
    if not text.strip():
        raise CasesError("ran no test: it is empty")
    data = _clean(text).encode()
    _Guard().check(data)
    root = ET.fromstring(data)  # noqa: S314 - the guard has let no document type pass
    if _tag(root) not in _SUITES:
        raise CasesError(f"expected JUnit XML with <testsuites> or <testsuite> outside, got <{_tag(root)[:40]}>")
    cases: list[Case] = []
    _Reader(root).read(root, cases)
    return tuple(cases) or (Case(name="JUnit", outcome=Outcome.FAILED, message="ran no test"),)


def _clean(text: str) -> str:
    """The text without what XML forbids, each line where it was; what is declared of its encoding no longer holds."""
    text = _FORBIDDEN.sub("", text.lstrip("\ufeff"))
    text = _REFERENCE.sub(lambda found: found[0] if _allowed(found) else "", text) if "&#" in text else text
    text = _DECLARATION.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text, count=1)
    return text.rstrip()


def _allowed(reference: re.Match[str]) -> bool:
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    return 0 < code <= 0x10FFFF and not _FORBIDDEN.match(chr(code))


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
            why = expat.ErrorString(error.code)
            where = place(data.decode(), error.lineno, error.offset + 1)  # of which the parser counts characters
            raise CasesError(f"expected JUnit XML, got some that is not well-formed: {why}: {where}") from error

    def _doctype(self, *_: object) -> None:
        # entities can only be declared there: no billion laughs, nothing read from elsewhere
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
    """Walks through suites; `root` tells by whom they were written."""

    def __init__(self, root: ET.Element) -> None:
        # pytest counts its sub-tests, doctest and Catch2 each assertion, and none of them has a <testcase>
        self._counts_tests = not any(
            each.get("name") in ("pytest", "pytest tests") or "doctest_version" in each.attrib or _is_catch2(each)
            for each in (root, *root)
        )

    def read(self, suite: ET.Element, cases: list[Case]) -> None:
        """Add what a suite holds, suites within it too, and what its header counts beyond that."""
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
            elif _OUTCOMES.get(tag) is Outcome.FAILED:  # while the suite was imported, set up, or taken down
                cases.append(Case(name=_title(suite), outcome=Outcome.FAILED, message="\n".join(_said(child))))
            elif tag not in _TEXTS:
                self._children(child, suite, cases)

    def _contradiction(self, suite: ET.Element, shown: Counter[Outcome]) -> str:
        """What the header counts above what the cases show; nothing where a failure is shown, which decides."""
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
    if any(_tag(result) == "skipped" and result.get("type") == "todo" for result in results):  # Node: it was to fail
        outcome = Outcome.SKIPPED
    if any(result.get("message") == _NOT_RUN for result in results):
        outcome = Outcome.FAILED
    bad = [result for result in results if _OUTCOMES[_tag(result)] is Outcome.FAILED]
    texts = [text for result in bad or results for text in _said(result)]
    name = ".".join(filter(None, (found.get("classname"), found.get("name")))) or "unnamed"
    return Case(name=name[:_NAME], outcome=outcome, duration=_duration(found.get("time", "")), message="\n".join(texts))


def _results(element: ET.Element) -> Iterator[ET.Element]:
    """What tells a test's outcome, also where it stands in a step of the test."""
    return (each for each in _within(element) if _tag(each) in _OUTCOMES)


def _within(element: ET.Element) -> Iterator[ET.Element]:
    """The elements within it that may tell outcomes."""
    for child in element:
        if _tag(child) not in _TEXTS:
            yield child
        if _tag(child) not in (*_TEXTS, *_OUTCOMES):
            yield from _within(child)


def _stated(element: ET.Element) -> Iterator[Outcome]:
    """The outcomes that its attributes state; of several words, such as `FAILED (3)`, the first counts if it is bad."""
    for name, words in element.attrib.items():
        if name.lower() not in _STATES:
            continue
        outcome = outcome_of(words)
        first = outcome_of((re.findall("[a-z]+", words.lower()) or [""])[0])
        if outcome or first in BAD:
            yield outcome or Outcome.FAILED


def _said(result: ET.Element) -> Iterator[str]:
    """Message and text of a result, where the text does not repeat the message."""
    head, rest = result.get("message", "").strip(), (result.text or "").strip()
    if head and not rest.startswith(head):
        yield head
    if rest:
        yield rest


def _count(text: str) -> int:
    """A number of a header; some writers have none there, and some put other things."""
    found = re.fullmatch(r"\+?(\d+)(?:\.0*)?", text.strip().replace(",", ""))
    return int(found[1][:18]) if found else 0


def _duration(text: str) -> float:
    """Seconds: `0.16`, `0,16` as some countries write it, or with marks between thousands, `1,234.5`."""
    marks = [mark for mark in text if mark in ".,"]
    if len(marks) > 1 and len(set(marks)) == 1:  # thousands and nothing behind them
        text = text.replace(marks[0], "")
    elif marks:
        whole, _, rest = text.rpartition(marks[-1])
        text = f"{whole.replace(marks[0], '')}.{rest}"
    try:
        seconds = float(text or 0)
    except ValueError:  # some writers put words there
        return 0.0
    return seconds if isfinite(seconds) and seconds > 0 else 0.0
