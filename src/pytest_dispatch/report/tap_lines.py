"""What a line of TAP or KTAP says, by itself."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dispatch.core.model import Outcome

LINE = 4096  # characters of a line that are looked at
_NAME = 200  # characters of a test's own name

#: `<6>[   12.345678] `, with or without level and caller: how a line of the kernel's log begins.
LOG_PREFIX = r"(?:<[0-9]{1,3}>)?\[[ ]{0,8}[0-9]{1,9}\.[0-9]{1,9}\](?:\[[ ]{0,8}[TC][0-9]{1,9}\])? ?"

VERSION = re.compile(r"K?TAP version [0-9]{1,3}")
PLAN = re.compile(r"1\.\.([0-9]{1,9})[ \t]*(?:#[ \t]*(?:SKIP\w*)?[ \t:]*(.*))?", re.IGNORECASE)
RESULT = re.compile(r"(not )?ok(?=[ \t]|$)(?:[ \t]+([0-9]{1,9})(?=[ \t]|$))?[ \t]*(?:-(?=[ \t]|$)[ \t]*)?(.*)")
BAIL = re.compile(r"Bail out![ \t]*(.*)", re.IGNORECASE)
SUBTEST = re.compile(r"#[ \t]*Subtest:?[ \t]*(.*)")
DURATION = re.compile(r"duration_ms:[ ]*([0-9]{1,9}(?:\.[0-9]{1,9})?)")
FAILED_TEST = re.compile(r"#[ \t]+Failed (?:\(TODO\) )?test")  # Test::More explains behind the result

_LOG = re.compile(LOG_PREFIX)
_DIRECTIVE = re.compile(r"(?:^|(?<=[ \t]))#[ \t]*(SKIP|TODO|XFAIL)\w*[ \t:]*(.*)", re.IGNORECASE)
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
    def of(cls, raw: str) -> Line:
        """A line as it came, without what the kernel's log puts before it."""
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


def described(text: str) -> str:
    """A name without the backslashes that protected its hash signs, and not endless."""
    return _ESCAPED.sub(r"\1", text.strip())[:_NAME]


def _indented(line: str) -> tuple[int, str]:
    text = line.lstrip(" \t")
    lead = line[: len(line) - len(text)]
    return len(lead) + 3 * lead.count("\t"), text
