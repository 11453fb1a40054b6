"""The language in which history is searched: what is understood, and how mistakes are told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.history_search import (
    Condition,
    Field,
    Phrase,
    Search,
    SearchError,
    Value,
    read_search,
    words_of,
)

NOW = 1_790_000_000.0
DAY = 86_400.0


def condition(text: str) -> Condition:
    (found,) = read_search(text, NOW).conditions
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outcome:failed", Condition(Field.OUTCOME, (Value("failed"),))),
        ("-outcome:passed", Condition(Field.OUTCOME, (Value("passed"),), negated=True)),
        ("outcome:failed,error", Condition(Field.OUTCOME, (Value("failed"), Value("error")))),
        ("machine:rpi-02", Condition(Field.MACHINE, (Value("rpi-02"),))),
        ("machine:rpi-*", Condition(Field.MACHINE, (Value("rpi-", prefix=True),))),
        ('workload:"a b.efi"', Condition(Field.WORKLOAD, (Value("a b.efi"),))),
        ('workload:"a b"*,c', Condition(Field.WORKLOAD, (Value("a b", prefix=True), Value("c")))),
        ('workload:"a,\\"b\\\\"', Condition(Field.WORKLOAD, (Value('a,"b\\'),))),
        ("label:arch=arm64", Condition(Field.LABEL, (Value("arch=arm64"),))),
        ("flaky:yes", Condition(Field.FLAKY, (Value("yes"),))),
        ("source:AMDEPYC/dispatch@v1", Condition(Field.SOURCE, (Value("AMDEPYC/dispatch@v1"),))),
    ],
)
def test_a_field(text: str, expected: Condition) -> None:
    assert condition(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Panic", Phrase(("panic",))),
        ("pan*", Phrase(("pan",), prefix=True)),
        ("-panic", Phrase(("panic",), negated=True)),
        ('"out of memory"', Phrase(("out", "of", "memory"))),
        ('"out of mem"*', Phrase(("out", "of", "mem"), prefix=True)),
        ('"machine:m"', Phrase(("machine", "m"))),
        ("out-of-memory", Phrase(("out", "of", "memory"))),
        ("b.efi", Phrase(("b", "efi"))),
    ],
)
def test_words(text: str, expected: Phrase) -> None:
    assert read_search(text, NOW).phrases == (expected,)


@pytest.mark.parametrize(
    ("text", "since", "before"),
    [
        ("since:7d", NOW - 7 * DAY, None),
        ("since:90m before:1h", NOW - 5400, NOW - 3600),
        ("since:2w", NOW - 14 * DAY, None),
        ("before:2026-09-21", None, 1789948800.0),
        ("since:2026-09-21T14:13", 1789999980.0, None),
        ("since:2026-09-21T14:13:20Z", NOW, None),
        ("since:2026-09-21T16:13:20+02:00", NOW, None),
    ],
)
def test_times(text: str, since: float | None, before: float | None) -> None:
    found = read_search(text, NOW)
    assert (found.since, found.before) == (since, before)


def test_terms_stand_beside_each_other() -> None:
    found = read_search('  outcome:failed since:1d\tpanic -machine:a,b  "out of"', NOW)
    assert found == Search(
        conditions=(
            Condition(Field.OUTCOME, (Value("failed"),)),
            Condition(Field.MACHINE, (Value("a"), Value("b")), negated=True),
        ),
        phrases=(Phrase(("panic",)), Phrase(("out", "of"))),
        since=NOW - DAY,
    )
    assert read_search("", NOW) == read_search(" ", NOW) == Search()


FIELDS = (
    "outcome, original, machine, group, workload, source, kind, label, session, who, run, flaky, cancelled, overridden,"
    " noted, since, before"
)


ADVICE = "put words with a colon into quotes"
PREFIXED = "machine, source, workload and words"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "outcome:broken",
            "search, character 9: outcome: expected passed, failed, error or skipped, got 'broken'",
        ),
        ("a flaky:true", "search, character 9: flaky: expected yes or no, got 'true'"),
        (
            "a machien:b",
            "search, character 3: no search by 'machien': expected one of "
            + FIELDS
            + "; put words with a colon into quotes",
        ),
        ("machine:", "search, character 9: expected a value after machine:, got nothing"),
        ("machine:a, b", "search, character 11: expected a value after machine:, got ' '"),
        ('machine:"a', "search, character 9: expected a value after machine:, got '\"'"),
        ('"a', "search, character 1: expected a word or field:value, got '\"'"),
        ("a -", "search, character 4: expected a word or field:value, got nothing"),
        ("- a", "search, character 2: expected a word or field:value, got ' '"),
        ("a !!!", "search, character 3: expected a letter or a digit, got !!!"),
        (
            "group:x*",
            "search, character 7: group: expected no *, which only " + PREFIXED + " may end with, got x*",
        ),
        (
            "since:soon",
            "search, character 7: since: expected a time such as 7d, 12h, 2026-11-01 or 2026-11-01T12:30, got 'soon'",
        ),
        (
            "since:2026*",
            "search, character 7: since: expected a time such as 7d, 12h, 2026-11-01 or 2026-11-01T12:30, got '2026*'",
        ),
        ("a -since:7d", "search, character 3: expected since: once, with one time, and without - before it"),
        ("since:7d since:8d", "search, character 10: expected since: once, with one time, and without - before it"),
        ('"a"b', "search, character 4: expected a blank between two terms, got 'b'"),
        ("x" * 1001, "search: expected at most 1000 characters, got 1001"),
        ("x " * 33, "search: expected at most 32 terms, got 33"),
        ("run:" + ",".join("x" * 33), "search, character 1: run: expected at most 32 values, got 33"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(SearchError) as caught:
        read_search(text, NOW)
    assert str(caught.value) == told


@given(st.text(max_size=60) | st.text(alphabet='ab:"\\,-* outcmehfid7', max_size=40))
def test_whatever_is_written_is_understood_or_refused_in_one_line(text: str) -> None:
    with suppress(SearchError):
        assert all(phrase.words for phrase in read_search(text, NOW).phrases)


def test_words_are_separated_by_blanks_and_ascii_punctuation() -> None:
    assert words_of("Report: b.EFI [x]_y größe 日本") == ["report", "b", "efi", "x", "y", "größe", "日本"]
