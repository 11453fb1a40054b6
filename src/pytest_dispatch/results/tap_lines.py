"""Parses single lines of TAP or KTAP, and finds TAP in a text."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from pytest_dispatch.core.model import Outcome

LINE = 4096  # characters of a line that are examined
_NAME = 200  # maximum characters of a test's own name

#: Prefix of a line in the kernel's log, such as `<6>[   12.345678] `, with or without level and caller.
LOG_PREFIX = r"(?:<[0-9]{1,3}>)?\[[ ]{0,8}[0-9]{1,9}\.[0-9]{1,9}\](?:\[[ ]{0,8}[TC][0-9]{1,9}\])? ?"

VERSION = re.compile(r"K?TAP version [0-9]{1,3}", re.IGNORECASE)
PLAN = re.compile(r"1\.\.([0-9]{1,9})[ \t]*(?:#[ \t]*(SKIP\w*)?[ \t:]*(.*))?", re.IGNORECASE)
RESULT = re.compile(
    r"(not (?=ok)|(?i:not[ \t]++(?=ok[ \t]++[0-9])))?(?(1)(?i:ok)|ok)(?=[ \t]|$)"
    r"(?:[ \t]+([0-9]{1,9})(?=[ \t]|$))?[ \t]*(?:-(?=[ \t]|$)[ \t]*)?(.*?)((?<=[ \t])\{)?"
)
OPENED = re.compile(r"\{")  # node-tap puts the results of a subtest in braces after its own result
CLOSED = re.compile(r"\}")
BAIL = re.compile(r"Bail out![ \t]*(.*)", re.IGNORECASE)
SUBTEST = re.compile(r"#[ \t]*Subtest:?[ \t]*(.*)")
DURATION = re.compile(r"duration_ms:[ ]*([0-9]{1,9}(?:\.[0-9]{1,9})?)")
FAILED_TEST = re.compile(r"#[ \t]+Failed (?:\(TODO\) )?test")  # Test::More explains a failure after its result
#: Messages of producers at the end of a run that went wrong, even if every result is ok.
WENT_WRONG = re.compile(
    r"#[ \t]*(?:Looks like you(?:r test)? (?:failed|planned|exited|died)\b.*|(?:fail|cancelled)[ \t]+[1-9][0-9]*"
    r"|Totals:.*\b(?:fail|error):[1-9].*|FAILED: [0-9]+ / [0-9]+ tests passed\b.*)"
)

_VERSION_END = re.compile(r"K?TAP version [0-9]{1,3}[ \t]*$", re.MULTILINE | re.IGNORECASE)
_LEAD = rf"^(?:{LOG_PREFIX})?[ \t]*+"
_PLAN_LINE = re.compile(_LEAD + r"1\.\.[0-9]{1,9}[ \t]*(?:#.*)?$", re.MULTILINE)
_RESULT_LINE = re.compile(_LEAD + r"(?:not )?ok(?=\s)", re.MULTILINE)
_BAD_RESULT = re.compile(_LEAD + r"not ok [0-9]{1,9}(?=\s)", re.MULTILINE)  # such lines occur only in TAP
_BEGUN = re.compile(r"(?:\s++|#[^\n]*+(?:\n|\Z))*+(?:(?:not )?ok 1(?![0-9])|1\.\.[0-9]{1,9}(?=[ \t]*(?:#|\n|\Z)))")
_TOLD = re.compile(r"\b(?:(not )?ok ([0-9]{1,9})(?=\s|\Z)|1\.\.[0-9]{1,9}[ \t]*(?:#.*)?$)", re.MULTILINE)
_FIRST_LINE = re.compile(r"\s*+[^\n]*+")
_TOKENS = re.compile(r"\w+|[ \t]+|.")
_NEIGHBOUR = 400  # characters of a neighbouring line that are examined
_NEXT_LINE = re.compile(rf"[^\n]*+\s*^(.{{0,{_NEIGHBOUR}}})", re.MULTILINE)
_PREFIX = 200  # maximum characters of a log's prefix before a line
_PREFIXES = 8  # maximum number of different forms of prefixes in one text
_VERSIONS = 500  # maximum number of version lines that are searched for a prefix
_RESULTS = 5000  # maximum number of results and plans that are searched for a prefix, without a version line

_LOG = re.compile(LOG_PREFIX)
_DIRECTIVE = re.compile(r"(?:^|(?<=[ \t]))#[ \t]*(SKIP|TODO|XFAIL)(?:P?ED|PING|S)?(?!\w)[ \t:]*(.*)", re.IGNORECASE)
_REMARK = re.compile(r"(?:^|(?<=[ \t]))#[ \t]+(.*)")
_TIME = re.compile(r"#[ \t]*time=([0-9]{1,9}(?:\.[0-9]{1,9})?)[ ]?(ms|s|m)?\b")
_ESCAPED = re.compile(r"\\([\\#])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 0.001}

#: Outcomes by result and directive: an expected failure does not count against the workload.
_OUTCOMES = {
    ("ok", "skip"): Outcome.SKIPPED,
    ("not ok", "skip"): Outcome.SKIPPED,
    ("not ok", "todo"): Outcome.SKIPPED,
    ("not ok", "xfail"): Outcome.SKIPPED,
    ("not ok", ""): Outcome.FAILED,
}


class Line(NamedTuple):
    """A line without its indentation.

    Attributes:
        indent: Indentation in columns.
        hashed: Whether the indentation includes a `# `.
    """

    indent: int
    text: str
    hashed: bool = False

    @classmethod
    def of(cls, raw: str, prefix: re.Pattern[str] | None = None) -> Line:
        """Parse a line; remove the prefix of the kernel's log, or one that matches `prefix`."""
        if prefix is not None and (found := prefix.match(raw)):
            raw = raw[found.end() :]
        return cls(*_indented(_LOG.sub("", raw, count=1) if raw[:1] in ("[", "<") else raw))

    @property
    def within(self) -> Line:
        """Return the text after `# ` as a line."""
        more, text = _indented(self.text[2:])
        return Line(self.indent + 2 + more, text, hashed=True)


