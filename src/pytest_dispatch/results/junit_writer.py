"""Writes a JUnit file with a test case for each case of a workload, for dashboards.

pytest's own `--junitxml` has one test case per item, and merges sub-tests into it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.plain_text import plain

if TYPE_CHECKING:
    import junitparser

# Characters that XML 1.0 forbids (section 2.2, Char), including lone surrogates. Compiled with the first text, as that
# takes milliseconds, and pytest waits for them even if it writes no file.
_FORBIDDEN = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


@dataclass(frozen=True, slots=True, kw_only=True)
class JunitCase:
    """A test case of the file.

    Attributes:
        group: Node id of the workload's item.
        name: Name of the case; the workload's name for the item itself.
    """

    group: str
    name: str
    outcome: Outcome
    seconds: float
    text: str = ""
    properties: tuple[tuple[str, str], ...] = ()


def write_junit(path: Path, cases: list[JunitCase]) -> None:
    """Write the file; create its folder if needed.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _document(cases).write(str(path))


def junit_text(cases: list[JunitCase]) -> bytes:
    """Return the content of the file."""
    told: bytes = _document(cases).tostring()  # type: ignore[no-untyped-call]
    return told


def _document(cases: list[JunitCase]) -> junitparser.JUnitXml:
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite("dispatch")
    for case in cases:
        suite.append(_element(case))  # type: ignore[no-untyped-call]  # add_testcase would recount all cases each time
    xml = JUnitXml()
    xml.append(suite)  # type: ignore[no-untyped-call]
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return xml


def _element(case: JunitCase) -> junitparser.TestCase:
    from junitparser import Error, Failure, Properties, Property, Skipped, TestCase

    element = TestCase(xml_text(case.name), xml_text(case.group), case.seconds)
    kinds = {Outcome.FAILED: Failure, Outcome.ERROR: Error, Outcome.SKIPPED: Skipped}
    if case.outcome in kinds:
        text = xml_text(case.text)
        result = kinds[case.outcome](text.partition("\n")[0])
        result.text = text
        element.result = [result]
    if case.properties:
        properties = Properties()  # type: ignore[no-untyped-call]
        for name, value in case.properties:
            properties.add_property(Property(name, xml_text(value)))
        element.append(properties)  # type: ignore[no-untyped-call]
    return element


def xml_text(text: str) -> str:
    """Return the text without characters that XML forbids and without terminal control sequences."""
    return re.sub(_FORBIDDEN, "", plain(text))
