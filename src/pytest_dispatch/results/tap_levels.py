"""What is known of TAP while it is read: subtests within each other, results, and what explains them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.tap_lines import DURATION

_FULL_NAME = 400  # characters of a test's name with its suites
_BLOCK = 16384  # characters of a YAML block that are kept


@dataclass(slots=True, eq=False)
class Subtest:
    """A level of nesting, from its first line until a line further left."""

    indent: int
    parent: Subtest | None = None
    name: str = ""
    announced: str = ""  # the name by which the next subtest within it was announced
    versioned: bool = False
    planned: int | None = None
    skipped: str | None = None  # why nothing was planned; None if that was not to be so
    ran: int = 0
    numbers: set[int] = field(default_factory=set)  # of the results that tell theirs
    twice: int | None = None  # the first of them that came again
    held: Point | None = None  # its last result, while it is not known whether a subtest follows in braces
    first: int = 0  # place of its first point
    hashed: bool = False  # its lines stand behind `# ` of the level around it
    closed: list[Subtest] = field(default_factory=list)  # subtests whose own result has not come yet

    @property
    def begun(self) -> bool:
        """Whether there was a result or a plan."""
        return self.ran > 0 or self.planned is not None

    def count(self, number: str | None) -> None:
        """A result came, with this number if it told any."""
        self.ran += 1
        if number is not None and self.twice is None:
            self.twice = int(number) if int(number) in self.numbers else None
            self.numbers.add(int(number))

    @property
    def full_name(self) -> str:
        """Return its name, with those of the subtests around it before it."""
        names: list[str] = []
        level: Subtest | None = self
        while level is not None:
            names.append(level.name)
            level = level.parent
        return ".".join(filter(None, reversed(names)))

    @property
    def broken(self) -> str:
        """Return why a level that is over told less, or more, than it was to; a subtest may do without a plan."""
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
        """Where as many results came as were planned: what shows that one of them stands in another's place."""
        if self.twice is not None:
            return f"two results are of test {self.twice}"
        strays = [number for number in self.numbers if not 0 < number <= planned]
        return f"a result is of test {strays[0]}, and {planned} were planned" if strays else ""


@dataclass(slots=True, eq=False)
class Point:
    """A result, and what explains it."""

    subtest: Subtest
    name: str
    outcome: Outcome
    remarks: list[str]
    duration: float = 0.0
    indent: int = 0
    braced: bool = False  # its subtest stands in braces, without a doubt

    def case(self) -> Case:
        """Return it as a case; one that passed needs no explanation."""
        name = ".".join(filter(None, (self.subtest.full_name, self.name)))[:_FULL_NAME]
        message = "" if self.outcome is Outcome.PASSED else "\n".join(filter(None, self.remarks))
        return Case(name=name, outcome=self.outcome, duration=self.duration, message=message)


@dataclass(slots=True, eq=False)
class Block:
    """A YAML block behind a result."""

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
