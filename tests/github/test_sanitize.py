"""What workloads write into issues calls nobody, whatever Markdown makes of it; GitHub's parser says what that is."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import LONG_TEXTS, TEXTS, bare, body, calls, holds, holds_apart, holds_cut, strange
from torture import examples

from pytest_dispatch.github.markdown_fences import DEEPEST, LONGEST, ZERO_WIDTH, cut, left_open
from pytest_dispatch.github.sanitize import harmless, harmless_line, parsable

PAGE = 300  # characters


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
        ("https://x.y/z#&#160;", "https://x.y/z#&#160;"),
        ("&#160;&amp;&lt;&#1 &#123456789;", "&#160;&amp;&lt;&#·1 &#·123456789;"),
        ("<!-- <b> <i></b> <?x 1 < 2 <3", "<·!-- <·b> <·i><·/b> <·?x 1 < 2 <3"),
        ("H<sub>2</sub>O <B>x <kbd>y</kbd><br>z</B>", "H<sub>2</sub>O <B>x <kbd>y</kbd><br>z</B>"),
        ("a<br>b <hr> <b class=x>y</b> <u>z</u>", "a·<br>b <·hr> <·b class=x>y<·/b> <·u>z<·/u>"),
        ("<s>`</s>` <s>\\</s> <s>[x](/u '</s>')", "<·s>`<·/s>` <·s>\\<·/s> <·s>[x](/u '<·/s>')"),
        ("<https://x.y/z> <mailto:a@b.c>", "<https://x.y/z> <mailto:a@b.c>"),
    ],
)
def test_what_calls_is_broken_and_the_rest_left_alone(text: str, shown: str) -> None:
    assert harmless(text).replace(ZERO_WIDTH, "·") == shown
    assert calls(harmless(text)) == []
    line = harmless_line(f" {text}\n")
    assert bare(line) == bare(text)
    assert calls(line) == []
    assert "<b>" not in line.lower()


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\ufeff```\nlog\n```\n@u #1 <!--\n```\n", "```\nlog\n```\n@·u #·1 <·!--\n```\n```"),
        ("a\n\ufeff~~~\n@a\n~~~\n@u", "a\n~~~\n@a\n~~~\n@·u"),
        ("\f```\n@u\n```", "\f```\n@·u\n```\n```"),
        ("\xa0```\n@u\n```", "\xa0```\n@·u\n```\n```"),
        ("```\u2028@a\n@b\n```\n@u", "```\u2028@a\n@b\n```\n@·u"),
        ("[^1]: ```\n@u\n```\n@a", "[^1]: ```\n@·u\n```\n@a\n```"),
        ("[x]:\n```\n@a\n```\n@u", "[x]:\n```\n@a\n```\n@·u"),
        ("- [ ] ```\n@u", "- [ ] ```\n@·u"),
    ],
)
def test_where_a_line_begins_is_what_github_takes_for_it(text: str, shown: str) -> None:
    assert harmless(text).replace(ZERO_WIDTH, "·") == shown
    holds(text)


CERTIFICATE = """\
### Failure Details

<details>
<summary>launch (fail)</summary>

**attest** — fail
```
@decorator <x>
```

