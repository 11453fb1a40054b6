"""What GitHub makes of Markdown: its own parser (cmark-gfm), then an HTML5 parser, as in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, tostring

import html5lib  # type: ignore[import-untyped]
from cmarkgfm import markdown_to_html_with_extensions  # type: ignore[import-untyped]
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]
from hypothesis import strategies as st
from told_runs import DIGEST

from pytest_dispatch.core.model import Run
from pytest_dispatch.github.issue_text import issues_for, late_issues
from pytest_dispatch.github.markdown_fences import ZERO_WIDTH, cut
from pytest_dispatch.github.sanitize import harmless

OPTIONS = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES | Options.CMARK_OPT_GITHUB_PRE_LANG
EXTENSIONS = ["table", "strikethrough", "autolink", "tagfilter", "tasklist"]

#: What GitHub makes links, mentions and events of, in text outside code and in the addresses of links.
CALLS = {
    "a mention": re.compile(r"(?:^|[^A-Za-z0-9])@[A-Za-z0-9]"),
    "an issue": re.compile(r"#[0-9]|GH-[0-9]", re.IGNORECASE),
    "an address": re.compile(r"(?:issues|pulls?|discussions)/[0-9]", re.IGNORECASE),
}

#: Where GitHub does not look.
CODE = {"code", "pre", "tt"}

#: What Markdown itself makes, and what is let through.
MADE = set(
    re.findall(
        r"\w+",
        "p h1 h2 h3 h4 h5 h6 blockquote ul ol li pre code a em strong del img br hr input section sup"
        " table thead tbody tr th td",
    )
)
LET_THROUGH = set(re.findall(r"\w+", "details summary b i s strike ins sub kbd samp var tt q mark small"))
LEFT = {"href", "src", "alt", "title", "class", "id", "lang", "align", "start", "type", "checked", "disabled"}
LEFT |= {"aria-label", *(f"data-footnote{which}" for which in ("s", "-ref", "-backref", "-backref-idx"))}

MARK = "<!-- dispatch-c0ffee.4-0-0123456789abcdef -->"
FOOTER = """---
<details open><summary>Recorded by the lab</summary>

- workload: `snp.efi` of AMDEPYC/dispatch@v1
- outcome: passed, attempt 1 of 1

