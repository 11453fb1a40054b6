"""Makes a workload's text harmless on GitHub: it looks the same, but mentions nobody and links no issue.

GitHub looks for `@user`, `@org/team`, `#1`, `org/repo#1`, `GH-1` and URLs of issues in the rendered text. So neither
backslashes nor character references hide them, nor do links or HTML around them. A zero-width space inside does hide
them; dependency bots use it too. HTML is shown as text, because a comment or an element could hide the lab's part of
an issue. Harmless HTML stays: folds (`<details>`), each closed and in a block of its own, and text marks (`<b>x</b>`)
that begin and end in one line.

Only fenced code is left unchanged, because people copy it and GitHub does not look for mentions there. GitHub must see
it as code too, even inside lists, so its fences are moved to the beginning of lines, and each one is closed.
"""

from __future__ import annotations

import html
import re

from pytest_dispatch.github.markdown_fences import DEEPEST, FOLD, LONGEST, UNFOLD, ZERO_WIDTH, closing

#: Title of the fold with the lab's part. No workload's fold can have it.
LAB_SAYS = "Recorded by the lab"

#: Code points of letters, digits and `#-./:@`, decimal and hexadecimal, with which a mention can be written: `&#64;`.
_CODES = "0*(?:35|4[5-9]|5[0-8]|6[4-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2])"
_HEX_CODES = "[xX]0*(?:23|2[d-fD-F]|3[0-9aA]|4[0-9a-fA-F]|5[0-9aA]|6[1-9a-fA-F]|7[0-9aA])"

_ADDRESSES = "|".join(
    rf"(?<={kind}{slash})" for kind in ("issues", "pull", "pulls", "discussions") for slash in ("/", r"\\/")
)

#: Characters after which a zero-width space is inserted, with patterns for where. Separate passes are faster than one.
_CALLS = {
    "@": re.compile(r"@(?<![A-Za-z0-9]@)"),  # people and teams, but not name@example.com
    "#": re.compile(  # issues, and numeric references to these characters; &#160; stays, unless it is \\&#160;
        rf"#(?:(?:(?<!&#)|(?<=\\&#))(?=[0-9])|(?<=&#)(?=(?:{_CODES}|{_HEX_CODES});|(?![0-9]{{1,7}};)[0-9]))"
    ),
    "-": re.compile(r"-(?=[0-9])(?i:(?<=gh-)|(?<=gh\\-))"),  # issues: GH-1
    "/": re.compile(rf"/(?=[0-9])(?i:{_ADDRESSES})"),  # URLs of issues, on any host
    "&": re.compile(r"&(?=(?:num|commat|period|sol|colon|fjlig);)"),  # named references to these characters
}

_MARKS = "b|strong|i|em|s|strike|del|ins|sub|sup|kbd|samp|var|tt|code|q|mark|small"
_MARKED = r"[^<\n`\\\[\]$]"  # no characters that could swallow the mark's end, as `code` and [links](…) do
_TAG = re.compile(r"<(?=[A-Za-z/!?])(?![A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*>)")  # but not <https://…>
_HTML = re.compile(
    rf"(?P<marked><({_MARKS})>(?:{_MARKED}|<br ?/?>|<({_MARKS})>{_MARKED}*+</\3>)*+</\2>)"
    r"|(?P<break><br ?/?>)"
    rf"|{_TAG.pattern}",
    re.IGNORECASE,
)

_LINE_ENDS = re.compile(r"[ \t]*$", re.MULTILINE)
_FOLDS = re.compile(
    r"(?:^|(?<=</details>)|(?<=</summary>)|(?<=<details>))[ \t]*"
    r"(?:(?P<opens><details(?:[ \t]+open(?:=[\"'a-z]{0,8})?)?[ \t]*>)"
    r"(?:\s{0,9}<summary>(?P<title>(?:[^\n]|\n(?![ \t]*\n)){0,300}?)</summary>)?"
    r"|</details>)|</details>(?=[ \t]*$)",
    re.MULTILINE | re.IGNORECASE,
)

_FENCED = re.compile(
    r"^(?P<lead>[ \t]*)(?P<item>(?:(?:[-+*]|[0-9]{1,9}[.)])[ \t]{1,4})*)"
    r"(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)$",
    re.MULTILINE,
)


