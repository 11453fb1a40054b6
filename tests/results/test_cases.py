"""Test cases in the body of a report, whatever the format, and hostile text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_cases import told
from torture import larger

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.cases import cases_in_body, find_cases, parse_tap
from pytest_dispatch.results.junit_reader import CasesError, parse_junit

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


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
    "make",
    [
        lambda n: "x" * n,
        lambda n: " " * n,
        lambda n: "ok 1 - " + "# " * (n // 2),
        lambda n: "not ok 1 - " + "\\" * n,
        lambda n: "not ok 1 # SKIP" + " " * n + "x",
        lambda n: "[" * n,
        lambda n: "&#0" * (n // 3),
        lambda n: "&#" + "0" * n,
        lambda n: "<?xml" + " " * n,
        lambda n: "<testsuite" + " a" * (n // 2),
        lambda n: "1.." + "9" * n,
        lambda n: "duration_ms: " + "9" * n,
        lambda n: "<?xml ?>\n" * (n // 10) + "<a>",
        lambda n: "<!--" * (n // 4),
        lambda n: "# \n" * (n // 4),
        lambda n: "a: TAP version 13\n" + " " * n,
        lambda n: "a: <testsuite \n" + " " * n,
        lambda n: "a: <testsuite " * (n // 13),
        lambda n: "\r" * n,
        lambda n: "not" + " " * n + "ok 1",
        lambda n: "a9999: <?xml \n" * (n // 13),
        lambda n: "<?xml-\n" * (n // 8),
        lambda n: "<!--\n" * (n // 5),
        lambda n: "<!-- -->" * (n // 8),
        lambda n: "<!DOCTYPE\n" * (n // 10),
        lambda n: "<!-- --><a:" * (n // 10),
    ],
    ids=lambda make: make(13)[:12],
)
@pytest.mark.draw(4)
def test_a_line_of_megabytes_is_nothing_special(make: Callable[[int], str]) -> None:
    text = make(larger(1_000_000, 4_000_000))
    assert isinstance(cases_in_body(text), tuple)
    assert isinstance(cases_in_body(f"TAP version 13\nnot ok\n  ---\n{text}\n{text}"), tuple)
    with pytest.raises(CasesError):
        parse_junit(f"<testsuite>{text}")
