"""The JUnit file of a round, which a selection may have written itself."""

from __future__ import annotations

import pytest
from rounds import junit

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.results.junit_reader import CasesError
from pytest_dispatch.results.round_file import read_results


def test_each_case_has_its_outcome_by_class_and_name() -> None:
    assert read_results(junit(a="passed", b="failure", c="error", d="skipped")) == {
        "racks::a": Outcome.PASSED,
        "racks::b": Outcome.FAILED,
        "racks::c": Outcome.ERROR,
        "racks::d": Outcome.SKIPPED,
    }


def test_of_a_case_that_is_there_twice_the_worse_outcome_counts() -> None:
    twice = (
        "<testsuite><testcase classname='x' name='a'/><testcase classname='x' name='a'><error/></testcase></testsuite>"
    )
    assert read_results(f"<testsuites>{twice}</testsuites>") == {"x::a": Outcome.ERROR}


def test_a_declaration_of_an_encoding_that_is_none_does_no_harm() -> None:
    text = f'<?xml version="1.0" encoding="bogus"?>{junit(a="passed")}'
    assert read_results(text) == {"racks::a": Outcome.PASSED}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<testsuites>",
        "no XML",
        "<testsuite>" * 100_000 + "</testsuite>" * 100_000,
        "<!DOCTYPE x [<!ENTITY a 'b'>]><testsuites>&a;</testsuites>",
        "<html/>",
    ],
    ids=["nothing", "torn", "text", "deep", "entities", "another document"],
)
def test_what_cannot_be_read_is_said_in_a_line(text: str) -> None:
    with pytest.raises(CasesError) as refused:
        read_results(text)
    assert "\n" not in str(refused.value)
