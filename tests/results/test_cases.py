"""Test cases out of JUnit XML, TAP and KTAP: real samples, the specifications' corners, and hostile text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.cases import cases_in_body, find_cases, parse_tap
from pytest_dispatch.results.junit_reader import MOST_TEXT, CasesError, parse_junit
from pytest_dispatch.results.tap import MOST_CASES, MOST_LINES

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


def told(cases: tuple[Case, ...]) -> list[tuple[str, str]]:
    return [(case.name, case.outcome.value) for case in cases]


def tap(text: str) -> list[tuple[str, str]]:
    return told(parse_tap(dedent(text)))


# TAP as programs write it

NODE = """\
TAP version 13
# Subtest: top level
    # Subtest: first inside
    ok 1 - first inside
      ---
      duration_ms: 1250.5
      ...
    # Subtest: second inside
    not ok 2 - second inside
      ---
      duration_ms: 0.5
      location: '/t.mjs:5:3'
      failureType: 'testCodeFailure'
      error: |-
        Expected values to be strictly equal:

        1 !== 2
      code: 'ERR_ASSERTION'
      ...
    1..2
not ok 1 - top level
  ---
  duration_ms: 4.1
  type: 'suite'
  failureType: 'subtestsFailed'
  error: '1 subtest failed'
  ...
# Subtest: alone
ok 2 - alone # SKIP not here
  ---
  duration_ms: 0.1
  ...
1..2
# tests 4
# pass 1
# fail 1
"""


def test_node_with_subtests_and_yaml() -> None:
    first, second, alone = parse_tap(NODE)
    assert first == Case(name="top level.first inside", outcome=PASSED, duration=1.2505)
    assert (second.name, second.outcome, second.duration) == ("top level.second inside", FAILED, 0.0005)
    assert second.message.splitlines()[0] == "duration_ms: 0.5"
    assert "  Expected values to be strictly equal:" in second.message.splitlines()
    assert alone == Case(name="alone", outcome=SKIPPED, duration=0.0001, message="not here")


TEST_MORE = """\
1..4
ok 1 - the first
not ok 2 - the second
#   Failed test 'the second'
#   at t/a.t line 4.
#          got: '1'
#     expected: '2'
    # Subtest: inner
    ok 1 - a
    not ok 2 - b # TODO later
    #   Failed (TODO) test 'b'
    1..2
