"""Reads TAP 13 and 14 (testanything.org) and KTAP (the kernel's `Documentation/dev-tools/ktap.rst`).

Line by line, with a stack of open subtests instead of recursion, and a bound on everything that a hostile text could
make grow: the time is linear in its length. Nested results are named `suite.test`; a subtest's own result only
becomes a case where its children do not tell the same.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.report.tap_lines import (
    BAIL,
    DURATION,
    FAILED_TEST,
    LINE,
    PLAN,
    RESULT,
    SUBTEST,
    VERSION,
    Line,
    Result,
    described,
)

MOST_CASES = 100_000
MOST_LINES = 500_000  # that are not blank
_FULL_NAME = 400  # characters of a test's name with its suites
_DEPTH = 16  # subtests within subtests; what is deeper is read as if it stood there
_REMARKS = 20  # lines before a failure that are kept as its message
_BLOCK = 16384  # characters of a YAML block that are kept

_LINES = re.compile(r"[^\n]+")


@dataclass(slots=True, eq=False)
class _Subtest:
    """A level of nesting, from its first line until a line further left."""

    indent: int
    parent: _Subtest | None = None
    name: str = ""
    announced: str = ""  # the name by which the next subtest within it was announced
    planned: int | None = None
    skipped: str = ""  # why nothing was planned
    ran: int = 0
    first: int = 0  # place of its first point
    hashed: bool = False  # its lines stand behind `# ` of the level around it
    closed: list[_Subtest] = field(default_factory=list)  # subtests whose own result has not come yet

    @property
    def begun(self) -> bool:
        return self.ran > 0 or self.planned is not None

    @property
    def full_name(self) -> str:
        names: list[str] = []
        level: _Subtest | None = self
        while level is not None:
            names.append(level.name)
            level = level.parent
        return ".".join(filter(None, reversed(names)))


@dataclass(slots=True, eq=False)
class _Point:
    """A result, and what explains it."""

    subtest: _Subtest
    name: str
    outcome: Outcome
    remarks: list[str]
    duration: float = 0.0
    indent: int = 0

    def case(self) -> Case:
        name = ".".join(filter(None, (self.subtest.full_name, self.name)))[:_FULL_NAME]
        message = "" if self.outcome is Outcome.PASSED else "\n".join(filter(None, self.remarks))
        return Case(name=name, outcome=self.outcome, duration=self.duration, message=message)


@dataclass(slots=True, eq=False)
class _Block:
    """A YAML block behind a result."""

    point: _Point
    indent: int
    lines: list[str] = field(default_factory=list)
    size: int = 0

    def take(self, indent: int, text: str) -> None:
        if match := DURATION.match(text):
            self.point.duration = float(match[1]) / 1000
        self.size += indent + len(text)
        if self.size <= _BLOCK:
            self.lines.append(" " * (indent - self.indent) + text)


def read_tap(text: str, start: int = 0) -> tuple[Case, ...] | None:
    """The cases in a TAP or KTAP text, from an offset on.

    Returns:
        The cases; None if there is no result, no plan and no bail-out, so that it is no TAP.
    """
    reader = _Reader()
    for number, match in enumerate(_LINES.finditer(text, start)):
        if number == MOST_LINES:
            reader.give_up(f"more than {MOST_LINES} lines")
        if reader.done:
            break
        at = match.start()
        reader.read(text[at : min(match.end(), at + LINE)].rstrip())
    reader.finish()
    return tuple(point.case() for point in reader.points) if reader.found else None


class _Reader:
    """What has been read so far; `found` tells whether any of it was TAP."""

    def __init__(self) -> None:
        self.points: list[_Point] = []
        self.found = False
        self.done = False
        self._stack = [_Subtest(0)]
        self._before: deque[str] = deque(maxlen=_REMARKS)  # remarks since the last result
        self._last: _Point | None = None  # the last result: what may follow it belongs to it
        self._explaining = False  # remarks explain the last result, not the next one
        self._block: _Block | None = None

    def read(self, raw: str) -> None:
        """Take a line; blank ones mean nothing, also where they hold white space."""
        if not raw:
            return
        line = self._placed(Line.of(raw))
        if self._block is not None and self._in_block(self._block, line):
            return
        pattern, take = _KINDS.get(line.text[:1].lower(), (None, None))
        match = pattern.fullmatch(line.text) if pattern else None
        if match is None or take is None or not take(self, line, match):
            self._remark(line)

    def give_up(self, why: str) -> None:
        """Read nothing more; what is left unread must not pass for passed."""
        self.found = self.done = True
        del self.points[MOST_CASES - 1 :]
        self.points.append(_Point(_Subtest(0), why, Outcome.FAILED, ["the rest was not read"]))

    def finish(self) -> None:
        """The text is over."""
        if self._block is not None:
            self._close_block(self._block)
        while self._stack:
            self._close()

    # Where a line stands

    def _placed(self, line: Line) -> Line:
        """Where kselftest shows the output of a test behind `# `, and that is TAP itself, it is a subtest."""
        if not line.text.startswith("# "):
            return line
        around = next((level.parent for level in reversed(self._stack) if level.hashed), None)
        if around is not None and around.indent == line.indent:
            return line.within
        return line.within if VERSION.fullmatch(line.text, 2) else line

    def _level(self, line: Line, *, opens: bool = True) -> _Subtest:
        """The subtest that a line belongs to."""
        while len(self._stack) > 1 and line.indent < self._stack[-1].indent:
            self._close()
        top = self._stack[-1]
        if line.indent > top.indent and opens and len(self._stack) < _DEPTH:
            hashed = line.hashed and not top.hashed
            level = _Subtest(line.indent, top, name=top.announced, first=len(self.points), hashed=hashed)
            top.announced = ""
            self._stack.append(level)
            return level
        return top

    def _close(self) -> None:
        """The innermost subtest is over."""
        level = self._stack.pop()
        if level.planned is not None and level.ran < level.planned and not self.done:
            self._put(level, f"planned {level.planned}, {level.ran} ran", Outcome.FAILED, "tests are missing")
        if level.parent is not None:
            level.parent.closed.append(level)
        elif level.planned == 0 and not level.ran:
            self._put(level, "1..0", Outcome.SKIPPED, level.skipped or "no tests were planned")

    # What a line says; each returns whether it is what it looks like

    def version(self, line: Line, _: re.Match[str]) -> bool:
        """`TAP version 14`: a document begins."""
        level = self._level(line)
        if level.begun:  # another document, and the one before ended without a word
            self._close()
            self._stack.append(_Subtest(level.indent, level.parent, first=len(self.points), hashed=level.hashed))
        self._forget()
        return True

    def plan(self, line: Line, match: re.Match[str]) -> bool:
        """`1..8`, or `1..0 # SKIP why`."""
        level = self._level(line)
        level.planned, level.skipped = int(match[1]), match[2] or ""
        self.found = True
        return True

    def subtest(self, line: Line, match: re.Match[str]) -> bool:
        """`# Subtest: name`, the first line of the subtest or the last one before it."""
        level = self._level(line)
        name = described(match[1])
        if level.parent is not None and not level.name and not level.begun:
            level.name = name
        else:
            level.announced = name
        return True

    def bail(self, line: Line, match: re.Match[str]) -> bool:
        """`Bail out! why`: nothing more comes."""
        self._put(self._level(line, opens=False), "Bail out!", Outcome.FAILED, match[1])
        self.found = self.done = True
        return True

    def result(self, line: Line, match: re.Match[str]) -> bool:
        """`ok 1 - name`, `not ok 2 - name # TODO why`."""
        opens = match[2] is not None or bool(self._stack[-1].announced)
        if not opens and line.indent > self._stack[-1].indent:
            return False  # an indented sentence that begins with "ok"
        level = self._level(line, opens=opens)
        level.ran += 1
        level.announced = ""
        result = Result.of(match, level.ran)
        remarks = [result.remark, *(self._before if result.outcome is Outcome.FAILED else ())]
        point = _Point(level, result.name, result.outcome, remarks, result.duration, line.indent)
        self._forget()
        self._last = point
        self.found = True
        if not self._told_by_children(level, point):
            self._keep(point)
        return True

    def _told_by_children(self, level: _Subtest, point: _Point) -> bool:
        """Whether this is the result of subtests that have told it themselves. They get their name from it."""
        children, level.closed = level.closed, []
        if not children or children[0].first >= len(self.points):
            return False
        for child in children:
            child.name = point.name
        told = self.points[children[0].first :]
        if point.outcome is Outcome.FAILED:
            return any(one.outcome is Outcome.FAILED for one in told)
        if point.outcome is Outcome.SKIPPED:  # the whole of it was to be expected
            for one in told:
                one.outcome = Outcome.SKIPPED if one.outcome is Outcome.FAILED else one.outcome
        return True

    # What explains a result

    def _remark(self, line: Line) -> None:
        """A comment, or a line that is no TAP: it may explain the last result, or a failure that follows."""
        last, text = self._last, line.text
        if last is not None and text == "---" and line.indent > last.indent:
            self._block = _Block(last, line.indent)
            return
        comment = text.startswith("#")
        self._explaining = comment and last is not None and (self._explaining or bool(FAILED_TEST.match(text)))
        if self._explaining and last is not None:
            if len(last.remarks) < _REMARKS:
                last.remarks.append(text.lstrip("# \t"))
        elif comment or self._before:
            self._before.append(text.lstrip("# \t"))

    def _in_block(self, block: _Block, line: Line) -> bool:
        """Take a line of the YAML block; False if it stands outside, which ends the block."""
        outside = line.indent <= block.point.indent
        if outside or (line.text == "..." and line.indent == block.indent):
            self._close_block(block)
            return not outside
        block.take(line.indent, line.text)
        return True

    def _close_block(self, block: _Block) -> None:
        if block.point.outcome is Outcome.FAILED:
            block.point.remarks.append("\n".join(block.lines))
        self._block = None

    def _forget(self) -> None:
        self._before.clear()
        self._last = None
        self._explaining = False

    # What was read

    def _put(self, level: _Subtest, name: str, outcome: Outcome, message: str) -> None:
        self._keep(_Point(level, name, outcome, [message]))

    def _keep(self, point: _Point) -> None:
        if len(self.points) < MOST_CASES:
            self.points.append(point)
        elif not self.done:
            self.give_up(f"more than {MOST_CASES} cases")


_Take = Callable[[_Reader, Line, re.Match[str]], bool]

#: First character, in lower case, of each kind of line that means something, its shape, and who takes it.
_KINDS: Mapping[str, tuple[re.Pattern[str], _Take]] = {
    "k": (VERSION, _Reader.version),
    "t": (VERSION, _Reader.version),
    "1": (PLAN, _Reader.plan),
    "o": (RESULT, _Reader.result),
    "n": (RESULT, _Reader.result),
    "b": (BAIL, _Reader.bail),
    "#": (SUBTEST, _Reader.subtest),
}