</details>
"""


def test_folds_are_folds() -> None:
    [heading, fold] = body(harmless(CERTIFICATE))
    assert (heading.tag, fold.tag, fold.attrib) == ("h3", "details", {})
    assert [each.tag for each in fold] == ["summary", "p", "pre"]
    assert ["".join(each.itertext()) for each in fold] == ["launch (fail)", "attest — fail", "@decorator <x>\n"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<details>\nx", "<details>\nx\n</details>"),
        ("x\n</details>\ny", "x\n<·/details>\ny"),
        ("<details open=''>x</details>\n</details>y", "<details>\n·x\n</details>\n<·/details>y"),
        ("<DETAILS><summary>\n a <b>b</b>\n</summary>", "<details><summary>a <b>b</b></summary>\n</details>"),
        ("<details><summary>&#64u @u <i></summary>", "<details><summary>&·#·64u @·u <·i></summary>\n</details>"),
        ("<details>```\n@u\n```\n@a", "<details>\n·```\n@·u\n```\n@a\n```\n</details>"),
        ("- x\n\n  <details>\n  y", "- x\n<details>\n  y\n</details>"),
        ("> <details>\n\nx <details> y", "> <·details>\nx <·details> y"),
        (f"{'`' * 40}<details><details>```sh", f"{'`' * 40}<·details><·details>```sh"),
        ("```<details></details>`x", "```<·details><·/details>`x"),
        ("<details style='x'>\n", "<·details style='x'>"),
        ("</details><details></details>x", "<·/details><·details><·/details>x"),
        ("<details>\n</details><details></details></details>x", "<details>\n</details>\n" * 2 + "·<·/details>x"),
        ("<details>\n" * (DEEPEST + 1), "<details>\n" * DEEPEST + "<·details>" + "\n</details>" * DEEPEST),
        (
            "<details><summary>&#82;ecorded  <b>BY</b> the lab</summary>",
            "<·details><·summary>&#·82;ecorded  <b>BY</b> the lab<·/summary>",
        ),
    ],
)
def test_each_fold_is_a_block_of_its_own_and_is_closed(text: str, shown: str) -> None:
    told = harmless(text).replace(ZERO_WIDTH, "·")
    assert re.sub("\n+", "\n", told) == shown
    holds(text)


def test_the_renderer_would_notice() -> None:
    dangerous = [
        "@u",
        " \\@u",
        "&#64;u",
        "**@u**",
        "GH\\-1",
        "[x](/issues&sol;1)",
        "> ```\n@u",
        "x&num;1",
        "\ufeff~~\n@u",
    ]
    assert [text for text in [*dangerous, "<b>@u</b>", "<summary>&#64u</summary>"] if not calls(text)] == []
    acting = ["<!-- x -->", "<a name=x>", "<pre onclick=x>", "<u>x</u>", "<details open>", "<video>"]
    assert [text for text in acting if not strange(body(text))] == []


@pytest.mark.parametrize(
    "text", ["```\n", "<details>\n\n", "<s>", "<!--\n\n", "<pre>\n\n", "<table>\n\n", "<script>\n"]
)
def test_the_renderer_would_notice_what_is_left_open(text: str) -> None:
    with pytest.raises(AssertionError):
        holds_apart(text)


@settings(max_examples=examples(60, 10_000))
@given(TEXTS)
def test_nothing_that_calls_or_hides_survives_outside_code(text: str) -> None:
    holds(text)
    assert left_open(harmless(text))[0] == ""


@settings(max_examples=examples(60, 10_000))
@given(TEXTS)
def test_within_a_line_of_ours_nothing_does(text: str) -> None:
    for line in (f"- workload: `x` of {harmless_line(text)}", f"> Filed without {harmless_line(text)}."):
        assert calls(line) == []
        assert strange(body(line)) == []
        holds_apart(line)


@settings(max_examples=examples(60, 10_000))
@given(TEXTS)
def test_it_reads_the_same(text: str) -> None:
    told, was = (seen(bare(each)) for each in (harmless(text), parsable(text)))
    assert told.startswith(was)
    assert told.removeprefix(was).strip("`~") == ""
    assert bare(harmless_line(text)) == bare(parsable(text))


def seen(text: str) -> str:
    for tag in ("<details>", "<detailsopen>", "</details>"):
        text = text.replace(tag, "").replace(tag.upper(), "")
    return text


@settings(max_examples=examples(50, 10_000))
@given(LONG_TEXTS, st.integers(PAGE, 2 * PAGE))
def test_cutting_brings_nothing_back(text: str, limit: int) -> None:
    holds_cut(text, limit)


def test_a_cut_in_the_middle_of_a_line_begins_no_code() -> None:
    """Else the fence behind it would end that code, and what stands in the next one would be text."""
    pieces = cut(harmless(f"{'x' * 1000}```\n```\n@user\n```\n{'y' * 200}"), PAGE)
    assert "".join(pieces).replace(ZERO_WIDTH, "").startswith("x" * 1000)
    for lead in range(PAGE):
        holds_cut(f"{'x' * lead}```\n```\n@user\n```\n{'y' * PAGE}", PAGE)


@pytest.mark.parametrize("line", ["\ufeff```\n", "<details>\n", "<br>\n", "<https://x.y/z>\n", "<b>x</b>\n", "- ```\n"])
@pytest.mark.draw(2)
def test_a_page_that_begins_with_it_is_as_harmless(line: str) -> None:
    for lead in range(PAGE - 120, PAGE):
        holds_cut(f"{'x' * lead}\n{line}@user\n```\n@user\n<!--\n{'y' * PAGE}", PAGE)


def test_a_fold_that_is_cut_goes_on_on_the_next_page() -> None:
    log = "a line\n" * 100
    pages = cut(harmless(f"<details><summary>log</summary>\n\n```\n{log}```\n</details>\n\nthe end"), PAGE)
    assert all(page.startswith("<details>") for page in pages)
    assert all(page.endswith("```\n\n</details>") for page in pages[:-1])
    assert re.search("```\n\n+</details>\n\n+the end$", pages[-1])


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "@",
            "```\n",
            "- ",
            "<a",
            "<http:",
            "&#",
            "   ```\n x\n",
            "~~~~\n~~~",
            "\n\n",
            "issues/",
            "<b>",
            "<b>x<i>y</i>",
        ),
        *("<details>\n", "<details><summary>", "</details>", "<details>\n</details>\n", "<details> \t", " ", "<br>"),
    ],
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
