"""What a line of TAP or KTAP says, by itself."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from pytest_dispatch.core.model import Outcome

LINE = 4096  # characters of a line that are looked at
_NAME = 200  # characters of a test's own name

#: `<6>[   12.345678] `, with or without level and caller: how a line of the kernel's log begins.
LOG_PREFIX = r"(?:<[0-9]{1,3}>)?\[[ ]{0,8}[0-9]{1,9}\.[0-9]{1,9}\](?:\[[ ]{0,8}[TC][0-9]{1,9}\])? ?"

VERSION = re.compile(r"K?TAP version [0-9]{1,3}", re.IGNORECASE)
PLAN = re.compile(r"1\.\.([0-9]{1,9})[ \t]*(?:#[ \t]*(SKIP\w*)?[ \t:]*(.*))?", re.IGNORECASE)
RESULT = re.compile(
    r"(not (?=ok)|(?i:not[ \t]++(?=ok[ \t]++[0-9])))?(?(1)(?i:ok)|ok)(?=[ \t]|$)"
    r"(?:[ \t]+([0-9]{1,9})(?=[ \t]|$))?[ \t]*(?:-(?=[ \t]|$)[ \t]*)?(.*?)((?<=[ \t])\{)?"
)
OPENED = re.compile(r"\{")  # node-tap: the results of a subtest follow its own, between these
CLOSED = re.compile(r"\}")
BAIL = re.compile(r"Bail out![ \t]*(.*)", re.IGNORECASE)
SUBTEST = re.compile(r"#[ \t]*Subtest:?[ \t]*(.*)")
DURATION = re.compile(r"duration_ms:[ ]*([0-9]{1,9}(?:\.[0-9]{1,9})?)")
FAILED_TEST = re.compile(r"#[ \t]+Failed (?:\(TODO\) )?test")  # Test::More explains behind the result
#: What producers say at their end of a run that went wrong, also where each result is ok.
WENT_WRONG = re.compile(
    r"#[ \t]*(?:Looks like you(?:r test)? (?:failed|planned|exited|died)\b.*|(?:fail|cancelled)[ \t]+[1-9][0-9]*"
    r"|Totals:.*\b(?:fail|error):[1-9].*|FAILED: [0-9]+ / [0-9]+ tests passed\b.*)"
)

_VERSION_END = re.compile(r"K?TAP version [0-9]{1,3}[ \t]*$", re.MULTILINE | re.IGNORECASE)
_LEAD = rf"^(?:{LOG_PREFIX})?[ \t]*+"
_PLAN_LINE = re.compile(_LEAD + r"1\.\.[0-9]{1,9}[ \t]*(?:#.*)?$", re.MULTILINE)
_RESULT_LINE = re.compile(_LEAD + r"(?:not )?ok(?=\s)", re.MULTILINE)
_BAD_RESULT = re.compile(_LEAD + r"not ok [0-9]{1,9}(?=\s)", re.MULTILINE)  # nothing but TAP has such lines
_BEGUN = re.compile(r"(?:\s++|#[^\n]*+(?:\n|\Z))*+(?:(?:not )?ok 1(?![0-9])|1\.\.[0-9]{1,9}(?=[ \t]*(?:#|\n|\Z)))")
_TOLD = re.compile(r"\b(?:(not )?ok ([0-9]{1,9})(?=\s|\Z)|1\.\.[0-9]{1,9}[ \t]*(?:#.*)?$)", re.MULTILINE)
_FIRST_LINE = re.compile(r"\s*+[^\n]*+")
_TOKENS = re.compile(r"\w+|[ \t]+|.")
_NEIGHBOUR = 400  # characters of a line beside another one that are looked at
_NEXT_LINE = re.compile(rf"[^\n]*+\s*^(.{{0,{_NEIGHBOUR}}})", re.MULTILINE)
_PREFIX = 200  # characters that a log puts before a line
_PREFIXES = 8  # shapes of them in one text
_VERSIONS = 500  # lines at which they are looked for
_RESULTS = 5000  # where there is no version: results and plans at which they are looked for

_LOG = re.compile(LOG_PREFIX)
_DIRECTIVE = re.compile(r"(?:^|(?<=[ \t]))#[ \t]*(SKIP|TODO|XFAIL)(?:P?ED|PING|S)?(?!\w)[ \t:]*(.*)", re.IGNORECASE)
_REMARK = re.compile(r"(?:^|(?<=[ \t]))#[ \t]+(.*)")
_TIME = re.compile(r"#[ \t]*time=([0-9]{1,9}(?:\.[0-9]{1,9})?)[ ]?(ms|s|m)?\b")
_ESCAPED = re.compile(r"\\([\\#])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 0.001}

#: Directives change what a result means: a failure that was to be expected does not speak against the workload.
_OUTCOMES = {
    ("ok", "skip"): Outcome.SKIPPED,
    ("not ok", "skip"): Outcome.SKIPPED,
    ("not ok", "todo"): Outcome.SKIPPED,
    ("not ok", "xfail"): Outcome.SKIPPED,
    ("not ok", ""): Outcome.FAILED,
}


class Line(NamedTuple):
    """A line and where it stands: its indentation, and whether that is one of `# `."""

    indent: int
    text: str
    hashed: bool = False

    @classmethod
    def of(cls, raw: str, prefix: re.Pattern[str] | None = None) -> Line:
        """A line as it came, without what a log puts before it: the kernel's, or one of this shape."""
        if prefix is not None and (found := prefix.match(raw)):
            raw = raw[found.end() :]
        return cls(*_indented(_LOG.sub("", raw, count=1) if raw[:1] in ("[", "<") else raw))

    @property
    def within(self) -> Line:
        """What stands behind `# `."""
        more, text = _indented(self.text[2:])
        return Line(self.indent + 2 + more, text, hashed=True)


