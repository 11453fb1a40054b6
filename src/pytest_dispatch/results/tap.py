"""Reads TAP 13 and 14 (testanything.org) and KTAP (the kernel's `Documentation/dev-tools/ktap.rst`).

It reads line by line, with a stack of open subtests instead of recursion, and limits everything that a hostile text
could make grow; the time is linear in the length of the text. Nested results are named `suite.test`. A subtest's own
result becomes a case only if the results inside do not already say the same.
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
MOST_LINES = 500_000  # maximum number of lines that are not blank
_DEPTH = 16  # maximum nesting of subtests; deeper results count as being at this level
_REMARKS = 20  # maximum number of lines before a failure that are kept as its message

_LINES = re.compile(r"[^\n]+")


def read_tap(text: str, *, whole: bool = True) -> tuple[Case, ...] | None:
    """Return the cases in a TAP or KTAP text.

    Args:
        text: Text that is, or may contain, TAP.
        whole: Whether all of the text should be TAP; else TAP begins where a version line, or a plan and results, are
            found.

    Returns:
        The cases; None if the text is not TAP: no version line, no result, no plan and no bail-out.
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
    """The state of reading a text.

    Attributes:
        points: Results that become cases.
        found: Whether any line was TAP.
        done: Whether to stop reading.
    """

    def __init__(self, prefix: re.Pattern[str] | None) -> None:
        self.points: list[Point] = []
        self.found = False
        self.done = False
        self._prefix = prefix
        self._wrong = ""  # the producer's message that the whole run went wrong
        self._stack = [Subtest(0)]
        self._before: deque[str] = deque(maxlen=_REMARKS)  # remarks since the last result
        self._last: Point | None = None  # the last result, to which following remarks may belong
        self._explaining = False  # whether remarks explain the last result, not the next one
        self._block: Block | None = None

    def read(self, raw: str) -> None:
        """Read a line without trailing white space; ignore an empty one."""
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
        """Stop reading, and add a failed case: unread results must not count as passed."""
        self.found = self.done = True
        del self.points[MOST_CASES - 1 :]
        self.points.append(Point(Subtest(0), "TAP", Outcome.FAILED, [f"{why}: the rest was not read"]))

    def finish(self) -> None:
        """Close all open subtests at the end of the text."""
        if self._block is not None:
            self._close_block(self._block)
        top = self._stack[0]
        while self._stack:
            self._close()
        if self.found and not self.points:  # no document had any tests
            why = next((level.skipped for level in top.closed if level.skipped is not None), None)
            self._put(top, *(("TAP", Outcome.FAILED, "ran no test") if why is None else ("1..0", Outcome.SKIPPED, why)))
        if self._wrong and self.found and all(point.outcome is not Outcome.FAILED for point in self.points):
            self._broken(top, self._wrong)

    # Nesting

    def _placed(self, line: Line) -> Line:
        """Return the line without a leading `# ` if it is TAP of a subtest: kselftest prefixes a test's output so."""
        if not line.text.startswith("# "):
            return line
        around = next((level.parent for level in reversed(self._stack) if level.hashed), None)
        if around is not None and around.indent == line.indent:
            return line.within
        return line.within if VERSION.fullmatch(line.text, 2) else line

    def _level(self, line: Line, *, opens: bool = True) -> Subtest:
        """Return the subtest to which a line belongs; open a new one if it is indented further and `opens` is set."""
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
        """Close the innermost subtest, and report what is wrong with it."""
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
        """End a held result whose brace was not closed; if no subtest followed, the brace is part of its name."""
        point, level.held = level.held, None
        if point is None:
            return
        if level.closed:
            self._broken(level, f"the subtest {point.name!r} breaks off: its closing brace is missing")
        elif not point.braced:
            point.name += " {"
        self._tell(level, point)

    def _tell(self, level: Subtest, point: Point) -> None:
        """Keep a result unless the results of its subtests say the same."""
        if not self._told_by_children(level, point):
            self._keep(point)

    # Handlers for kinds of lines; each returns whether the line really is of that kind

    def version(self, line: Line, _: re.Match[str]) -> bool:
        """Begin a document at a line such as `TAP version 14`."""
        level = self._level(line)
        if level.begun:  # another document begins; the previous one has no end mark
            self._close()
            level = Subtest(level.indent, level.parent, first=len(self.points), hashed=level.hashed)
            self._stack.append(level)
        level.versioned = self.found = True
        self._forget()
        return True

    def plan(self, line: Line, match: re.Match[str]) -> bool:
        """Read a plan: `1..8`, or `1..0 # SKIP why`."""
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
        """Read `# Subtest: name`, the first line of the subtest or the last one before it."""
        level = self._level(line)
        name = described(match[1])
        if level.parent is not None and not level.name and not level.begun:
            level.name = name
        else:
            level.announced = name
        return True

    def bail(self, line: Line, match: re.Match[str]) -> bool:
        """Read `Bail out! why`, which ends the document."""
        self._put(self._level(line, opens=False), "Bail out!", Outcome.FAILED, match[1])
        self.found = self.done = True
        return True

    def result(self, line: Line, match: re.Match[str]) -> bool:
        """Read a result: `ok 1 - name`, `not ok 2 - name # TODO why`, `ok 3 - name {`."""
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
        """Read `{`, which begins the subtest of the last result, after remarks on that result."""
        level, last = self._level(line, opens=False), self._last
        if last is None or last.subtest is not level or not self.points or self.points[-1] is not last:
            return False
        self.points.pop()
        last.braced = True
        self._hold(level, last)
        return True

    def closed(self, line: Line, _: re.Match[str]) -> bool:
        """Read `}`, which ends the subtest of a result."""
        level = self._level(line, opens=False)
        point, level.held = level.held, None
        if point is None:
            return False
        level.announced = ""
        self._tell(level, point)
        self._forget()
        return True

    def _told_by_children(self, level: Subtest, point: Point) -> bool:
        """Return whether results of subtests already say the same as this result; name the subtests after it."""
        children, level.closed = level.closed, []
        if not children or children[0].first >= len(self.points):
            return False
        for child in children:
            child.name = point.name
        told = self.points[children[0].first :]
        if point.outcome is Outcome.FAILED:
            return any(one.outcome is Outcome.FAILED for one in told)
        if point.outcome is Outcome.SKIPPED:  # failures inside were expected too
            for one in told:
                one.outcome = Outcome.SKIPPED if one.outcome is Outcome.FAILED else one.outcome
        return True

    # Explanations of results

    def _remark(self, line: Line) -> None:
        """Keep a comment or a line that is not TAP: it may explain the last result, or a failure that follows."""
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
        """Add a line to the YAML block; if it is outside, close the block and return False."""
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

    # Results

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

#: Kinds of TAP lines: the first character in lower case, the pattern, and the handler.
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