</details>"""

#: Bits of texts, told apart by blanks, and some that hold blanks.
PIECES = [
    *"@#<>&;:/-.`~*_[]()!|\\\"'$ \n\t",
    *re.findall(r"\S+", "@user @org/team a@b.c #1 #12 GH-7 gh\\-7 o/r#3 Fixes closes: details x é 1 7"),
    *re.findall("&#?[^;]+;", "&#64;&#x40;&commat;&num;&#35;&#035;&#x23;&sol;&#47;&period;&#71;&amp;&lt;&#160;"),
    *("&#64", "&#x40", "&#0000000064;", "&#x00000040;", "&#82;ecorded by the lab", "&#60;", "&lt;!--"),
    *("https://github.com/o/r/issues/1", "http://GitHub.com/o/r/pull/2", "/o/r/discussions/3", "issues\\/4", "pulls/"),
    *re.findall(
        r"\S+", "<!-- --> <b> </b> <div> <pre> <https://x.y/issues/1> <u@x.y> ``` ```` ~~~ ~~~~~ [x]: [^1]: $$"
    ),
    *("\n```\n", "\n~~~\n", "\n  ```\n", "\n    ```\n", "```sh\n", "\n\t```\n", "`" * 40, "<a href='/issues/1'>"),
    *("- ", "\n- ", "\n1. ", "\n> ", "\n- ```\n", "\n> ```\n", "* - ~~~\n", "\n---\n", "\n===\n", "$$\n"),
    *("| a | b |\n| --- | --- |\n", ZERO_WIDTH, "\r\n", "\r", "\0", "\ud800", "\v", "\u2028"),
    # what readers skip, or take for white space or the end of a line, each by its own idea
    *("\ufeff", "\n\ufeff", "\ufeff```\n", "\f", "\f```\n", "\x85", "\u2029", "\xa0", "\xa0```\n", "\u2060", "\x1b"),
    # folds and marks of text, and what is meant to look like them
    *("<details>", "\n<details>\n", "\n</details>\n", "</details>", "<details open>\n", "\n  <DETAILS>", "<details"),
    *("<summary>", "</summary>", "<summary>x</summary>", "<details><summary>log</summary>\n\n", "<details>```\n"),
    *(
        "<details><summary>Recorded by the lab</summary>\n",
        "<details\n",
        "<summary>\nx\n</summary>\n",
        "</details>```\n",
    ),
    *("<b>x</b>", "<s>", "</s>", "<s>`</s>`", "<code>", "</code>", "<sub>x<br></sub>", "<br>", "\n<br>\n", "<br/>"),
    *("<s>[x](/u '</s>')", "<s>\\</s>", "<s>![</s>](u)", "<dd:x>", "<p:>", "<kbd>@u</kbd>", "<table>", "<hr>"),
    # containers and definitions
    *(
        "[^1]",
        "\n[^1]: ",
        "\n[^1]: ```\n",
        "\n    ",
        "\n\t",
        "\n> - ```\n",
        "\n10) ~~~\n",
        "[x]:\n",
        "[x]: <b> '",
        "\n# ",
    ),
    *("- [ ] ", "\n> [!NOTE]\n> ", "\n***\n", "|\n", "\n|-|\n", "www.a@user", "mailto:a@b.c", "b@a.c@user", "<?php\n"),
    *(
        "<![CDATA[",
        "<!X>",
        "<script>",
        "<textarea>",
        "</pre>",
        "<plaintext>",
        "<svg>",
        "<template>",
        "<td>",
        "<select>",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
LONG_TEXTS = st.lists(TEXTS, max_size=12).map("".join)


def body(markdown: str) -> Element:
    """The body of the page that it becomes."""
    html = markdown_to_html_with_extensions(markdown, OPTIONS, EXTENSIONS)
    page: Element = html5lib.parse(f"<!DOCTYPE html><body>{html}", namespaceHTMLElements=False)
    found = page.find("body")
    assert found is not None
    return found


def said(element: Element, within: str = "") -> Iterator[str]:
    """The pieces of text that GitHub looks at, and where links lead; text of links too, although it passes them over.

    A character reference in an address that stands alone (`www.x.y/&#160;`) stays as it is.
    """
    within = within if within in CODE else str(element.tag)
    texts = [element.get(name, "") for name in ("href", "title", "src", "alt")]
    pieces = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str):
            yield from said(child, within)
        pieces.append(child.tail or "")
    texts += pieces if within not in CODE else []
    yield from (text.replace("&#", "&") if within == "a" else text for text in texts)


def calls(markdown: str) -> list[tuple[str, str]]:
    """Whom and what it calls."""
    return [(what, text) for text in said(body(markdown)) for what, call in CALLS.items() if call.search(text)]


def strange(element: Element) -> list[str]:
    """Elements, attributes and comments that workloads cannot bring about."""
    found = []
    for each in element.iter():
        if not isinstance(each.tag, str):
            found.append(f"<!--{each.text}-->")
        elif each is not element and each.tag not in MADE | LET_THROUGH:
            found.append(f"<{each.tag}>")
        elif set(each.keys()) - LEFT:
            found.append(f"<{each.tag} {', '.join(each.keys())}>")
    return found


def holds(text: str) -> None:
    """What a workload says stays harmless, whatever it is, and what the lab says after it stands as it would alone."""
    told = harmless(text)
    assert calls(told) == []
    assert strange(body(told)) == []
    holds_apart(told)


def holds_apart(told: str) -> None:
    """Nothing of it is left open: a footer behind it is what it would be alone."""
    alone = [tostring(each) for each in body(f"{FOOTER}\n\n{MARK}")]
    after = [tostring(each) for each in body(f"{told}\n\n{FOOTER}\n\n{MARK}") if each.get("class") != "footnotes"]
    assert [each.strip() for each in after[-len(alone) :]] == [each.strip() for each in alone]


def holds_cut(text: str, limit: int) -> None:
    """The same of each page that it is cut into, of which nothing is lost."""
    told = harmless(text)
    pages = cut(told, limit)
    for page in pages:
        assert len(page) <= limit
        assert calls(page) == []
        assert strange(body(page)) == []
        holds_apart(page)
    pending_issues = [re.sub(r"[`~]|</?details>", "", bare(each)) for each in (told, "".join(pages))]
    assert pending_issues[0] == pending_issues[1]


def holds_filed(run: Run, source: str) -> None:
    """The same of the pages of the issues that it becomes, with a footer on the last."""
    for issue in (*issues_for(run, source, DIGEST), *late_issues(run, source, DIGEST)):
        *pages, last = (issue.body, *issue.comments)
        rest, _, footer = last.rpartition("---\n<details open>")
        for page in (*pages, rest):
            assert calls(page) == []
            assert strange(body(page)) == []
        facts = body(f"{rest}---\n<details open>{footer}\n\n{MARK}")
        shown = [each for each in facts if each.get("class") != "footnotes"][-3:]
        assert [str(each.tag) for each in shown[:2]] == ["hr", "details"]
        assert calls(f"<details open>{footer}") == []
        assert len(strange(shown[1])) == 1  # that it is open


def bare(text: str) -> str:
    """Without what shows nothing."""
    return "".join(text.replace(ZERO_WIDTH, "").replace("\ufeff", "").split())