class Result(NamedTuple):
    """A result line, `[not ]ok [number] [- name] [# directive or remark]`; the duration is in seconds."""

    name: str
    outcome: Outcome
    remark: str
    duration: float

    @classmethod
    def of(cls, match: re.Match[str], ran: int) -> Result:
        """Return the result in a match of `RESULT`, for the `ran`-th test of its plan."""
        said = match[3]
        ending = _DIRECTIVE.search(said) or _REMARK.search(said)
        directive = ending[1].lower() if ending and ending.re is _DIRECTIVE else ""
        took = _TIME.search(said)
        remark = ending[ending.re.groups].strip() if ending and (directive or not took) else ""
        name = described(said[: ending.start()] if ending else said)
        return cls(
            name or f"test {match[2] or ran}",
            _OUTCOMES.get(("not ok" if match[1] else "ok", directive), Outcome.PASSED),
            remark,
            float(took[1]) * _UNITS[took[2]] if took else 0.0,
        )


class Found(NamedTuple):
    """Where TAP begins in a text, None if there is none, and the pattern of a log's prefix before its lines."""

    start: int | None
    prefix: re.Pattern[str] | None


def find_tap(text: str) -> Found:
    """Find TAP by its version line, at the beginning of the text, or by its results; also after a log's prefix."""
    start: int | None = None
    shapes: list[str] = []
    for found in islice(_VERSION_END.finditer(text), _VERSIONS):
        if _stands_in_log(text, found, shapes) and start is None:
            start = text.rfind("\n", 0, found.start()) + 1
    end = len(text) if start is None else start
    planned = _PLAN_LINE.search(text, 0, end) and _RESULT_LINE.search(text, 0, end)
    bad = _BAD_RESULT.search(text, 0, end)
    if planned or bad or _BEGUN.match(text, 0, end) or _has_results(text, end, shapes):
        start = 0
    return Found(start, re.compile("|".join(shapes)) if shapes else None)


