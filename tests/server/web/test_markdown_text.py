"""Texts of reports as Markdown: what is shown, what never gets through, and what is left as it was written."""

from __future__ import annotations

import re

import html5lib  # type: ignore[import-untyped]
import pytest
from hostile_texts import HOSTILE

from pytest_dispatch.server.web.markdown_text import LONGEST, MOST_MARKS, TOGETHER, markdown

pytestmark = pytest.mark.anyio

ELEMENTS = frozenset(
    [
        "a",
        "p",
        "br",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "em",
        "strong",
        "s",
        "code",
        "pre",
        "blockquote",
        "hr",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ]
)
WEB = re.compile(r"(?:https?://[^/]|mailto:)", re.IGNORECASE)


async def shown(text: str) -> str:
    [found] = await markdown([text])
    assert found is not None
    return str(found).strip()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("two\nlines", "<p>two<br />\nlines</p>"),
        ("**a** _b_ ~~c~~ `d`", "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>"),
        ("<b>x</b> &amp; y", "<p>&lt;b&gt;x&lt;/b&gt; &amp; y</p>"),
        (
            "[x](https://a.example/?a=1&b='2' 'title')",
            '<p><a href="https://a.example/?a=1&amp;b=\'2\'" rel="noreferrer noopener nofollow">x</a></p>',
        ),
        ("[x](JAVASCRIPT:alert(1))", "<p>[x](JAVASCRIPT:alert(1))</p>"),
        (
            "![a *fan*](http://a.example/x.png)",
            '<p><a href="http://a.example/x.png" rel="noreferrer noopener nofollow">a fan</a></p>',
        ),
        (
            "[![fan](http://a.example/x.png)](http://b.example)",
            '<p><a href="http://b.example" rel="noreferrer noopener nofollow">fan</a></p>',
        ),
        ("```sh\n<x>\n```", '<pre tabindex="0"><code>&lt;x&gt;\n</code></pre>'),
    ],
)
async def test_what_a_text_becomes(text: str, html: str) -> None:
    assert (await shown(text)).replace("&#39;", "'") == html


async def test_headings_stay_below_those_of_the_page_and_leave_none_out() -> None:
    text = "### a\n\n# b\n\n###### c\n\n## d\n\n# e"
    assert re.findall(r"<(h\d)>(\w)", await shown(text)) == [
        ("h4", "a"),
        ("h4", "b"),
        ("h5", "c"),
        ("h5", "d"),
        ("h4", "e"),
    ]


async def test_a_table_scrolls_and_has_no_style() -> None:
    html = await shown("| a | b |\n|:--|--:|\n| 1 | 2 |")
    assert html.startswith('<div class="wide-table" tabindex="0"><table>')
    assert "style" not in html


@pytest.mark.parametrize("what", HOSTILE)
async def test_nothing_of_others_gets_through(what: str) -> None:
    """Also at the beginning of a line, in a list, a quote and a table."""
    text = HOSTILE[what]
    for whole in (text, f"x {text}", f"- {text}\n> {text}", f"|a|\n|-|\n|{text}|", f"[a]({text})", f"![{text}](x)"):
        html = await shown(whole)
        parser = html5lib.HTMLParser(namespaceHTMLElements=False)
        tree = parser.parseFragment(html)
        assert not [code for _, code, _ in parser.errors], (whole, html)
        for element in tree.iter():
            if element.tag == "DOCUMENT_FRAGMENT":
                continue
            assert element.tag in ELEMENTS, (whole, element.tag)
            assert set(element.attrib) <= {"href", "rel", "class", "tabindex", "start"}, (whole, element.attrib)
            assert element.tag != "a" or WEB.match(element.attrib["href"]), (whole, element.attrib)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u206f]", html), whole


@pytest.mark.parametrize("text", ["x" * (LONGEST + 1), "[" * (MOST_MARKS + 1), "> " * (MOST_MARKS + 1), "*a" * LONGEST])
async def test_what_would_take_long_is_left_as_it_was_written(text: str) -> None:
    assert await markdown([text]) == [None]


async def test_only_so_much_of_a_page_is_markdown() -> None:
    whole = await markdown(["x" * LONGEST] * (TOGETHER // LONGEST + 1))
    assert [found is None for found in whole] == [False] * (TOGETHER // LONGEST) + [True]


@pytest.mark.parametrize(
    "text",
    [">" * MOST_MARKS, "[" * MOST_MARKS, "[a](" * (MOST_MARKS // 2), "- " * 9_000, "`" * MOST_MARKS, "1. " * 6_000],
    ids=["quotes", "brackets", "links", "lists", "ticks", "numbers"],
)
async def test_whatever_nests_deeply_ends(text: str) -> None:
    assert len(await shown(text)) < 20 * LONGEST