ok 3 - inner
not ok 4 - last
# Looks like you failed 2 tests of 4.
"""


def test_perls_test_more_explains_behind_the_result() -> None:
    first, second, a, b, last = parse_tap(TEST_MORE)
    assert told((first, a, last)) == [("the first", "passed"), ("inner.a", "passed"), ("last", "failed")]
    assert second.message.splitlines()[0] == "Failed test 'the second'"
    assert second.message.splitlines()[-1] == "expected: '2'"
    assert (b.name, b.outcome) == ("inner.b", SKIPPED)
    assert b.message.splitlines() == ["later", "Failed (TODO) test 'b'"]
    assert last.message == ""


KSELFTEST = """\
TAP version 13
1..4
# timeout set to 45
# selftests: net: tls
# TAP version 13
# 1..3
# # Starting 3 tests from 1 test cases.
# #  RUN           global.tls ...
# ok 1 global.tls
# #  RUN           global.keysize ...
# # tls.c:42:keysize:Expected 1 (1) == 2 (2)
# not ok 2 global.keysize
# ok 3 global.zc # SKIP no zerocopy
# # FAILED: 2 / 3 tests passed.
not ok 1 selftests: net: tls # exit=1
# timeout set to 45
# selftests: net: run.sh
# something happened
ok 2 selftests: net: run.sh
# selftests: net: hang.sh
# waiting
not ok 3 selftests: net: hang.sh # TIMEOUT 45 seconds
ok 4 selftests: net: none.sh # SKIP
"""


def test_kselftest_shows_tests_within_tests_behind_hashes() -> None:
    tls, keysize, zc, run, hang, none = parse_tap(KSELFTEST)
    suite = "selftests: net: tls"
    assert told((tls, keysize, zc)) == [
        (f"{suite}.global.tls", "passed"),
        (f"{suite}.global.keysize", "failed"),
        (f"{suite}.global.zc", "skipped"),
    ]
    assert "tls.c:42:keysize:Expected 1 (1) == 2 (2)" in keysize.message
    assert zc.message == "no zerocopy"
    assert (run.name, run.outcome) == ("selftests: net: run.sh", PASSED)
    assert (hang.outcome, hang.message.splitlines()) == (
        FAILED,
        ["TIMEOUT 45 seconds", "selftests: net: hang.sh", "waiting"],
    )
    assert none.outcome is SKIPPED


KUNIT = """\
[    0.000000] Linux version 6.8.0
[    0.060000] KTAP version 1
[    0.060000] 1..2
[    0.060100]     KTAP version 1
[    0.060200]     # Subtest: example
[    0.060300]     # module: kunit_example_test
[    0.060400]     1..3
[    0.060500]     # example_simple_test: initializing
[    0.060600]     # example_simple_test: EXPECTATION FAILED at lib/kunit/kunit-example-test.c:29
[    0.060600]     Expected 1 + 1 == 3, but
[    0.060600]         1 + 1 == 2 (0x2)
[    0.060700]     not ok 1 example_simple_test
[    0.060800]     ok 2 example_skip_test # SKIP this test should be skipped
[    0.060900]         KTAP version 1
[    0.061000]         # Subtest: example_params_test
[    0.061100]         ok 1 example value 2
[    0.061200]         ok 2 example value 1
[    0.061300]     # example_params_test: pass:2 fail:0 skip:0 total:2
[    0.061400]     ok 3 example_params_test
[    0.061500] # example: pass:3 fail:1 skip:1 total:5
[    0.061600] # Totals: pass:3 fail:1 skip:1 total:5
[    0.061700] not ok 1 example
[    0.061800] usb 1-1: new high-speed USB device
<6>[    0.062000][    T1] ok 2 nothing_within
[    0.070000] ok, all is well
"""


def test_kunit_in_the_kernels_log() -> None:
    simple, *others = parse_tap(KUNIT)
    assert (simple.name, simple.outcome) == ("example.example_simple_test", FAILED)
    assert simple.message.splitlines()[-3:] == [
        "example_simple_test: EXPECTATION FAILED at lib/kunit/kunit-example-test.c:29",
        "Expected 1 + 1 == 3, but",
        "1 + 1 == 2 (0x2)",
    ]
    assert told(tuple(others)) == [
        ("example.example_skip_test", "skipped"),
        ("example.example_params_test.example value 2", "passed"),
        ("example.example_params_test.example value 1", "passed"),
        ("nothing_within", "passed"),
    ]
    assert cases_in_body(KUNIT) == parse_tap(KUNIT)


def test_the_nested_example_of_the_ktap_specification() -> None:
    assert tap(
        """\
        KTAP version 1
        1..3
          KTAP version 1
          1..1
            KTAP version 1
            1..1
            # test_1: initializing test_1
            ok 1 test_1
          ok 1 example_test_1
        ok 1 main_test
          KTAP version 1
          1..2
          ok 1 test_1
          not ok 2 test_2
        not ok 2 second
        ok 3 # SKIP
        """
    ) == [
        ("main_test.example_test_1.test_1", "passed"),
        ("second.test_1", "passed"),
        ("second.test_2", "failed"),
        ("test 3", "skipped"),
    ]


# TAP, the fine print


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ok", ("test 1", "passed")),
        ("ok 1", ("test 1", "passed")),
        ("not ok", ("test 1", "failed")),
        ("ok 1 name", ("name", "passed")),
        ("ok - name", ("name", "passed")),
        ("ok 1 - -v works", ("-v works", "passed")),
        ("ok 1 -v works", ("-v works", "passed")),
        ("ok 1 - 2nd", ("2nd", "passed")),
        ("ok 2nd", ("2nd", "passed")),
        (r"ok 1 - issue \#12 \\ done", (r"issue #12 \ done", "passed")),
        ("ok 1 - issue #12", ("issue #12", "passed")),
        ("not ok 1 - a # TODO not yet", ("a", "skipped")),
        ("ok 1 - a # todo done already", ("a", "passed")),
        ("ok 1 - a # Skipped: no", ("a", "skipped")),
        ("not ok 1 - a # SKIP no", ("a", "skipped")),
        ("not ok 1 - a #SKIP", ("a", "skipped")),
        ("not ok 1 - a # XFAIL known", ("a", "skipped")),
        (r"not ok 1 - a \# SKIP no", ("a # SKIP no", "failed")),
        ("not ok 1 - a # exit=1", ("a", "failed")),
        ("ok 1 - a # time=1.5ms", ("a", "passed")),
        ("ok\t1\t-\ta", ("a", "passed")),
    ],
)
def test_a_result_line(line: str, expected: tuple[str, str]) -> None:
    assert told(parse_tap(f"TAP version 14\n{line}\n1..1\n"))[0] == expected


@pytest.mark.parametrize("line", ["okay", "ok, then", "not okay", "Not ok", "1..", "1..x", "TAP version x"])
def test_what_only_looks_like_tap(line: str) -> None:
    assert told(parse_tap(f"{line}\n1..0 # SKIP no device\n")) == [("1..0", "skipped")]


@pytest.mark.parametrize(
    ("remark", "seconds"), [("time=250ms", 0.25), ("time=250", 0.25), ("time=2.5s", 2.5), ("time=2m", 120.0)]
)
def test_durations_behind_the_result(remark: str, seconds: float) -> None:
    [case] = parse_tap(f"1..1\nnot ok 1 - a # {remark}")
    assert case == Case(name="a", outcome=FAILED, duration=seconds)


def test_missing_tests_are_a_failure() -> None:
    [one, missing] = parse_tap("1..3\nok 1 - a\n")
    assert one.outcome is PASSED
    assert missing == Case(name="TAP", outcome=FAILED, message="1 of 3 planned tests ran")


def test_missing_tests_of_a_subtest_are_a_failure_within_it() -> None:
    assert tap(
        """\
        TAP version 14
            1..2
            ok 1 - a
        not ok 1 - outer
        1..1
        """
    ) == [("outer.a", "passed"), ("outer.TAP", "failed")]


def test_a_bail_out_is_a_failure_and_the_end() -> None:
    cases = parse_tap("1..3\nok 1 - a\nBail out! the network is gone\nok 2 - b\n")
    assert told(cases) == [("a", "passed"), ("Bail out!", "failed")]
    assert cases[1].message == "the network is gone"


def test_a_bail_out_of_a_subtest_is_the_end_too() -> None:
    assert tap("    1..2\n    ok 1 - a\n    bail out!\nok 1 - x\n") == [("a", "passed"), ("Bail out!", "failed")]


def test_a_plan_of_nothing_is_skipped() -> None:
    assert parse_tap("1..0 # SKIP no device") == (Case(name="1..0", outcome=SKIPPED, message="no device"),)
    assert parse_tap("1..0 # Skipped: no device") == (Case(name="1..0", outcome=SKIPPED, message="no device"),)


def test_a_subtest_of_nothing_is_told_by_its_own_result() -> None:
    assert tap("    1..0 # SKIP no device\nok 1 - a # SKIP no device\n1..1\n") == [("a", "skipped")]


def test_a_suite_that_failed_though_its_tests_passed_is_a_case() -> None:
    assert tap("    ok 1 - a\nnot ok 1 - outer\n1..1\n") == [("outer.a", "passed"), ("outer", "failed")]


def test_a_failure_within_a_suite_that_calls_itself_ok_stays_one() -> None:
    assert tap("    not ok 1 - a\nok 1 - outer\n1..1\n") == [("outer.a", "failed")]


def test_a_suite_that_was_expected_to_fail_skips_what_failed_within() -> None:
    assert tap("    not ok 1 - a\n    ok 2 - b\nnot ok 1 - outer # TODO later\n1..1\n") == [
        ("outer.a", "skipped"),
        ("outer.b", "passed"),
    ]


def test_a_subtest_that_broke_off_keeps_the_name_it_was_announced_by() -> None:
    broken = [("outer.a", "passed"), ("TAP", "failed")]
    assert tap("TAP version 14\n# Subtest: outer\n    ok 1 - a\n") == broken
    assert tap("TAP version 14\n    # Subtest: outer\n    ok - a\n") == broken


def test_documents_behind_one_another_each_have_their_plan() -> None:
    text = "TAP version 13\n1..2\nok 1 - a\nTAP version 13\n1..1\nok 1 - b\n"
    assert tap(text) == [("a", "passed"), ("TAP", "failed"), ("b", "passed")]


def test_a_suite_that_crashed_does_not_swallow_the_next() -> None:
    text = """\
        KTAP version 1
            KTAP version 1
            # Subtest: first
            1..2
            ok 1 a
            KTAP version 1
            # Subtest: second
            1..1
            ok 1 b
        """
    assert tap(text) == [
        ("first.a", "passed"),
        ("first.TAP", "failed"),
        ("second.b", "passed"),
        ("TAP", "failed"),
    ]


def test_a_yaml_block_that_never_ends_takes_nothing_with_it() -> None:
    first, second = parse_tap("not ok 1 - a\n  ---\n  message: x\nok 2 - b\n1..2\n")
    assert (first.message, second.name) == ("message: x", "b")
    [last] = parse_tap("1..1\nnot ok 1 - a\n  ---\n  message: x\n")
    assert last.message == "message: x"


def test_a_yaml_block_may_hold_what_looks_like_tap() -> None:
    [case] = parse_tap("not ok 1 - a\n  ---\n  output: |\n    not ok 2 - b\n    ...\n  ...\n1..1\n")
    assert case.message == "output: |\n  not ok 2 - b\n  ..."


def test_messages_stay_small() -> None:
    [case] = parse_tap("1..1\nnot ok 1 - a\n  ---\n" + "  line\n" * 100_000 + "  ...\n")
    assert len(case.message) < 20_000
    [case] = parse_tap("1..1\n" + "# remark\n" * 1000 + "not ok 1 - a\n")
    assert case.message.splitlines() == ["remark"] * 20
    [case] = parse_tap("1..1\nnot ok 1 - a\n#   Failed test 'a'\n" + "# more\n" * 1000)
    assert len(case.message.splitlines()) == 19


def test_names_stay_small() -> None:
    [case] = parse_tap(f"1..1\n    ok 1 - {'x' * 5000}\nok 1 - {'y' * 5000}\n")
    assert case.name == f"{'y' * 200}.{'x' * 199}"


def test_the_same_nested_too_deep_is_read_flat() -> None:
    text = "".join(f"{' ' * depth}ok 1 - {depth}\n" for depth in range(100))
    cases = parse_tap(text)
    assert len(cases) == 101
    assert cases[-2].name.endswith("99")


def test_too_many_cases_end_in_a_failure() -> None:
    cases = parse_tap("ok\n" * (MOST_CASES + 5))
    assert len(cases) == MOST_CASES
    message = f"more than {MOST_CASES} cases: the rest was not read"
    assert cases[-1] == Case(name="TAP", outcome=FAILED, message=message)


def test_too_many_lines_end_in_a_failure() -> None:
    cases = parse_tap("ok 1 - a\n" + "x\n" * MOST_LINES + "not ok 2 - b\n")
    assert told(cases) == [("a", "passed"), ("TAP", "failed")]
    assert cases[1].message == f"more than {MOST_LINES} lines: the rest was not read"
    assert told(parse_tap("x\n" * MOST_LINES + "not ok 2 - b\n")) == [told(cases)[1]]


def test_windows_line_ends_do_not_matter() -> None:
    assert cases_in_body(NODE.replace("\n", "\r\n")) == parse_tap(NODE)


@pytest.mark.parametrize("text", ["hello\n", "TAP version x\n", "# nothing\n", "okay"])
def test_what_is_no_tap_is_told(text: str) -> None:
    with pytest.raises(CasesError) as caught:
        parse_tap(text)
    assert str(caught.value) == (
        "expected TAP with results such as 'ok 1 - name' or a plan such as '1..8', got neither"
    )


# JUnit

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


# Results in a body


@pytest.mark.parametrize(
    "body",
    [
        "",
        "ok\nnot ok\n",
        "ok 12 of them\n",
        "see 1..3\n",
        "see: not ok 1 - a",
        "It is\nok 1 - a\n",
        "1..3 are planned\n",
        "The log says TAP version 13\nok 1 - a\n",
        "Note: TAP version 13\nok 1 - a\n",
        "On 2024-01-02 at 12:00 we ran TAP version 13\nok 1 - a\n",
        "TAP version 13 is what we write\nok 1 - a\n",
        "see <testsuite>\n",
        "<testsuitor>",
        "<?xml version='1.0'?><plist/>",
        "<?xml version='1.0'?><!-- <testsuite> -->\n<plist>",
        "<?xml version='1.0'?> is how it begins.",
        "<!-- <testsuite> -->",
        "All is well.\n<!-- this is hidden -->",
        "- <testsuite>\n- <testcase>\n",
        "1. not ok 1 is what a failure says\n",
        "OK\nNot OK to proceed\n",
    ],
)
def test_a_body_is_not_read_as_results_lightly(body: str) -> None:
    assert cases_in_body(body) == ()


@pytest.mark.parametrize(
    "body",
    [
        "It ran.\n\nTAP version 13\n1..1\nnot ok 1 - a\n\nThat was it.\n",
        "```tap\nTAP version 14\nnot ok 1 - a\n1..1\n```\n",
        "ok - not this\nKTAP version 1\n1..1\nnot ok 1 a\n",
        "[    1.000000] KTAP version 1\n[    1.000001] 1..1\n[    1.000002] not ok 1 a\n",
        "    TAP version 13\n    1..1\n    not ok 1 - a\n",
        "\ufeff<testsuite><testcase name='a'><error/></testcase></testsuite>",
        "\n <?xml version='1.0'?>\n<testsuite><testcase name='a'><error/></testcase></testsuite>",
        "It crashed.\nnot ok 1 - a\n1..1\n",
        "It ran.\nnot ok - a\n1..1\n",
        "It ran.\n  1..1\n  not ok 1 a\n",
        "[    1.000000] 1..1\n[    1.000001] not ok 1 a\n",
        "10%\r99%\r1..1\rnot ok 1 - a\r",
        "\0KTAP version 1\n1..1\n\u200bnot ok 1 a\n",
        "\x1b[0mTAP version 13\n1..1\n\x1b[31mnot\x1b[0m ok 1 - a\n",
        "tap version 13\n1..1\nnot ok 1 - a\n",
        "TAP version 13\n1..1\nnot ok 1 a\n".encode("utf-16-le").decode("latin-1"),
        "<testsuite><testcase name='a'><error/></testcase></testsuite>".encode("utf-16").decode("utf-8", "replace"),
        "10%\r\x1b[1m<testsuite><testcase name='a'><error/></testcase></testsuite>\x1b[0m",
        "<!-- written by x --><testsuite><testcase name='a'><error/></testcase></testsuite>",
        "<?xml-stylesheet href='x'?><testsuite><testcase name='a'><error/></testcase></testsuite>",
        "<j:testsuite xmlns:j='u'><j:testcase name='a'><j:error/></j:testcase></j:testsuite>",
        "[    1.000000] <testsuite>\n[    1.000001] <testcase name='a'><error/></testcase>\n[    1.2] </testsuite>",
        "vm-1 | <testsuite>\nvm-1 | <testcase name='a'><error/></testcase>\nvm-1 | </testsuite>\n",
        "Jan 02 12:00:00 host t[1]: <testsuite><testcase name='a'><error/></testcase></testsuite>\n",
    ],
)
def test_results_in_a_body_are_found(body: str) -> None:
    assert told(cases_in_body(body)) == [("a", "failed")]


def test_several_documents_in_a_body_are_all_read() -> None:
    good = "<testsuite><testcase name='a'/></testsuite>"
    bad = "<testsuite><testcase name='b'><error/></testcase></testsuite>"
    both = [("a", "passed"), ("b", "failed")]
    assert told(cases_in_body(f"<testsuites>{good}</testsuites>\n{bad}")) == both
    behind = "TAP version 13\n1..1\nnot ok 1 c"
    assert told(cases_in_body(f"<testsuites>{good}</testsuites>\nand\n{bad}\n{behind}")) == [*both, ("c", "failed")]
    assert told(cases_in_body(f"{good}\n{bad}")) == [("JUnit", "failed")], "where the first ends cannot be told"
    for cut in ("<testsuites><testsuite><testcase name='b'", "<testsuites>", "<?xml version='1.0'?>"):
        cases = cases_in_body(f"<testsuites>{good}</testsuites>\nonce more\n{cut}")
        assert told(cases) == [("a", "passed"), ("JUnit", "failed")]
    many = "".join(f"<a{n}:testsuite xmlns:a{n}='u'><testcase name='a'/></a{n}:testsuite>\n" for n in range(150))
    assert [case.outcome for case in cases_in_body(many)] == [PASSED] * 100 + [FAILED]


def test_a_reports_results_go_before_its_body() -> None:
    body = "TAP version 13\n1..1\nok 1 - body\n"
    junit = "<testsuite><testcase name='junit'/></testsuite>"
    assert told(find_cases(body=body)) == [("body", "passed")]
    assert told(find_cases(body=body, junit=junit)) == [("junit", "passed")]
    assert told(find_cases(body=body, junit=junit, tap="1..1\nok 1 - tap")) == [("junit", "passed"), ("tap", "passed")]
    sent = (Case(name="sent", outcome=PASSED),)
    assert told(find_cases(cases=sent, body=body, tap="1..1\nok 1 - tap")) == [("sent", "passed"), ("tap", "passed")]
    assert find_cases(body="all is well") == ()
    assert told(find_cases(body=body, tap="no results")) == [("TAP", "failed")]
    assert told(find_cases(body=body, tap="", junit="")) == [("JUnit", "failed"), ("TAP", "failed")]


# Any text

PIECES = st.sampled_from(
    [
        *("TAP version 13", "KTAP version 1", "1..3", "1..0 # SKIP x", "ok", "not ok 2", "ok 1 - a", "ok - a # TODO"),
        *("# Subtest: s", "# remark", "  ---", "  ...", "---", "...", "Bail out!", "text", "#", "# ok 1", "# 1..2"),
        *("#   Failed test 'a'", "# TAP version 13", "# # TAP version 13", "duration_ms: 1", "\\#", "[    1.0] "),
    ]
)
LINES = st.builds(lambda indent, piece: " " * indent + piece, st.integers(0, 9), PIECES)


@given(st.lists(LINES, max_size=40).map("\n".join))
def test_any_lines_of_tap_are_read(text: str) -> None:
    cases = cases_in_body(f"TAP version 14\n{text}")
    assert all(case.outcome in (PASSED, FAILED, SKIPPED) and case.name and case.duration >= 0 for case in cases)


@given(st.text(), st.text(alphabet=st.characters()))
def test_any_text_is_read_or_refused(text: str, other: str) -> None:
    for given_text in (text, f"<testsuite><testcase name='a'><failure>{other}</failure></testcase></testsuite>"):
        for parse in (parse_tap, parse_junit):
            with suppress(CasesError):
                assert all(case.name for case in parse(given_text))
    assert isinstance(cases_in_body(f"<?xml{text}"), tuple)


@given(st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_bytes_are_read_or_refused(text: str) -> None:
    assert isinstance(cases_in_body(f"<testsuite>{text}</testsuite>"), tuple)
    assert isinstance(cases_in_body(f"TAP version 13\nok 1 - {text}"), tuple)


NAMES = (
    st.text(alphabet="abc é.:-", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda name: name and not name.startswith("-"))
)
TREES = st.recursive(
    st.sampled_from([PASSED, FAILED, SKIPPED]),
    lambda inner: st.lists(st.tuples(NAMES, inner), min_size=1, max_size=4),
    max_leaves=12,
)


def written(tree: object, indent: int = 0) -> list[str]:
    """A tree of tests as TAP 14 has it."""
    lines: list[str] = []
    assert isinstance(tree, list)
    for number, (name, inner) in enumerate(tree, 1):
        if isinstance(inner, list):
            lines += [f"{' ' * indent}# Subtest: {name}", *written(inner, indent + 4)]
        ok = "not ok" if FAILED in outcomes(inner) else "ok"
        lines.append(f"{' ' * indent}{ok} {number} - {name}{' # SKIP' if inner is SKIPPED else ''}")
    return [*lines, f"{' ' * indent}1..{len(tree)}"]


def outcomes(tree: object) -> list[object]:
    return [one for _, inner in tree for one in outcomes(inner)] if isinstance(tree, list) else [tree]


def leaves(tree: object, prefix: str = "") -> list[tuple[str, object]]:
    assert isinstance(tree, list)
    found: list[tuple[str, object]] = []
    for name, inner in tree:
        if isinstance(inner, list):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", inner))
    return found


@given(st.lists(st.tuples(NAMES, TREES), min_size=1, max_size=4))
def test_a_tree_of_tests_is_read_as_it_was_written(tree: list[object]) -> None:
    assert told(parse_tap("\n".join(["TAP version 14", *written(tree)]))) == leaves(tree)


def steps(work: Callable[[], object]) -> int:
    """How many calls a piece of work takes, also of functions written in C."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


