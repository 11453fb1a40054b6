"""TAP and KTAP: as programs write them, and the corners of the specifications."""

from __future__ import annotations

import pytest
from told_cases import tap, told

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.cases import cases_in_body, parse_tap
from pytest_dispatch.results.junit_reader import CasesError
from pytest_dispatch.results.tap import MOST_CASES, MOST_LINES

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED

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


@pytest.mark.draw(2, of="as much as may come")
def test_too_many_cases_end_in_a_failure() -> None:
    cases = parse_tap("ok\n" * (MOST_CASES + 5))
    assert len(cases) == MOST_CASES
    message = f"more than {MOST_CASES} cases: the rest was not read"
    assert cases[-1] == Case(name="TAP", outcome=FAILED, message=message)


@pytest.mark.draw(2, of="as much as may come")
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
