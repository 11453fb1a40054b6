"""The state of reading TAP: nested subtests, results, and explanations of results."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.tap_lines import DURATION

_FULL_NAME = 400  # maximum characters of a test's name with its suites
_BLOCK = 16384  # characters of a YAML block that are kept


@dataclass(slots=True, eq=False)
class Subtest:
    """A level of nesting, from its first line to the next line with less indentation."""

    indent: int
    parent: Subtest | None = None
    name: str = ""
    announced: str = ""  # announced name of the next subtest inside
    versioned: bool = False
    planned: int | None = None
    skipped: str | None = None  # reason in a plan of no tests (`1..0 # SKIP why`); None if there is no such plan
    ran: int = 0
    numbers: set[int] = field(default_factory=set)  # numbers of its results
    twice: int | None = None  # the first number that two results have
    held: Point | None = None  # its last result, while a subtest in braces may follow
    first: int = 0  # index of its first point
    hashed: bool = False  # its lines have a prefix `# ` in the surrounding level
    closed: list[Subtest] = field(default_factory=list)  # finished subtests inside, whose own result has not come yet

    @property
    def begun(self) -> bool:
        """Return whether there was a result or a plan."""
        return self.ran > 0 or self.planned is not None

    def count(self, number: str | None) -> None:
        """Count a result, and note its number if it has one."""
        self.ran += 1
        if number is not None and self.twice is None:
            self.twice = int(number) if int(number) in self.numbers else None
            self.numbers.add(int(number))

    @property
    def full_name(self) -> str:
        """Return the subtest's name, after the names of the surrounding subtests."""
        names: list[str] = []
        level: Subtest | None = self
        while level is not None:
            names.append(level.name)
            level = level.parent
        return ".".join(filter(None, reversed(names)))

    @property
    def broken(self) -> str:
        """Return how a finished level contradicts its plan; empty if it does not. A subtest need not have a plan."""
        ran, planned = self.ran, self.planned
        if planned is None:
            within = self.parent is None and any(one.planned is None for one in self.closed)
            if self.parent is not None or not (self.versioned or ran or within):
                return ""
            return f"no plan says how many tests were to run; {ran} ran" if ran or self.closed else "ran no test"
        if ran < planned:
            return f"{ran} of {planned} planned tests ran"
        if ran > planned:
            return f"{ran} tests ran, and {planned} were planned"
        return self._wrong_number(planned) or (
            "a subtest ran whose own result is missing" if any(one.ran for one in self.closed) else ""
        )

    def _wrong_number(self, planned: int) -> str:
        """Return how the numbers of the results contradict the plan, although their count is right; empty if not."""
        if self.twice is not None:
            return f"two results are of test {self.twice}"
        strays = [number for number in self.numbers if not 0 < number <= planned]
        return f"a result is of test {strays[0]}, and {planned} were planned" if strays else ""


@dataclass(slots=True, eq=False)
class Point:
    """A result, with remarks that explain it."""

    subtest: Subtest
    name: str
    outcome: Outcome
    remarks: list[str]
    duration: float = 0.0
    indent: int = 0
    braced: bool = False  # a line with an opening brace has begun its subtest

    def case(self) -> Case:
        """Return the result as a case; a passed case has no message."""
        name = ".".join(filter(None, (self.subtest.full_name, self.name)))[:_FULL_NAME]
        message = "" if self.outcome is Outcome.PASSED else "\n".join(filter(None, self.remarks))
        return Case(name=name, outcome=self.outcome, duration=self.duration, message=message)


@dataclass(slots=True, eq=False)
class Block:
    """A YAML block after a result."""

    point: Point
    indent: int
    lines: list[str] = field(default_factory=list)
    size: int = 0

    def take(self, indent: int, text: str) -> None:
        """Add a line."""
        if match := DURATION.match(text):
            self.point.duration = float(match[1]) / 1000
        self.size += indent + len(text)
        if self.size <= _BLOCK:
            self.lines.append(" " * (indent - self.indent) + text)