class Result(NamedTuple):
    """What `[not ]ok [number] [- name] [# directive or remark]` says; the duration is in seconds."""

    name: str
    outcome: Outcome
    remark: str
    duration: float

    @classmethod
    def of(cls, match: re.Match[str], ran: int) -> Result:
        """What a match of `RESULT` says of the `ran`-th test of its plan."""
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
    """Where in a text TAP begins, None if there is none, and the shape of what a log puts before its lines."""

    start: int | None
    prefix: re.Pattern[str] | None


def find_tap(text: str) -> Found:
    """Find TAP: by its version line; or it begins the text; or by its results. Each also behind a log's prefix."""
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
    """Whether there are results that no prose has: one that is not ok; the first two; a plan, and one of them.

    The plan, or the first of them, is enough on the text's first line.
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
    """Return the text without what a log puts before its lines, if it stands before a match of `what`."""
    shapes: list[str] = []
    prefixed = False
    for found in islice(what.finditer(text), _VERSIONS):
        before = _before(text, found)
        if not re.search(r"\w", before) or re.search("<[A-Za-z/?!]", before):
            continue  # it begins its line, or that is a list, a quotation, or XML as well
        prefixed = _stands_in_log(text, found, shapes) or prefixed
    return re.sub(f"^(?:{'|'.join([LOG_PREFIX, *shapes])})", "", text, flags=re.MULTILINE) if prefixed else text


def _before(text: str, found: re.Match[str]) -> str:
    """What stands before it on its line; of that, no more than has to be seen to be too much."""
    return text[max(0, found.start() - _PREFIX - 1) : found.start()].rpartition("\n")[2]


def _stands_in_log(text: str, found: re.Match[str], shapes: list[str]) -> bool:
    """Whether nothing stands before it but what a log puts there; a new shape of that is added."""
    shape = _shape(text, _before(text, found), found, shapes)
    if shape and len(shapes) < _PREFIXES:
        shapes.append(shape)
    return shape is not None


def _shape(text: str, before: str, told: re.Match[str], known: list[str]) -> str | None:
    """The shape of what stands before a line of results, empty if that is known; None if it is a sentence.

    What does not end with a time or the like has to stand before one of the lines beside it too.
    """
    for shape in (LOG_PREFIX, *known):
        found = re.match(shape, before)
        if not before[found.end() if found else 0 :].strip("# \t"):
            return ""  # what is left is an indentation
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
    """A pattern of all prefixes like this one.

    Words and numbers may be any others, and so may be the space between them, which often fills up a column.
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
    """A name without the backslashes that protected its hash signs, and not endless."""
    return _ESCAPED.sub(r"\1", text.strip())[:_NAME]


def _indented(line: str) -> tuple[int, str]:
    text = line.lstrip(" \t")
    lead = line[: len(line) - len(text)]
    return len(lead) + 3 * lead.count("\t"), text