HOSTILE: dict[str, Callable[[int], str]] = {
    "results": lambda n: "ok\n" * n,
    "remarks before a failure": lambda n: "# x\n" * n + "not ok\n",
    "ever deeper": lambda n: "".join(f"{' ' * (at % 40)}ok {at} - x\n" for at in range(n)),
    "up and down": lambda n: "1..1\n    ok 1 - x\n        ok 2 - x\n" * n,
    "expected failures within": lambda n: "    not ok 1 - x\nnot ok 1 # TODO\n" * n,
    "blocks": lambda n: "not ok\n  ---\n  x\n" * n,
    "an endless block": lambda n: "not ok\n  ---\n" + "  x\n" * n,
    "documents": lambda n: "TAP version 14\n1..9\n" * n,
    "hashes": lambda n: "# TAP version 14\n# ok 1\n" * n,
    "subtests announced": lambda n: "# Subtest: x\n    # Subtest: y\n" * n,
    "braces": lambda n: "ok 1 - x {\n    ok 1\n}\n" * n,
    "braces that stay open": lambda n: "ok 1 - x {\n    ok 1 {\n" * n,
    "plans": lambda n: "1..1\n" * n,
    "prefixes": lambda n: "".join(f"{'a:' * (at % 90)} TAP version 13\n" for at in range(n)),
    "numbers": lambda n: "".join(f"ok {at}\n" for at in range(n)),
    "documents of JUnit": lambda n: "".join(f"<a{at}:testsuite></a{at}:testsuite>\n" for at in range(n)),
    "beginnings of XML": lambda n: "<?xml-\n<!--\n" * n,
    "the log": lambda n: "[    1.000000] [    1.000000] ok\n" * n,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_text_takes_twice_the_work(kind: str) -> None:
    make = HOSTILE[kind]
    small, large = (steps(partial(cases_in_body, f"TAP version 14\n{make(n)}")) for n in (500, 1000))
    assert large < 2.2 * small


@pytest.mark.parametrize(
    "text",
    [
        "x" * 4_000_000,
        " " * 4_000_000,
        "ok 1 - " + "# " * 2_000_000,
        "not ok 1 - " + "\\" * 4_000_000,
        "not ok 1 # SKIP" + " " * 4_000_000 + "x",
        "[" * 4_000_000,
        "&#0" * 1_400_000,
        "&#" + "0" * 4_000_000,
        "<?xml" + " " * 4_000_000,
        "<testsuite" + " a" * 2_000_000,
        "1.." + "9" * 4_000_000,
        "duration_ms: " + "9" * 4_000_000,
        "<?xml ?>\n" * 400_000 + "<a>",
        "<!--" * 1_000_000,
        "# \n" * 1_000_000,
        "a: TAP version 13\n" + " " * 4_000_000,
        "a: <testsuite \n" + " " * 4_000_000,
        "a: <testsuite " * 300_000,
        "\r" * 4_000_000,
        "not" + " " * 4_000_000 + "ok 1",
        "a9999: <?xml \n" * 300_000,
        "<?xml-\n" * 500_000,
        "<!--\n" * 800_000,
        "<!-- -->" * 500_000,
        "<!DOCTYPE\n" * 400_000,
        "<!-- --><a:" * 400_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_line_of_four_megabytes_is_nothing_special(text: str) -> None:
    assert isinstance(cases_in_body(text), tuple)
    assert isinstance(cases_in_body(f"TAP version 13\nnot ok\n  ---\n{text}\n{text}"), tuple)
    with pytest.raises(CasesError):
        parse_junit(f"<testsuite>{text}")
