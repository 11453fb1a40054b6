"""What a round of a cycle found: its outcome, and what is different from the round before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_dispatch.core.model import Outcome

MOST_NAMES = 100  # names of cases that are kept for each part of a change
_BAD = (Outcome.FAILED, Outcome.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundChange:
    """What is different from the last round that had results: names of cases, at most `MOST_NAMES` of each.

    Attributes:
        failures: Those that fail now and did not.
        errors: Those that ended with a fault of the lab now, and did not.
        fixed: Those that pass now, and failed or ended with a fault.
        added: How many cases are new.
        gone: How many there are no longer.
    """

    failures: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    added: int = 0
    gone: int = 0

    def __bool__(self) -> bool:
        return bool(self.failures or self.errors or self.fixed)

    def __str__(self) -> str:
        parts = (
            (len(self.failures), "new failure", "s"),
            (len(self.errors), "new error", "s"),
            (len(self.fixed), "fixed", ""),
            (self.added, "added", ""),
            (self.gone, "gone", ""),
        )
        said = [f"{count} {word}{more if count > 1 else ''}" for count, word, more in parts if count]
        return ", ".join(said) or "as before"


def change_between(before: Mapping[str, Outcome], after: Mapping[str, Outcome]) -> RoundChange:
    """Return what is different between the results of two rounds, by name of case."""

    def now(outcome: Outcome) -> tuple[str, ...]:
        return tuple(name for name, each in after.items() if each is outcome and before.get(name) is not outcome)

    fixed = (name for name, each in after.items() if each is Outcome.PASSED and before.get(name) in _BAD)
    return RoundChange(
        failures=now(Outcome.FAILED)[:MOST_NAMES],
        errors=now(Outcome.ERROR)[:MOST_NAMES],
        fixed=tuple(fixed)[:MOST_NAMES],
        added=len(after.keys() - before.keys()) if before else 0,
        gone=len(before.keys() - after.keys()),
    )


#: pytest's exit codes other than 0 and 1: what each means, and whether another try may help.
_ENDS = {
    2: ("pytest was interrupted", True),
    3: ("pytest had an internal error", True),
    4: ("pytest was called wrongly: look at its output", False),
    5: ("the selection has no items", False),
}


def broken_end(code: int) -> tuple[str, bool]:
    """Return what is wrong with how pytest ended, and whether another try may help; empty if it ran to its end.

    Args:
        code: Its exit code; negative for the signal that killed it.
    """
    if code in (0, 1):
        return "", False
    if code < 0:
        return f"pytest was killed by signal {-code}", True
    return _ENDS.get(code, (f"pytest ended with exit code {code}", True))


def judge(code: int, results: Mapping[str, Outcome] | None, unreadable: str = "") -> tuple[Outcome, str]:
    """Return the outcome of a round, and why it did not pass. Nothing that is broken or missing passes.

    Args:
        code: pytest's exit code.
        results: The outcomes by name of case; None if they could not be read.
        unreadable: Why not.
    """
    broken, _ = broken_end(code)
    if broken:
        return Outcome.ERROR, broken
    if results is None:
        return Outcome.ERROR, f"its JUnit file cannot be read: {unreadable}"
    counts = Counter(results.values())
    said = ", ".join(f"{counts[each]} {each}" for each in _BAD if counts[each])
    if said:
        return (Outcome.FAILED if counts[Outcome.FAILED] else Outcome.ERROR), said
    if code == 1:
        return Outcome.ERROR, "pytest says that something failed, and its JUnit file has no failure"
    if not counts[Outcome.PASSED]:
        skipped = counts[Outcome.SKIPPED]
        return (Outcome.SKIPPED, f"all {skipped} skipped") if skipped else (Outcome.ERROR, "its JUnit file has no case")
    return Outcome.PASSED, ""
