"""JUnit XML: as programs write it, and what is refused."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.cases import cases_in_body, find_cases
from pytest_dispatch.results.junit_reader import MOST_TEXT, CasesError, parse_junit
from pytest_dispatch.results.tap import MOST_CASES

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED

PYTEST = """\
<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" \
failures="1" skipped="2" tests="5" time="0.064" timestamp="2026-01-31T10:00:00.1" hostname="h"><testcase \
classname="tests.test_a.TestB" name="test_good[1-é]" time="0.012" /><testcase classname="tests.test_a" \
name="test_bad" time="0.001"><failure message="assert 1 == 2">def test_bad():
&gt;       assert 1 == 2
E       assert 1 == 2</failure></testcase><testcase classname="tests.test_a" name="test_setup" time="0.0"><error \
message="failed on setup with &quot;OSError&quot;">OSError</error></testcase><testcase classname="tests.test_a" \
name="test_skip" time="0.000"><skipped type="pytest.skip" message="no device">tests/test_a.py:9: no device\
</skipped></testcase><testcase classname="tests.test_a" name="test_xfail" time="0.000"><skipped \
type="pytest.xfail" message="" /></testcase></testsuite></testsuites>
"""


def test_what_pytest_writes() -> None:
    good, bad, setup, skip, xfail = parse_junit(PYTEST)
    assert good == Case(name="tests.test_a.TestB.test_good[1-é]", outcome=PASSED, duration=0.012)
    assert (bad.name, bad.outcome) == ("tests.test_a.test_bad", FAILED)
    assert bad.message.splitlines()[0] == "assert 1 == 2"
    assert (setup.outcome, setup.message) == (FAILED, 'failed on setup with "OSError"\nOSError')
    assert (skip.outcome, skip.message) == (SKIPPED, "no device\ntests/test_a.py:9: no device")
    assert (xfail.outcome, xfail.message) == (SKIPPED, "")
    assert cases_in_body(PYTEST) == parse_junit(PYTEST)


GOOGLETEST = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1" disabled="1" errors="0" time="0.001" name="AllTests">
  <testsuite name="A" tests="3" failures="1" disabled="1" errors="0" time="1,234.5">
    <testcase name="DISABLED_x" status="notrun" result="suppressed" time="0" classname="A" />
    <testcase name="y" status="run" time="1,234.5" classname="A">
      <failure message="a.cc:3&#x0A;Expected: 1" type=""><![CDATA[a.cc:3
Expected: 1]]></failure>
    </testcase>
    <testcase name="z" status="run" time="soon"/>
  </testsuite>
</testsuites>
"""


def test_what_googletest_writes() -> None:
    disabled, failed, last = parse_junit(GOOGLETEST)
    assert disabled.outcome is SKIPPED
    assert failed == Case(name="A.y", outcome=FAILED, duration=1234.5, message="a.cc:3\nExpected: 1")
    assert last == Case(name="z", outcome=PASSED)


SUREFIRE = """\
<?xml version="1.0" encoding="ISO-8859-1"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="s" time="-1">
  <properties><property name="a" value="b"/></properties>
  <testcase name="flaky" classname="c" time="nan"><flakyFailure message="x">y</flakyFailure></testcase>
  <testcase name="coloured" classname="c" time="-3"><failure message="&#27;[31mred">\x1b[0mé<rest/></failure>\
<system-out><![CDATA[\x00 out]]></system-out></testcase>
  <testsuite name="inner"><testcase name="deep"/></testsuite>
</testsuite>
"""


def test_what_surefire_writes() -> None:
    assert parse_junit(SUREFIRE) == (
        Case(name="c.flaky", outcome=PASSED),
        Case(name="c.coloured", outcome=FAILED, message="[31mred\n[0mé"),
        Case(name="deep", outcome=PASSED),
    )


def test_a_result_without_a_name_has_one() -> None:
    assert parse_junit("<testsuite><testcase/></testsuite>") == (Case(name="unnamed", outcome=PASSED),)


LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol1 "&lol;&lol;&lol;">]>
<testsuite><testcase name="&lol1;"/></testsuite>"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "without a document type declaration"),
        ('<!DOCTYPE t SYSTEM "file:///etc/passwd"><testsuite/>', "without a document type declaration"),
        ("<testsuite>", "not well-formed: no element found: line 1, column 12, at '<testsuite>'"),
        (
            "\n<?xml version='1.1'?>\n<testsuite>\né<<",
            "not well-formed: not well-formed (invalid token): line 4, column 3, at 'é<<'",
        ),
        ("", "ran no test: it is empty"),
        ("\ufeff\n", "not well-formed: no element found: line 1"),
        ("hello", "not well-formed: syntax error: line 1, column 1, at 'hello'"),
        ("<testsuite>&undefined;</testsuite>", "not well-formed: undefined entity: line 1, column 12"),
        ("<x:testsuite/>", "not well-formed: unbound prefix"),
        ("<html/>", "with <testsuites> or <testsuite> outside, got <html>"),
        ("<testsuite>" * 65 + "</testsuite>" * 65, "64 within each other, got more"),
        ("<testsuite>" + "<a/>" * 500_000 + "</testsuite>", "at most 500000 elements"),
        ("<testsuite>" + "<testcase/>" * (MOST_CASES + 1) + "</testsuite>", "at most 100000 test cases, got more"),
        (" " * (MOST_TEXT + 1), f"at most {MOST_TEXT} characters, got {MOST_TEXT + 1}"),
    ],
)
def test_junit_that_cannot_be_read_is_told_and_never_a_pass(text: str, words: str) -> None:
    with pytest.raises(CasesError) as caught:
        parse_junit(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    [case] = find_cases(junit=text)
    assert case == Case(name="JUnit", outcome=FAILED, message=f"unreadable: {caught.value}")
    if text.lstrip().startswith(("<testsuite", "<?xml")):
        assert cases_in_body(text) == (case,)


def test_a_doctype_in_a_message_is_no_declaration() -> None:
    [case] = parse_junit(
        "<testsuite><testcase name='a'><failure><![CDATA[<!DOCTYPE html>]]></failure></testcase></testsuite>"
    )
    assert case.message == "<!DOCTYPE html>"
