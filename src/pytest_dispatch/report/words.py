"""A workload's words, made harmless for GitHub: they read the same, and nobody is called by them.

GitHub looks for `@user`, `@org/team`, `#1`, `org/repo#1`, `GH-1` and addresses of issues in the text that Markdown
becomes, so neither a backslash nor a character reference hides them, and a link or HTML around them does not either.
What hides them is a zero-width space inside, as dependency bots put it there. HTML is shown as the text that it is:
a comment could hide what the lab says, an element swallow it.

Only code between fences is left as it is, for people copy it, and GitHub looks for nothing there. For that it has to be
code to GitHub too, whatever lists it stands in: so its fences are put where lines begin, and each one is closed.
"""

from __future__ import annotations

import re

from pytest_dispatch.report.fences import LONGEST, ZERO_WIDTH, closing

#: Code points of letters, digits and `#-./:@`, decimal and hexadecimal: what calls somebody, written as `&#64;`.
_CODES = "0*(?:35|4[5-9]|5[0-8]|6[4-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2])"
_HEX_CODES = "[xX]0*(?:23|2[d-fD-F]|3[0-9aA]|4[0-9a-fA-F]|5[0-9aA]|6[1-9a-fA-F]|7[0-9aA])"

_ADDRESSES = "|".join(
    rf"(?<={kind}{slash})" for kind in ("issues", "pull", "pulls", "discussions") for slash in ("/", r"\\/")
)

#: The character behind which the zero-width space goes, and where. In passes of their own, each of which is fast.
_CALLS = {
    "@": re.compile(r"@(?<![A-Za-z0-9]@)"),  # people and teams, but not name@example.com
    "#": re.compile(  # issues, and any of these written as a number; but &#160; stays, unless it is \\&#160;
        rf"#(?:(?:(?<!&#)|(?<=\\&#))(?=[0-9])|(?<=&#)(?=(?:{_CODES}|{_HEX_CODES});|(?![0-9]{{1,7}};)[0-9]))"
    ),
    "-": re.compile(r"-(?=[0-9])(?i:(?<=gh-)|(?<=gh\\-))"),  # likewise issues: GH-1
    "/": re.compile(rf"/(?=[0-9])(?i:{_ADDRESSES})"),  # likewise, at whatever host
    "&": re.compile(r"&(?=(?:num|commat|period|sol|colon|fjlig);)"),  # any of these by name
    "<": re.compile(r"<(?=[A-Za-z/!?])(?![A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*>)"),  # HTML, but not <https://…>
}

_FENCED = re.compile(
    r"^(?P<lead>[ \t]*)(?P<item>(?:(?:[-+*]|[0-9]{1,9}[.)])[ \t]{1,4})*)"
    r"(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)$",
    re.MULTILINE,
)


def harmless(text: str) -> str:
    """A text of any number of lines, as a Markdown document of its own."""
    text = plain(text)
    parts, at = [], 0
    while opened := _FENCED.search(text, at):
        parts.append(_hushed(text[at : opened.start()]))
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
    return "".join([*parts, _hushed(text[at:])])


def harmless_line(text: str) -> str:
    """The same for what is put into a line of ours, as a title or a cell of a table."""
    return _hushed(" ".join(plain(text).split()))


def plain(text: str) -> str:
    """The text without what GitHub's parser refuses (NUL, halves of characters), and with one kind of line end."""
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def _begun(opened: re.Match[str], content: str) -> str:
    """Fenced code outside any list, to be closed; the mark of an item that it stood behind stays, before nothing."""
    item = f"{opened['lead']}{opened['item'].rstrip()} {ZERO_WIDTH}\n" if opened["item"] else ""
    end = "" if not content or content.endswith("\n") else "\n"
    return f"{item}{opened['fence']}{opened['info']}\n{content}{end}"


def _hushed(text: str) -> str:
    for character, call in _CALLS.items() if text != "\n" else ():
        text = call.sub(f"{character}{ZERO_WIDTH}", text)
    return text
