"""Reads TAP 13 and 14 (testanything.org) and KTAP (the kernel's `Documentation/dev-tools/ktap.rst`).

Line by line, with a stack of open subtests instead of recursion, and a bound on everything that a hostile text could
make grow: the time is linear in its length. Nested results are named `suite.test`; a subtest's own result only
becomes a case where its children do not tell the same.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.console_text import console_text
from pytest_dispatch.results.tap_levels import Block, Point, Subtest
from pytest_dispatch.results.tap_lines import (
    BAIL,
    CLOSED,
    FAILED_TEST,
    LINE,
    OPENED,
    PLAN,
    RESULT,
    SUBTEST,
    VERSION,
    WENT_WRONG,
    Line,
    Result,
    described,
    find_tap,
)

MOST_CASES = 100_000
MOST_LINES = 500_000  # that are not blank
_DEPTH = 16  # subtests within subtests; what is deeper is read as if it stood there
_REMARKS = 20  # lines before a failure that are kept as its message

_LINES = re.compile(r"[^\n]+")


def read_tap(text: str, *, whole: bool = True) -> tuple[Case, ...] | None:
    """Return the cases in a TAP or KTAP text.

    Args:
        text: What is, or what may contain, TAP.
        whole: All of it is to be TAP; else it begins where a version line, or a plan and results, are found.

    Returns:
        The cases; None if there is no version, no result, no plan and no bail-out, so that it is no TAP.
    """
    text = console_text(text)
    start, prefix = find_tap(text)
    if start is None and not whole:
        return None
    reader = _Reader(prefix)
    for number, match in enumerate(_LINES.finditer(text, start or 0)):
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

    def __init__(self, prefix: re.Pattern[str] | None) -> None:
        self.points: list[Point] = []
        self.found = False
        self.done = False
        self._prefix = prefix
        self._wrong = ""  # what the producer said of the whole run, where that went wrong
        self._stack = [Subtest(0)]
        self._before: deque[str] = deque(maxlen=_REMARKS)  # remarks since the last result
        self._last: Point | None = None  # the last result: what may follow it belongs to it
        self._explaining = False  # remarks explain the last result, not the next one
        self._block: Block | None = None

    def read(self, raw: str) -> None:
        """Take a line; blank ones mean nothing, also where they hold white space."""
        if not raw:
            return
        line = self._placed(Line.of(raw, self._prefix))
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
        self.points.append(Point(Subtest(0), "TAP", Outcome.FAILED, [f"{why}: the rest was not read"]))

    def finish(self) -> None:
        """The text is over."""
        if self._block is not None:
            self._close_block(self._block)
        top = self._stack[0]
        while self._stack:
            self._close()
        if self.found and not self.points:  # there was nothing to run, in none of the documents
            why = next((level.skipped for level in top.closed if level.skipped is not None), None)
            self._put(top, *(("TAP", Outcome.FAILED, "ran no test") if why is None else ("1..0", Outcome.SKIPPED, why)))
        if self._wrong and self.found and all(point.outcome is not Outcome.FAILED for point in self.points):
            self._broken(top, self._wrong)

    # Where a line stands

    def _placed(self, line: Line) -> Line:
        """Where kselftest shows the output of a test behind `# `, and that is TAP itself, it is a subtest."""
        if not line.text.startswith("# "):
            return line
        around = next((level.parent for level in reversed(self._stack) if level.hashed), None)
        if around is not None and around.indent == line.indent:
            return line.within
        return line.within if VERSION.fullmatch(line.text, 2) else line

    def _level(self, line: Line, *, opens: bool = True) -> Subtest:
        """The subtest that a line belongs to."""
        while len(self._stack) > 1 and line.indent < self._stack[-1].indent:
            self._close()
        top = self._stack[-1]
        if line.indent > top.indent and opens and len(self._stack) < _DEPTH:
            hashed = line.hashed and not top.hashed
            level = Subtest(line.indent, top, name=top.announced, first=len(self.points), hashed=hashed)
            top.announced = ""
            self._stack.append(level)
            return level
        return top

    def _close(self) -> None:
        """The innermost subtest is over."""
        level = self._stack[-1]
        self._settle(level)
        self._stack.pop()
        what = "" if self.done else level.broken
        if what:
            self._broken(level, what)
        if level.parent is not None:
            level.parent.closed.append(level)
        elif level.skipped is not None and not level.ran:
            self._put(level, "1..0", Outcome.SKIPPED, level.skipped)

    def _settle(self, level: Subtest) -> None:
        """No brace closes the last result, if it has opened one: it belongs to its name if nothing was in it."""
        point, level.held = level.held, None
        if point is None:
            return
        if level.closed:
            self._broken(level, f"the subtest {point.name!r} breaks off: its closing brace is missing")
        elif not point.braced:
            point.name += " {"
        self._tell(level, point)

    def _tell(self, level: Subtest, point: Point) -> None:
        """Keep a result, unless those of its subtests tell the same."""
        if not self._told_by_children(level, point):
            self._keep(point)

    # What a line says; each returns whether it is what it looks like

    def version(self, line: Line, _: re.Match[str]) -> bool:
        """`TAP version 14`: a document begins."""
        level = self._level(line)
        if level.begun:  # another document, and the one before ended without a word
            self._close()
            level = Subtest(level.indent, level.parent, first=len(self.points), hashed=level.hashed)
            self._stack.append(level)
        level.versioned = self.found = True
        self._forget()
        return True

    def plan(self, line: Line, match: re.Match[str]) -> bool:
        """`1..8`, or `1..0 # SKIP why`."""
        level = self._level(line)
        self._settle(level)
        planned = int(match[1])
        if level.planned is not None:
            self._broken(level, f"two plans, 1..{level.planned} and 1..{planned}")
        else:
            level.planned = planned
            level.skipped = match[3] if match[2] and not planned else None
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
        """`ok 1 - name`, `not ok 2 - name # TODO why`, `ok 3 - name {`."""
        opens = match[2] is not None or bool(self._stack[-1].announced)
        if not opens and line.indent > self._stack[-1].indent:
            return False  # an indented sentence that begins with "ok"
        level = self._level(line, opens=opens)
        self._settle(level)
        level.count(match[2])
        level.announced = ""
        result = Result.of(match, level.ran)
        remarks = [result.remark, *(self._before if result.outcome is Outcome.FAILED else ())]
        point = Point(level, result.name, result.outcome, remarks, result.duration, line.indent)
        self._forget()
        self._last = point
        self.found = True
        if match[4]:
            self._hold(level, point)
        else:
            self._tell(level, point)
        return True

    def _hold(self, level: Subtest, point: Point) -> None:
        level.held, level.announced = point, point.name
        level.closed = []

    def opened(self, line: Line, _: re.Match[str]) -> bool:
        """`{`: the subtest of the last result begins, behind what explains that."""
        level, last = self._level(line, opens=False), self._last
        if last is None or last.subtest is not level or not self.points or self.points[-1] is not last:
            return False
        self.points.pop()
        last.braced = True
        self._hold(level, last)
        return True

    def closed(self, line: Line, _: re.Match[str]) -> bool:
        """`}`: the subtest of a result is over."""
        level = self._level(line, opens=False)
        point, level.held = level.held, None
        if point is None:
            return False
        level.announced = ""
        self._tell(level, point)
        self._forget()
        return True

    def _told_by_children(self, level: Subtest, point: Point) -> bool:
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
        if not line.indent and WENT_WRONG.fullmatch(text):
            self._wrong = text.lstrip("# \t")
        if last is not None and text == "---" and line.indent > last.indent:
            self._block = Block(last, line.indent)
            return
        comment = text.startswith("#")
        self._explaining = comment and last is not None and (self._explaining or bool(FAILED_TEST.match(text)))
        if self._explaining and last is not None:
            if len(last.remarks) < _REMARKS:
                last.remarks.append(text.lstrip("# \t"))
        elif comment or self._before:
            self._before.append(text.lstrip("# \t"))

    def _in_block(self, block: Block, line: Line) -> bool:
        """Take a line of the YAML block; False if it stands outside, which ends the block."""
        outside = line.indent <= block.point.indent
        if outside or (line.text == "..." and line.indent == block.indent):
            self._close_block(block)
            return not outside
        block.take(line.indent, line.text)
        return True

    def _close_block(self, block: Block) -> None:
        if block.point.outcome is Outcome.FAILED:
            block.point.remarks.append("\n".join(block.lines))
        self._block = None

    def _forget(self) -> None:
        self._before.clear()
        self._last = None
        self._explaining = False

    # What was read

    def _broken(self, level: Subtest, what: str) -> None:
        self._put(level, "TAP", Outcome.FAILED, what)

    def _put(self, level: Subtest, name: str, outcome: Outcome, message: str) -> None:
        self._keep(Point(level, name, outcome, [message]))

    def _keep(self, point: Point) -> None:
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
    "{": (OPENED, _Reader.opened),
    "}": (CLOSED, _Reader.closed),
}
