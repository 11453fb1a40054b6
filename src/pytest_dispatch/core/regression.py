"""Where a series turned from good to bad: its last good run, its first bad one, and what is different between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.model import BAD, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodBad:
    """What is different between two runs.

    Attributes:
        what: `digest`, `release`, `machine` or `firmware`.
        good: The value of the last good run.
        bad: The value of the first bad run.
    """

    what: str
    good: str
    bad: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """The last good run, and the first bad one after it.

    Attributes:
        last_good: Null if no run passed, as far as history is looked at.
        first_bad: Null if the latest run passed.
        changed: What is different between the two; empty if one of them is missing.
    """

    last_good: EndedRun | None = None
    first_bad: EndedRun | None = None
    changed: tuple[GoodBad, ...] = ()


def turning_point(newest_first: Iterable[EndedRun]) -> Regression:
    """Return where runs turned from good to bad; runs that were cancelled or skipped say nothing of it.

    Args:
        newest_first: Runs of a workload, the latest one first.
    """
    good: EndedRun | None = None
    bad: EndedRun | None = None
    for each in newest_first:
        if each.cancelled:
            continue
        if each.outcome is Outcome.PASSED:
            good = each
            break
        if each.outcome in BAD:
            bad = each
    changed = () if good is None or bad is None else tuple(_differences(good, bad))
    return Regression(last_good=good, first_bad=bad, changed=changed)


def _differences(good: EndedRun, bad: EndedRun) -> Iterable[GoodBad]:
    compared = (
        ("digest", good.digest, bad.digest),
        ("release", release_of(good.source), release_of(bad.source)),
        ("machine", good.machine, bad.machine),
        ("firmware", good.firmware, bad.firmware),
    )
    return (GoodBad(what=what, good=old, bad=new) for what, old, new in compared if old != new)


def project_of(origin: str) -> str:
    """Return what a source is called in all its releases: `OWNER/REPO` of `OWNER/REPO@TAG`."""
    return origin.rpartition("@")[0] or origin


def release_of(origin: str) -> str:
    """Return the release that a source is; empty if it is none."""
    return origin.rpartition("@")[2] if "@" in origin else ""