def harmless(text: str) -> str:
    """Return a text of any number of lines as a harmless, complete Markdown document."""
    text = parsable(text)
    parts, at, depth = [], 0, 0
    while opened := _FENCED.search(text, at):
        before, depth = _folded(text[at : opened.start()], depth)
        parts.append(before)
        if len(opened["fence"]) > LONGEST:
            inside = opened.start("fence") + 2
            parts.append(f"{text[opened.start() : inside]}{ZERO_WIDTH}")
            at = inside
            continue
        indent = opened.start("fence") - opened.start()
        margin = rf"[ \t]{{0,{indent}}}" if indent else ""
        closed = closing(opened["fence"], margin).search(text, opened.end())
        stop = closed.start() if closed else len(text)
        content = text[opened.end() + 1 : stop]
        parts.append(_begun(opened, re.sub(f"(?m)^{margin}", "", content) if indent else content))
        parts.append(closed[0].strip() if closed else opened["fence"])
        at = closed.end() if closed else stop
    rest, depth = _folded(text[at:], depth)
    return "".join([*parts, rest, f"\n\n{UNFOLD}" * depth]).strip("\n")


def harmless_line(text: str) -> str:
    """Return a harmless line for a title or a note; it may be cut later, so all HTML in it is shown as text."""
    return _TAG.sub(f"<{ZERO_WIDTH}", _silent(" ".join(parsable(text).split())))


def parsable(text: str) -> str:
    """Return the text without characters that GitHub's parser refuses or skips, and with LF as its line ends.

    GitHub refuses NUL and lone surrogates. It skips a byte-order mark at the beginning of a text, so the text after the
    mark would begin a line for GitHub and not for our patterns, for example where a page is cut.
    """
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}").replace("\ufeff", "").encode("utf-8", "replace").decode()
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def _begun(opened: re.Match[str], content: str) -> str:
    """Return the beginning of fenced code, moved out of lists; the list item that contained it stays, but empty."""
    item = f"{opened['lead']}{opened['item'].rstrip()} {ZERO_WIDTH}\n" if opened["item"] else ""
    end = "" if not content or content.endswith("\n") else "\n"
    return f"{item}{opened['fence']}{opened['info']}\n{content}{end}"


def _folded(text: str, depth: int) -> tuple[str, int]:
    """Return text outside of code in harmless form, and the number of open folds at its end; `depth` is at its start.

    The tags of folds go on separate lines between empty ones, so that they cannot be part of anything else, and the
    Markdown after them begins a new block.
    """
    parts, at = [], 0
    for tag in _FOLDS.finditer(text):
        opens = tag["opens"] is not None
        fits = depth < DEEPEST and not _is_ours(tag["title"]) if opens else depth > 0
        if not (fits and _stands_apart(tag, at)):
            continue  # the tag stays text
        depth += 1 if opens else -1
        title = _summary(tag["title"]) if tag["title"] else ""
        parts += [_beside(text[at : tag.start()], at), f"\n\n{FOLD if opens else UNFOLD}{title}\n\n"]
        at = tag.end()
    return "".join([*parts, _beside(text[at:], at)]), depth


def _stands_apart(tag: re.Match[str], at: int) -> bool:
    """Return whether the tag begins or ends a line, or follows another tag.

    Moving any other tag to a line of its own could turn the text before it into a fence.
    """
    begins = tag.start() == 0 or tag.string[tag.start() - 1] == "\n" or tag.start() == at
    return begins or (tag["opens"] is None and _LINE_ENDS.match(tag.string, tag.end()) is not None)


def _beside(text: str, at: int) -> str:
    """Return the text between tags of folds; text that did not begin a line does not take on that meaning now."""
    first, _, more = text.partition("\n")
    if at and not first.strip():
        return _hushed(more)
    return f"{ZERO_WIDTH}{_hushed(text)}" if at else _hushed(text)


def _summary(title: str) -> str:
    """Return a fold's title for use inside HTML, where a character reference needs no semicolon and has any length."""
    line = _hushed(" ".join(title.split()))
    return f"<summary>{line.replace('&#', f'&{ZERO_WIDTH}#')}</summary>"


def _is_ours(title: str | None) -> bool:
    pending_issues = "".join(filter(str.isalnum, html.unescape(re.sub("<[^>]*>", "", title or "")).casefold()))
    return "".join(LAB_SAYS.casefold().split()) in pending_issues


def _hushed(text: str) -> str:
    return _HTML.sub(_disarmed, _silent(text))


def _silent(text: str) -> str:
    for character, call in _CALLS.items() if text != "\n" else ():
        text = call.sub(f"{character}{ZERO_WIDTH}", text)
    return text


def _disarmed(found: re.Match[str]) -> str:
    """Return harmless HTML unchanged, and other HTML as text; keep a line break from starting an HTML block."""
    if found["marked"]:
        return found[0]
    return f"{ZERO_WIDTH}{found[0]}" if found["break"] else f"<{ZERO_WIDTH}"
