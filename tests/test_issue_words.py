"""What workloads write into issues calls nobody, whatever Markdown makes of it; a real parser says what it makes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_dispatch.report.fences import LONGEST, ZERO_WIDTH, cut, open_fence
from pytest_dispatch.report.words import harmless, harmless_line, plain

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

#: What GitHub makes links, mentions and events of, in text outside code and in the addresses of links.
CALLS = {
    "a mention": re.compile(r"(?:^|[^A-Za-z0-9])@[A-Za-z0-9]"),
    "an issue": re.compile(r"#[0-9]|GH-[0-9]", re.IGNORECASE),
    "an address": re.compile(r"(?:issues|pulls?|discussions)/[0-9]", re.IGNORECASE),
}

#: Bits of texts, told apart by blanks, and some that hold blanks.
PIECES = [
    *"@#<>&;:/-.`~*_[]()!|\\\"' \n\t",
    *re.findall(r"\S+", "@user @org/team a@b.c #1 #12 GH-7 gh\\-7 o/r#3 Fixes closes: details x é 1 7"),
    *re.findall("&#?[^;]+;", "&#64;&#x40;&commat;&num;&#35;&#035;&#x23;&sol;&#47;&period;&#71;&amp;&lt;&#160;"),
    *("https://github.com/o/r/issues/1", "http://GitHub.com/o/r/pull/2", "/o/r/discussions/3", "issues\\/4", "pulls/"),
    *re.findall(
        r"\S+", "<!-- --> <b> </b> <div> <pre> <https://x.y/issues/1> <u@x.y> ``` ```` ~~~ ~~~~~ [x]: [^1]: $$"
    ),
    *("\n```\n", "\n~~~\n", "\n  ```\n", "\n    ```\n", "```sh\n", "\n\t```\n", "`" * 40, "<a href='/issues/1'>"),
    *("- ", "\n- ", "\n1. ", "\n> ", "\n- ```\n", "\n> ```\n", "* - ~~~\n", "\n---\n", "\n===\n", "$$\n"),
    *("| a | b |\n| --- | --- |\n", ZERO_WIDTH, "\r\n", "\r", "\0", "\ud800", "\v", "\u2028"),
]
HOSTILE = ["@", "```\n", "- ", "<a", "<http:", "&#", "   ```\n x\n", "~~~~\n~~~", "\n\n", "issues/"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


def said(markdown: str) -> Iterator[str]:
    """The pieces of text that GitHub looks at, and where its links lead."""
    for token in PARSER.parse(markdown):
        assert token.type != "html_block"
        for kind, run in groupby(token.children or (), lambda child: child.type in ("text", "text_special")):
            children = list(run)
            if kind:
                yield "".join(child.content for child in children)
            yield from (str(value) for child in children for value in attributes(child))


def attributes(token: Token) -> Iterator[object]:
    assert token.type != "html_inline"
    yield from (token.attrs.get("href"), token.attrs.get("title"), token.attrs.get("src"))
    if token.type == "image":
        yield token.content


def calls(markdown: str) -> list[tuple[str, str]]:
    return [(what, text) for text in said(markdown) for what, call in CALLS.items() if call.search(text)]


def bare(text: str) -> str:
    """Without what shows nothing."""
    return "".join(text.replace(ZERO_WIDTH, "").split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@user, @org/team (@x) **@y** _@z", "@·user, @·org/team (@·x) **@·y** _@·z"),
        ("name@example.com", "name@example.com"),
        ("Fixes #1, closes org/repo#2, GH-12, gh\\-3", "Fixes #·1, closes org/repo#·2, GH-·12, gh\\-·3"),
        ("# 1 and #include", "# 1 and #include"),
        ("https://github.com/o/r/issues/1#issuecomment-2", "https://github.com/o/r/issues/·1#issuecomment-2"),
        ("[x](https://ghe/o/r/pull\\/1)", "[x](https://ghe/o/r/pull\\/·1)"),
        ("&#64;a &#x40;b &#0064;c &commat;d", "&#·64;a &#·x40;b &#·0064;c &·commat;d"),
        ("&#35;1 &num;1 GH&#45;1", "&#·35;1 &·num;1 GH&#·45;1"),
        ("&#160;&#xa0;\\&#160;", "&#160;&#xa0;\\&#·160;"),
        ("&#160;&amp;&lt;&#1 &#123456789;", "&#160;&amp;&lt;&#·1 &#·123456789;"),
        ("<!-- <b> </b> <?x 1 < 2 <3", "<·!-- <·b> <·/b> <·?x 1 < 2 <3"),
        ("<https://x.y/z> <mailto:a@b.c>", "<https://x.y/z> <mailto:a@b.c>"),
    ],
)
def test_what_calls_is_broken_and_the_rest_left_alone(text: str, shown: str) -> None:
    assert harmless(text).replace(ZERO_WIDTH, "·") == shown
    assert harmless_line(f" {text}\n").replace(ZERO_WIDTH, "·") == shown
    assert calls(harmless(text)) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("```sh\n@cmd <x> #1\n```\n@u", "```sh\n@cmd <x> #1\n```\n@·u"),
        ("~~~\n@a\n```\n@b\n~~~\n@u", "~~~\n@a\n```\n@b\n~~~\n@·u"),
        ("````\n```\n@a\n`````  \n@u", "````\n```\n@a\n`````\n@·u"),
        ("```\n@a", "```\n@a\n```"),
        ("```", "```\n```"),
        ("```a`b\n@u", "```a`b\n@·u"),
        ("- x\n\n  ```\n  @a\n    @b\n  ```\n  @u", "- x\n\n```\n@a\n  @b\n```\n  @·u"),
        ("- ```sh\n  @a\n  ```\n@u", "- ·\n```sh\n@a\n```\n@·u"),
        ("10. x\n\n    ```\n    @a\n    ```\n@u", "10. x\n\n```\n@a\n```\n@·u"),
        ("> ```\n> @a\n@u", "> ```\n> @·a\n@·u"),
        ("    @indented", "    @·indented"),
        ("`@inline`", "`@·inline`"),
        ("<div>\n```\n@u\n```\n@a", "<·div>\n```\n@u\n```\n@·a"),
        (f"{'~' * (LONGEST + 1)}\n@u", f"~~·{'~' * (LONGEST - 1)}\n@·u"),
        ("```\r\n@a\r```\r@u", "```\n@a\n```\n@·u"),
    ],
)
def test_code_between_fences_is_left_alone_where_it_is_code_to_github_too(text: str, shown: str) -> None:
    assert harmless(text).replace(ZERO_WIDTH, "·") == shown
    assert calls(harmless(text)) == []


def test_the_parser_would_notice() -> None:
    dangerous = ["@u", " \\@u", "&#64;u", "**@u**", "GH\\-1", "[x](/issues&sol;1)", "- ```\n@u", "x&num;1"]
    assert [text for text in dangerous if not calls(text)] == []


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_nothing_that_calls_survives_outside_code(text: str) -> None:
    assert calls(harmless(text)) == []


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_it_reads_the_same(text: str) -> None:
    told, was = bare(harmless(text)), bare(plain(text))
    assert told.startswith(was)
    assert told.removeprefix(was).strip("`~") == ""
    assert bare(harmless_line(text)) == was


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_what_follows_is_not_swallowed(text: str) -> None:
    """Whatever a workload leaves open, the lab's own words after it are a paragraph of their own."""
    assert open_fence(harmless(text)) == ""
    *_, opened, inline, _closed = PARSER.parse(f"{harmless(text)}\n\nRecorded by the lab")
    assert (opened.type, opened.level, inline.content) == ("paragraph_open", 0, "Recorded by the lab")


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, max_size=8).map("".join), st.integers(80, 200))
def test_cutting_brings_nothing_back(text: str, limit: int) -> None:
    whole = harmless(text)
    pieces = cut(whole, limit)
    assert all(len(piece) <= limit for piece in pieces)
    assert all(open_fence(piece) == "" for piece in pieces)
    assert [call for piece in pieces for call in calls(piece)] == []
    letters = [re.sub(r"[`~]", "", bare(each)) for each in (whole, "".join(pieces))]
    assert letters[0] == letters[1]


def test_a_cut_in_the_middle_of_a_line_begins_no_code() -> None:
    """Else the fence behind it would end that code, and what stands in the next one would be text."""
    text = f"{'x' * (80 - LONGEST - 1)}```\n```\n@user\n```\n{'y' * 20}"
    pieces = cut(harmless(text), 80)
    assert pieces[1].startswith(f"{ZERO_WIDTH}```\n```\n@user")
    assert [call for piece in pieces for call in calls(piece)] == []


@pytest.mark.parametrize(
    "piece", ["@", "```\n", "- ", "<a", "<http:", "&#", "   ```\n x\n", "~~~~\n~~~", "\n\n", "issues/"]
)
def test_hostile_text_takes_no_more_time_for_being_hostile(piece: str) -> None:
    """Four times the text takes about four times as long, by the processor's time: nothing here is quadratic."""
    size = 100_000
    for _ in range(5):
        short, long = (took(piece * (count // len(piece))) for count in (size, 4 * size))
        if long < 12 * short + 0.05:
            return
    pytest.fail(f"{short:.3f} s, and {long:.3f} s for four times as much")


def took(text: str) -> float:
    begin = time.process_time()
    cut(harmless(text), 65_000)
    return time.process_time() - begin
