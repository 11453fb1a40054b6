"""A workload's words, made harmless for GitHub: they read the same, and nobody is called by them.

GitHub looks for `@user`, `@org/team`, `#1`, `org/repo#1`, `GH-1` and addresses of issues in the text that Markdown
becomes, so neither a backslash nor a character reference hides them, and a link or HTML around them does not either.
What hides them is a zero-width space inside, as dependency bots put it there. HTML is shown as the text that it is:
a comment could hide what the lab says, an element swallow it. What neither can be is let through: folds (`<details>`),
each a block of its own and closed, and marks of text (`<b>x</b>`) that begin and end in one line.

Only code between fences is left as it is, for people copy it, and GitHub looks for nothing there. For that it has to be
code to GitHub too, whatever lists it stands in: so its fences are put where lines begin, and each one is closed.
"""

from __future__ import annotations

import html
import re

from pytest_dispatch.github.markdown_fences import DEEPEST, FOLD, LONGEST, UNFOLD, ZERO_WIDTH, closing

#: The title of the fold in which the lab speaks. No workload's fold is called so.
LAB_SAYS = "Recorded by the lab"

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
}

_MARKS = "b|strong|i|em|s|strike|del|ins|sub|sup|kbd|samp|var|tt|code|q|mark|small"
_MARKED = r"[^<\n`\\\[\]$]"  # nothing that could take the end of the mark to itself, as `code` and [links](…) do
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
    """A text of any number of lines, as a Markdown document of its own."""
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
    """The same for what is put into a line of ours, as a title or a note, which may be cut: so all its HTML is text."""
    return _TAG.sub(f"<{ZERO_WIDTH}", _silent(" ".join(parsable(text).split())))


def parsable(text: str) -> str:
    """The text without what GitHub's parser refuses or skips, and with one kind of line end.

    It refuses NUL and halves of characters. A byte-order mark shows nothing, and is skipped where a text begins; so
    what stands behind it would begin a line to one reader and not to another, and the more so where a page is cut.
    """
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}").replace("\ufeff", "").encode("utf-8", "replace").decode()
    return whole.replace("\r\n", "\n").replace("\r", "\n")


def _begun(opened: re.Match[str], content: str) -> str:
    """Fenced code outside any list, to be closed; the mark of an item that it stood behind stays, before nothing."""
    item = f"{opened['lead']}{opened['item'].rstrip()} {ZERO_WIDTH}\n" if opened["item"] else ""
    end = "" if not content or content.endswith("\n") else "\n"
    return f"{item}{opened['fence']}{opened['info']}\n{content}{end}"


def _folded(text: str, depth: int) -> tuple[str, int]:
    """Text outside of code; how many folds are open where it begins, and where it ends.

    The tags of a fold go on lines of their own, after and before empty ones: there neither can be a part of anything
    else, and Markdown begins anew.
    """
    parts, at = [], 0
    for tag in _FOLDS.finditer(text):
        opens = tag["opens"] is not None
        fits = depth < DEEPEST and not _is_ours(tag["title"]) if opens else depth > 0
        if not (fits and _stands_apart(tag, at)):
            continue  # it stays text
        depth += 1 if opens else -1
        title = _summary(tag["title"]) if tag["title"] else ""
        parts += [_beside(text[at : tag.start()], at), f"\n\n{FOLD if opens else UNFOLD}{title}\n\n"]
        at = tag.end()
    return "".join([*parts, _beside(text[at:], at)]), depth


def _stands_apart(tag: re.Match[str], at: int) -> bool:
    """Whether a line begins or ends with it, or it stands behind another; else what is before it may become a fence."""
    begins = tag.start() == 0 or tag.string[tag.start() - 1] == "\n" or tag.start() == at
    return begins or (tag["opens"] is None and _LINE_ENDS.match(tag.string, tag.end()) is not None)


def _beside(text: str, at: int) -> str:
    """What stands before or behind the tags of folds; what did not begin a line does not begin anything now either."""
    first, _, more = text.partition("\n")
    if at and not first.strip():
        return _hushed(more)
    return f"{ZERO_WIDTH}{_hushed(text)}" if at else _hushed(text)


def _summary(title: str) -> str:
    """A fold's title, to stand within HTML: there a character reference needs no semicolon, nor has it an end."""
    line = _hushed(" ".join(title.split()))
    return f"<summary>{line.replace('&#', f'&{ZERO_WIDTH}#')}</summary>"


def _is_ours(title: str | None) -> bool:
    letters = "".join(filter(str.isalnum, html.unescape(re.sub("<[^>]*>", "", title or "")).casefold()))
    return "".join(LAB_SAYS.casefold().split()) in letters


def _hushed(text: str) -> str:
    return _HTML.sub(_disarmed, _silent(text))


def _silent(text: str) -> str:
    for character, call in _CALLS.items() if text != "\n" else ():
        text = call.sub(f"{character}{ZERO_WIDTH}", text)
    return text


def _disarmed(found: re.Match[str]) -> str:
    """HTML that does no harm, or the text of what might; a line break never begins a line, which it would take."""
    if found["marked"]:
        return found[0]
    return f"{ZERO_WIDTH}{found[0]}" if found["break"] else f"<{ZERO_WIDTH}"
