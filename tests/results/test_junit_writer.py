"""The JUnit file with a test case for each case inside a workload."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.results.junit_writer import JunitCase, write_junit, xml_text

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


def junit(name: str = "snp.efi", outcome: Outcome = PASSED, text: str = "", **properties: str) -> JunitCase:
    return JunitCase(
        group="dir::snp.efi", name=name, outcome=outcome, seconds=1.5, text=text, properties=tuple(properties.items())
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "junit.xml"
    cases = [junit(machine="10.0.0.7", digest="sha256:ab"), junit("boot"), junit("attest", FAILED, "no SNP\nline 2")]
    write_junit(path, [*cases, junit("lab", ERROR, "no machine"), junit("migrate", SKIPPED, "one host")])
    (suite,) = JUnitXml.fromfile(str(path))
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("dispatch", 5, 1, 1, 1)
    assert suite.time == 7.5
    found = list(suite)
    assert [(case.classname, case.name, case.time) for case in found] == [
        ("dir::snp.efi", name, 1.5) for name in ("snp.efi", "boot", "attest", "lab", "migrate")
    ]
    results = [case.result for case in found]
    assert results[:2] == [[], []]
    assert [type(result[0]) for result in results[2:]] == [Failure, Error, Skipped]
    assert [(result[0].message, result[0].text) for result in results[2:]] == [
        ("no SNP", "no SNP\nline 2"),
        ("no machine", "no machine"),
        ("one host", "one host"),
    ]
    properties = [
        [(each.get("name"), each.get("value")) for each in element.iter("property")]
        for element in ET.parse(path).getroot().iter("testcase")
    ]
    assert properties == [[("machine", "10.0.0.7"), ("digest", "sha256:ab")], [], [], [], []]


def test_no_cases_is_a_file_too(tmp_path: Path) -> None:
    write_junit(tmp_path / "junit.xml", [])
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).tests == 0


def test_twice_as_many_cases_are_twice_the_work(tmp_path: Path) -> None:
    """Counted in calls, which no busy machine changes."""

    def calls(count: int) -> int:
        made = 0

        def note(_frame: object, event: str, _argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        cases = [junit(f"case {n}", FAILED, "no SNP") for n in range(count)]
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            write_junit(tmp_path / "junit.xml", cases)
        finally:
            sys.setprofile(before)
        return made

    calls(1)  # imports what it needs
    assert calls(1000) < 2.5 * calls(500)


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    write_junit(tmp_path / "junit.xml", [junit("one"), junit("two")])
    write_junit(tmp_path / "junit.xml", [junit("three")])
    assert [case.name for suite in JUnitXml.fromfile(str(tmp_path / "junit.xml")) for case in suite] == ["three"]


def test_where_there_is_no_writing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_junit(tmp_path / "file" / "junit.xml", [])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<&>\"' ünïcödé 漢字 😀", "<&>\"' ünïcödé 漢字 😀"),
        ("\x1b[31mred\x1b[0m \x00\x0b\x0c", "red "),
        ("\ufffe\uffff\ud800", ""),
        ("tab\tline\n", "tab\tline\n"),
    ],
)
def test_what_xml_cannot_hold(text: str, clean: str) -> None:
    assert xml_text(text) == clean


@given(st.text())
def test_any_text_makes_xml(text: str) -> None:
    element = ET.Element("a")
    element.text = xml_text(text)
    assert (ET.fromstring(ET.tostring(element)).text or "") == xml_text(text)


def test_hostile_names_and_texts_make_a_file_that_is_read_back(tmp_path: Path) -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    case = JunitCase(
        group=everything[:300],
        name=everything[:300],
        outcome=FAILED,
        seconds=0.0,
        text=everything,
        properties=(("p", everything[:300]),),
    )
    write_junit(tmp_path / "junit.xml", [case])
    (suite,) = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    (found,) = suite
    assert found.result[0].text == xml_text(everything)
