"""What looked like results and is broken, contradicts itself or cannot be read is never a pass, and it says why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from junitparser import JUnitXml, JUnitXmlError, TestCase, TestSuite

from pytest_dispatch.core.model import Outcome, Policy, Report
from pytest_dispatch.core.verdict import judge_report, summary_of
from pytest_dispatch.results.cases import cases_in_body
from pytest_dispatch.results.report_body import read_report

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED
POLICY = Policy()
PRODUCERS = {path.name: path.read_text() for path in sorted((Path(__file__).parent / "producers").iterdir())}
JUNIT = {name: text for name, text in PRODUCERS.items() if name.endswith(".xml")}
TAP = {name: text for name, text in PRODUCERS.items() if name.endswith(".tap")}


def reported(**fields: object) -> Report:
    return read_report(json.dumps({"title": "t", **fields}).encode())


def outcome(**fields: object) -> Outcome:
    return judge_report(reported(**fields), POLICY)


# The kinds, one by one

CRASH = "Kernel panic - not syncing: Fatal exception"
DATED = (
    "[Tue Jan  2 12:00:00 2024] KTAP version 1\n[Tue Jan  2 12:00:00 2024] 1..1\n[Wed Jan 12 12:00:00 2024] {} 1 ex\n"
)


BROKEN: list[tuple[dict[str, object], str]] = [
    (
        {
            "junit": '<testsuites errors="1"><testsuite name="m" tests="0" errors="1">'
            '<error message="import"/></testsuite></testsuites>'
        },
        "suite m: import",
    ),
    (
        {
            "junit": '<testsuite tests="1" failures="1"><failure message="x"/>'
            '<testcase name="a"><skipped/></testcase></testsuite>'
        },
        "JUnit: x",
    ),
    (
        {"junit": '<testsuite name="s" failures="1"><testcase name="a"/></testsuite>'},
        "suite s: its header counts 1 failures, its cases show 0",
    ),
    (
        {"junit": '<testsuites errors="2"><testsuite><testcase name="a"/></testsuite></testsuites>'},
        "JUnit: its header counts 2 errors, its cases show 0",
    ),
    (
        {"junit": '<testsuite tests="3"><testcase name="a"/></testsuite>'},
        "JUnit: its header counts 3 tests, its cases show 1",
    ),
    ({"junit": '<testsuite><testcase name="a" status="FAILED"/></testsuite>'}, "a"),
    ({"junit": '<testsuite><testcase name="a"><s><failure/></s></testcase></testsuite>'}, "a"),
    ({"junit": '<testsuites><testcase name="a"><failure/></testcase></testsuites>'}, "a"),
    ({"junit": '<testsuite><group><testcase name="a"><error/></testcase></group></testsuite>'}, "a"),
    ({"junit": '<j:testsuite xmlns:j="u"><j:testcase name="a"><j:error/></j:testcase></j:testsuite>'}, "a"),
    (
        {
            "junit": '<testsuite><testcase name="a"><skipped message="Unable to find executable"/>'
            "</testcase></testsuite>"
        },
        "a: Unable to find executable",
    ),
    ({"junit": "<testsuites></testsuites>"}, "JUnit: ran no test"),
    ({"junit": '<testsuites><testsuite name="s" tests="0"/></testsuites>'}, "JUnit: ran no test"),
    ({"junit": ""}, "JUnit: unreadable: ran no test: it is empty"),
    ({"junit": " \n"}, "JUnit: unreadable: ran no test: it is empty"),
    ({"junit": "hello"}, "JUnit: unreadable: expected JUnit XML, got some that is not well-formed"),
    (
        {"body": '<?xml version="1.0"?>\n<testsuite>\n<testcase name="a" cl'},
        "got some that is not well-formed: unclosed token: line 3, column 1, at '<testcase name=\"'",
    ),
    ({"body": '<?xml version="1.0"?>\n'}, "JUnit: unreadable"),
    ({"body": "Results:\n<testsuites>\n<testsuite><testcase name='a'"}, "JUnit: unreadable"),
    ({"body": "Results:\n<testsuite><testcase name='a'><error/></testcase></testsuite>\nThe end."}, "a"),
    ({"tap": "1..0"}, "TAP: ran no test"),
    ({"tap": "    1..0"}, "TAP: ran no test"),
    ({"tap": "1..0 # nothing today"}, "TAP: ran no test"),
    ({"tap": ""}, "TAP: unreadable: ran no test: it is empty"),
    ({"tap": "hello"}, "TAP: unreadable: expected TAP with results such as"),
    ({"tap": "TAP version 13\nok 1 - a\nSegmentation fault\n"}, "TAP: no plan says how many tests were to"),
    ({"tap": "ok 1 - a\nok 2 - b\n"}, "TAP: no plan says how many tests were to run; 2 ran"),
    ({"tap": "TAP version 14\n    # Subtest: s\n    ok 1 - a\n"}, "TAP: no plan says"),
    ({"tap": "    # Subtest: s\n    ok 1 - a\n"}, "TAP: no plan says"),
    ({"tap": "1..5\nok 1 - a\nok 2 - b\n"}, "TAP: 2 of 5 planned tests ran"),
    ({"tap": "1..1\nok 1 - a\nok 2 - b\n"}, "TAP: 2 tests ran, and 1 were planned"),
    ({"tap": "1..0 # SKIP no device\nok 1 - a\n"}, "TAP: 1 tests ran, and 0 were planned"),
    ({"tap": "1..0 # SKIP no device\n    ok 1 - a\n"}, "TAP: a subtest ran whose own result is missing"),
    ({"tap": "1..1\nok 1 - a\n    # Subtest: s\n    ok 1 - b\n"}, "TAP: a subtest ran whose own"),
    ({"tap": "1..1\nok 1 - a\n1..1\n"}, "TAP: two plans, 1..1 and 1..1"),
    ({"tap": "1..1\n    1..2\n    ok 1 - a\n    1..1\nok 1 - s\n"}, "2 of 3 cases"),
    ({"tap": "1..1\nok 1 - a\nTAP version 13\n"}, "TAP: ran no test"),
    ({"tap": "1..1\nok 1 - s {\n    ok 1 - a\n    1..1\n"}, "TAP: the subtest 's' breaks off"),
    (
        {"tap": "1..1\nok 1 - a\n# Looks like your test exited with 255 just after 1.\n"},
        "TAP: Looks like your",
    ),
    ({"tap": "1..1\nok 1 - a\n# Totals: pass:0 fail:1 skip:0\n"}, "TAP: Totals: pass:0 fail:1"),
    ({"tap": "1..1\nok 1 - a\n# pass 0\n# fail 1\n"}, "TAP: fail 1"),
    ({"tap": "\ufeff1..1\nnot ok 1 - a\n"}, "a"),
    ({"tap": "\ufeffTAP version 13\n1..1\nok 1 - a\n\ufeffTAP version 13\n1..1\nnot ok 1 - b\n"}, "b"),
    ({"tap": "\x1b[1m1..1\x1b[0m\n\x1b[31mnot ok 1\x1b[0m - a\n"}, "a"),
    ({"body": f"KTAP version 1\n{CRASH}\n"}, "TAP: ran no test"),
    ({"body": f"[    1.000000] KTAP version 1\n[    1.000001] {CRASH}\n"}, "TAP: ran no test"),
    ({"body": "TAP version 12\n1..1\nnot ok 1 - a\n"}, "a"),
    ({"body": DATED.format("not ok")}, "ex"),
    ({"body": "1..2\nok 1 one\nnot ok 2 two\n"}, "two"),
    ({"body": "ok 1 one\n# out of order\n1..2\n"}, "TAP: 1 of 2 planned"),
    ({"body": "# Subtest: s\n    ok 1 one\n"}, "TAP: no plan"),
    ({"body": "Begin\nok 1 one\nok 2 two\n"}, "TAP: no plan"),
    ({"body": "Begin\nnot ok 3 three\n"}, "three"),
    ({"body": "Begin\n1..2\nand on\nok 1 one\n"}, "TAP: 1 of 2 planned"),
    ({"body": "\n1..2\nSegmentation fault\n"}, "TAP: 0 of 2 planned"),
    ({"body": "1..1\nnot ok 1 - before\nTAP version 13\n1..1\nok 1 - a\n"}, "before"),
    ({"body": "<testsuite><testcase name='a'/></testsuite>\nTAP version 13\n1..1\nnot ok 1 - b\n"}, "b"),
    ({"cases": [{"name": "fan", "result": "failed"}]}, "fan"),
    ({"cases": [{"name": "fan", "status": "FAIL"}]}, "fan"),
    ({"cases": [{"name": "fan", "outcome": "passed", "status": "not ok"}]}, "fan"),
    ({"cases": [{"name": "fan", "outcome": False}]}, "fan"),
    ({"cases": []}, "cases: ran no test"),
    ({"junit": "<testsuite><testcase name='a'/><TestCase name='b'><failure/></TestCase></testsuite>"}, "b"),
    ({"junit": "<testsuite name='s' status='failed'><testcase name='a'/></testsuite>"}, "suite s: its header says"),
    ({"junit": "<testsuites result='FAILED'><testsuite><testcase name='a'/></testsuite></testsuites>"}, "JUnit: its"),
    # what a line that was lost or came twice does to TAP
    ({"tap": "1..2\nok 1 a\nok 1 a\n"}, "TAP: two results are of test 1"),
    ({"tap": "1..2\nok 1 a\nok 3 c\n"}, "TAP: a result is of test 3, and 2 were planned"),
    ({"tap": "1..2\nok 0 a\nok 1 b\n"}, "TAP: a result is of test 0, and 2 were planned"),
    ({"tap": "1..1\nok 1 a\rnot ok 2 b\n"}, "b"),
    ({"tap": "1..1\nok 1 a\n\0not ok 2 b\n"}, "b"),
    ({"tap": "1..1\nok 1 a\n\u200bnot ok 2 b\n"}, "b"),
    ({"tap": "1..1\nnot ok 1 - a # skipper crashed\n"}, "a: skipper crashed"),
    ({"tap": "1..1\nnot ok 1 - handles #todolist\n"}, "handles #todolist"),
    ({"tap": "1..1\nok 1 - a\n# tests 2\n# pass 1\n# cancelled 1\n"}, "TAP: cancelled 1"),
    ({"tap": "1..1\nok 1 a\n# FAILED: 0 / 1 tests passed.\n"}, "TAP: FAILED: 0 / 1"),
]

#: What test runners may write beside <failure>.
STATED = [
    *(" status='FAILED (3)'>", " status='failed_timeout'>", " status='REGRESSION'>", " Status='fail'>"),
    *(" outcome='failed'>", " state='failed'>", " success='false'>", " passed='False'>"),
    *("><Failure/>", "><ERROR/>", "><subtest status='failed'/>", "><testcase name='b' status='failed'/>"),
]
HEADERS = ["failures='+1'", "failures='1.0'", "Failures='1'", "failed='1'", "failure='1'", "error='1'"]
HEADERS += [f"failures='{'1' * 40}'"]
BROKEN += [({"junit": f"<testsuite><testcase name='a'{stated}</testcase></testsuite>"}, "a") for stated in STATED]
BROKEN += [
    ({"junit": f"<testsuite {header}><testcase name='a'/></testsuite>"}, "JUnit: its header counts")
    for header in HEADERS
]
BAD = ["NOT OK", "Not ok", "not  ok", "not\tok", "not OK"]
BROKEN += [({"tap": f"1..1\nok 1 a\n{bad} 2 b\n"}, "b") for bad in BAD]


@pytest.mark.parametrize(("fields", "why"), [pytest.param(*each, id=str(at)) for at, each in enumerate(BROKEN)])
def test_broken_results_have_failed_and_say_why(fields: dict[str, object], why: str) -> None:
    report = reported(**fields)
    assert judge_report(report, POLICY) is FAILED
    assert why in summary_of([report], POLICY)


@pytest.mark.parametrize(
    ("prefix", "dated"),
    [
        ("[Tue Jan  2 12:00:00 2024] ", True),
        ("Jan 02 12:00:00 host kernel: ", True),
        ("Jan 02 12:00:00 host kernel: [    1.000000] ", True),
        ("2024-01-02T12:00:00.123456+01:00 host kernel[0]: ", True),
        ("12:00:00.123 INFO  - ", True),
        ("<6>[    1.000000][    T1] ", True),
        ("2024-01-02 12:00:00 INFO ", False),
        ("web-1  | ", False),
        ("serial0> ", False),
    ],
)
def test_a_log_may_put_something_before_each_line(prefix: str, dated: bool) -> None:
    def logged(*lines: str) -> str:
        return "".join(f"{prefix}{line}\n" for line in lines)

    def told(text: str) -> list[tuple[str, Outcome]]:
        return [(case.name, case.outcome) for case in cases_in_body(f"Booting\n{text}Done\n")]

    assert told(logged("KTAP version 1", "1..1", "    # Subtest: s", "    1..1", "    not ok 1 ex", "not ok 1 s")) == [
        ("s.ex", FAILED)
    ]
    assert told(logged("TAP version 13", "1..1", "ok 1 - a")) == [("a", PASSED)]
    assert told(logged("TAP version 13", CRASH)) == [("TAP", FAILED)]
    assert bool(told(logged("TAP version 13"))) is dated  # else it may be a sentence that ends so
    # without a version line
    assert told(logged("1..2", "ok 1 - a", "not ok 2 - b")) == [("a", PASSED), ("b", FAILED)]
    assert told(logged("ok 1 - a", "ok 2 - b")) == [("a", PASSED), ("b", PASSED), ("TAP", FAILED)]
    assert bool(told(logged("not ok 7 - a"))) is dated
    assert told(logged("Hello", "not ok 7 - a"))[0] == ("a", FAILED)
    assert bool(cases_in_body(logged("1..2"))) is dated


def test_what_stands_before_lines_may_change_with_time() -> None:
    assert [case.outcome for case in cases_in_body(DATED.format("not ok"))] == [FAILED]
    text = "app[9] INFO: TAP version 13\napp[9] DEBUG: 1..2\napp[10] INFO: ok 1 - a\napp[10] ERROR: not ok 2 - b\n"
    assert [case.outcome for case in cases_in_body(text)] == [PASSED, FAILED]


def test_subtests_in_braces_belong_to_the_result_before_them() -> None:
    text = "TAP version 14\n1..2\nnot ok 1 - disk {\n    ok 1 - size\n    not ok 2 - smart\n    1..2\n}\nok 2 - fan\n"
    assert [(case.name, case.outcome) for case in cases_in_body(text)] == [
        ("disk.size", PASSED),
        ("disk.smart", FAILED),
        ("fan", PASSED),
    ]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        *(("0,160", 0.16), ("0.160", 0.16), ("1,234.5", 1234.5), ("1.234,5", 1234.5), ("1,234,567", 1234567.0)),
        *(("1e-3", 0.001), ("", 0.0), ("soon", 0.0), ("-1", 0.0), ("nan", 0.0), ("inf", 0.0)),
    ],
)
def test_seconds_as_they_are_written_in_the_world(time: str, seconds: float) -> None:
    [case] = reported(junit=f"<testsuite><testcase name='a' time='{time}'/></testsuite>").cases
    assert case.duration == seconds


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        ({"junit": '<testsuite><testcase name="a" status="disabled"/></testsuite>'}, SKIPPED),
        ({"junit": '<testsuite><testcase name="a"><skipped/></testcase></testsuite>'}, SKIPPED),
        ({"junit": "\ufeff<testsuite><testcase name='a'/></testsuite>"}, PASSED),
        ({"junit": "<testsuite><testcase name='a&#0;&#xD800;&#xFFFE;&#x110000;&#27;&#65;'/></testsuite>"}, PASSED),
        ({"tap": "1..0 # SKIP no device"}, SKIPPED),
        ({"tap": "    1..0 # SKIP no device"}, SKIPPED),
        ({"body": "KTAP version 1\n1..0\nTAP version 13\n1..1\nok 1 - a\n"}, PASSED),  # a kernel without KUnit tests
        ({"tap": "\ufeffTAP version 13\n1..1\nok 1 - a\n"}, PASSED),
        ({"cases": [{"name": "a", "outcome": "ok"}]}, PASSED),
        ({"cases": [{"name": "a", "result": "PASSED", "duration": None, "message": None}]}, PASSED),
        ({"cases": [{"name": "a", "status": "Not-Run"}]}, SKIPPED),
        ({"cases": [], "result": "passed"}, PASSED),
        ({"cases": [], "junit": "", "tap": "", "result": "skipped"}, SKIPPED),
        ({"cases": [], "body": "TAP version 13\n1..1\nok 1 - a\n"}, PASSED),
        ({"result": "pass"}, PASSED),
        ({"result": "pass", "status": ""}, PASSED),
        ({"result": False, "status": ""}, FAILED),
        ({"status": "FAILURE"}, FAILED),
        ({"outcome": "error"}, Outcome.ERROR),
        ({"result": "passed", "junit": "<testsuite"}, FAILED),
        ({"result": "passed", "cases": [{"name": "a", "outcome": "failed"}]}, FAILED),
        ({"labels": ["skip"], "tap": "1..2\nok 1 - a\n"}, FAILED),
    ],
)
def test_what_is_whole_is_taken_as_it_is(fields: dict[str, object], right: Outcome) -> None:
    assert outcome(**fields) is right


@pytest.mark.parametrize(
    "said",
    [
        '"result": "failed", "result": "passed"',
        '"result": "failed", "res\\u0075lt": "passed"',
        '"result": "failed", "result": null',
        '"junit": "<testsuite", "junit": null',
        '"labels": ["fail"], "labels": []',
        '"cases": [{"name": "a", "outcome": "failed", "outcome": "passed"}]',
        '"body": "\x01", "result": "failed", "result": "passed"',
    ],
)
def test_a_field_that_says_two_things_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a report: the field '\w+' occurs twice, with different values$"):
        read_report(f'{{"title": "t", {said}}}'.encode())
    assert read_report(b'{"title": "t", "result": "passed", "result": "passed"}').result is PASSED


@pytest.mark.parametrize(
    ("said", "name", "meant"),
    [
        ('"Result": "failed"', "Result", "result"),
        ('"JUnit": "<testsuite"', "JUnit", "junit"),
        ('"TAP": "not ok 1"', "TAP", "tap"),
        ('"cases": [{"name": "a", "outcome": "passed", "Outcome": "failed"}]', "Outcome", "outcome"),
        ('"body": "\x01", "RESULT": "failed"', "RESULT", "result"),
    ],
)
def test_a_field_in_another_case_is_refused(said: str, name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"^expected a report: expected the field '{meant}', got '{name}'$"):
        read_report(f'{{"title": "t", {said}}}'.encode())


@pytest.mark.parametrize("field", ["result", "junit", "tap", "cases", "labels"])
def test_what_json_has_no_word_for_is_no_result(field: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a report: Expected"):
        read_report(f'{{"title": "t", "{field}": NaN}}'.encode())


@pytest.mark.parametrize("label", ["fail ", "\nFAIL\n", "\0fail", " fail"])
def test_a_label_is_known_whatever_is_around_it(label: str) -> None:
    assert outcome(labels=[label]) is FAILED


# Valid reports of real producers, and what may happen to them


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_good_report_passes(name: str) -> None:
    text = PRODUCERS[name]
    assert outcome(**{"junit" if name in JUNIT else "tap": text}) is PASSED
    assert outcome(body=text) is PASSED
    assert cases_in_body(text) == cases_in_body(f"Here it is:\n\n{text}\nThat was it.\n")
    assert len(cases_in_body(text)) > 1


def told_by_tap(text: str) -> list[str]:
    """The results, plans and braces in TAP, as another reader sees them."""
    found = []
    for line in text.splitlines():
        said = re.match(r"(?:\[ *[0-9.]+\])?[ #]*(?:(not ok|ok)\b(?!,)(.*)|(1\.\.[0-9]+)|([{}])$)", line)
        if said is None:
            continue
        expected = re.search("# (?:TODO|SKIP)", said[2] or "", re.IGNORECASE)
        brace = "{" if (said[2] or "").endswith(" {") else ""
        found.append(f"{said[3] or said[4] or said[1]}{' expected' if said[1] == 'not ok' and expected else ''}{brace}")
    return found


def told_by_junitparser(text: str) -> list[object]:
    """The cases in JUnit XML as junitparser sees them; what it says of XML that is none."""
    try:
        return list(_cases(JUnitXml.fromstring(text.encode())))
    except (SyntaxError, JUnitXmlError) as error:  # ElementTree's own is a SyntaxError, and so is lxml's
        return [type(error)]


def _cases(suites: Iterable[TestSuite | TestCase]) -> Iterator[object]:
    for each in suites:
        if isinstance(each, TestCase):
            yield each.name, [type(result) for result in each.result]
        else:
            yield from _cases(each)


def equivalent(name: str, text: str) -> bool:
    told: Callable[[str], object] = told_by_junitparser if name in JUNIT else told_by_tap
    return told(text) == told(PRODUCERS[name])


def says_nothing(text: str) -> bool:
    """Whether no results can be told from it, even by a person who looks for some."""
    told = re.search(r"(?m)TAP version [0-9]|^ *(?:(?:not )?ok|1\.\.)\b *[0-9]", text)
    return told is None and not text.strip().startswith("<")


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_report_that_is_cut_anywhere_does_not_pass(name: str) -> None:
    whole = PRODUCERS[name]
    field = "junit" if name in JUNIT else "tap"
    for end in range(len(whole)):
        text = whole[:end]
        if not equivalent(name, text):
            assert outcome(**{field: text}) is FAILED, text
            assert says_nothing(text) or outcome(body=text) is FAILED, text


GOOD = re.compile(r"^((?:\[ *[0-9.]+\])?[ #]*)(ok [0-9]+ .*)$", re.MULTILINE)
CASE = re.compile(r"<testcase\b([^>]*?)(?:/>|>(.*?)</testcase>)", re.DOTALL)


def flipped(text: str) -> Iterator[str]:
    """The text with one good result made a bad one, but for those that were to be skipped or to fail."""
    for found in GOOD.finditer(text):
        if not re.search("# (?:SKIP|TODO|XFAIL)", found[2], re.IGNORECASE):
            yield f"{text[: found.start(2)]}not {text[found.start(2) :]}"
    for found in CASE.finditer(text):
        if 'type="todo"' not in (found[2] or ""):
            case = f"<testcase{found[1]}>{found[2] or ''}<failure/></testcase>"
            yield text[: found.start()] + case + text[found.end() :]


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_report_with_one_bad_result_does_not_pass(name: str) -> None:
    mutants = list(flipped(PRODUCERS[name]))
    assert mutants
    for text in mutants:
        assert outcome(**{"junit" if name in JUNIT else "tap": text}) is FAILED, text
        assert outcome(body=text) is FAILED, text


@pytest.mark.parametrize("name", TAP)
def test_a_report_without_its_plan_does_not_pass(name: str) -> None:
    lines = TAP[name].splitlines(keepends=True)
    plans = [at for at, line in enumerate(lines) if re.match(r"(?:\[ *[0-9.]+\] )?1\.\.", line)]
    assert plans
    for at in plans:
        text = "".join(lines[:at] + lines[at + 1 :])
        assert outcome(tap=text) is FAILED, text
        assert outcome(body=text) is FAILED, text


@pytest.mark.parametrize("name", JUNIT)
def test_a_report_whose_header_counts_more_does_not_pass(name: str) -> None:
    text = JUNIT[name]
    counts = "failures|errors"
    if name not in ("pytest.xml", "doctest.xml", "catch2.xml"):  # theirs count what has no test case of its own
        counts += "|tests|skipped|disabled"
    found = list(re.finditer(rf"(?<=\s)({counts})=\"([0-9]+)\"", text))
    assert found
    for each in found:
        mutant = f'{text[: each.start()]}{each[1]}="{int(each[2]) + 9}"{text[each.end() :]}'
        assert outcome(junit=mutant) is FAILED, mutant


@pytest.mark.parametrize("name", PRODUCERS)
@pytest.mark.parametrize("prefix", ["[Tue Jan  2 12:00:00 2024] ", "2024-01-02T12:00:00Z host kernel: ", "vm-1 | "])
def test_a_report_behind_a_logs_prefix_is_the_same(name: str, prefix: str) -> None:
    whole = PRODUCERS[name]
    text = re.sub("(?m)^", prefix, f"Booting\n{whole.rstrip()}")
    assert cases_in_body(text) == cases_in_body(whole)
    for mutant in flipped(whole):
        assert outcome(body=re.sub("(?m)^", prefix, f"Booting\n{mutant.rstrip()}")) is FAILED, mutant