def _has_results(text: str, end: int, shapes: list[str]) -> bool:
    """Return whether the text has results that do not occur in prose.

    These are: a result that is not ok; results 1 and 2; a plan and a result. On the text's first line, a plan or
    result 1 is enough.
    """
    told = set()
    line = _FIRST_LINE.match(text, 0, end)
    for found in islice(_TOLD.finditer(text, 0, end), _RESULTS):
        if not _stands_in_log(text, found, shapes):
            continue
        told.add(found[1] or found[2] or "plan")
        first = line is not None and found.start() < line.end() and told & {"1", "plan"}
        if first or "not " in told or {"1", "2"} <= told or ("plan" in told and len(told) > 1):
            return True
    return False


def without_prefixes(text: str, what: re.Pattern[str]) -> str:
    """Return the text without a log's prefixes, if such a prefix is before a match of `what`."""
    shapes: list[str] = []
    prefixed = False
    for found in islice(what.finditer(text), _VERSIONS):
        before = _before(text, found)
        if not re.search(r"\w", before) or re.search("<[A-Za-z/?!]", before):
            continue  # no prefix, or a list's mark, a quotation's mark, or XML
        prefixed = _stands_in_log(text, found, shapes) or prefixed
    return re.sub(f"^(?:{'|'.join([LOG_PREFIX, *shapes])})", "", text, flags=re.MULTILINE) if prefixed else text


def _before(text: str, found: re.Match[str]) -> str:
    """Return the text before a match on its line, at most one character more than a prefix may have."""
    return text[max(0, found.start() - _PREFIX - 1) : found.start()].rpartition("\n")[2]


def _stands_in_log(text: str, found: re.Match[str], shapes: list[str]) -> bool:
    """Return whether only a log's prefix is before the match on its line; add a new form of prefix to `shapes`."""
    shape = _shape(text, _before(text, found), found, shapes)
    if shape and len(shapes) < _PREFIXES:
        shapes.append(shape)
    return shape is not None


def _shape(text: str, before: str, told: re.Match[str], known: list[str]) -> str | None:
    """Return the pattern of a prefix before a TAP line, empty if it is known; None if it is no prefix but a sentence.

    Unless it ends with a time or the like, a neighbouring line must have the same form of prefix.
    """
    for shape in (LOG_PREFIX, *known):
        found = re.match(shape, before)
        if not before[found.end() if found else 0 :].strip("# \t"):
            return ""  # only indentation is left
    if len(before) > _PREFIX or before[-1].isalnum() or not re.search(r"[^\w \t]", before):
        return None
    shape = _shape_of(before)
    if len(re.findall("[0-9]", before)) >= 4 and not before.rsplit(maxsplit=1)[-1].isalpha():
        return shape
    begin = told.start() - len(before)
    above = text[max(0, begin - _NEIGHBOUR) : max(0, begin - 1)].rpartition("\n")[2]
    below = _NEXT_LINE.match(text, told.end())
    return shape if re.match(shape, above) or (below and re.match(shape, below[1])) else None


def _shape_of(prefix: str) -> str:
    """Return a pattern for all prefixes of the same form.

    It accepts any words and numbers, and any space between them, because prefixes often align columns with spaces.
    """
    tokens = _TOKENS.findall(prefix)
    parts = []
    for last, token, following in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        if re.match(r"\w", token):
            parts.append(r"\w++")
        elif token.isspace() and following:
            parts.append(r"[ \t]++" if re.match(r"\w", last) and re.match(r"\w", following) else r"[ \t]*+")
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def described(text: str) -> str:
    """Return a name of limited length, with its escaped hash signs and backslashes unescaped."""
    return _ESCAPED.sub(r"\1", text.strip())[:_NAME]


def _indented(line: str) -> tuple[int, str]:
    text = line.lstrip(" \t")
    lead = line[: len(line) - len(text)]
    return len(lead) + 3 * lead.count("\t"), text
