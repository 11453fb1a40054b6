"""Workloads of one project by its releases: how each ended there last, and what has begun to fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.model import BAD, Outcome
from pytest_dispatch.core.regression import GoodBad, Regression, release_of, turning_point

RELEASES = 6  # newest releases that a table has
MANY = 2  # groups that passed, after which they are shown as one


class Standing(IntEnum):
    """How a workload stands, those first that somebody should look at first."""

    NEW = 0  # it fails, and passed before
    BAD = 1  # it fails, as far back as runs are looked at
    GOOD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCell:
    """How a workload ended in a release.

    Attributes:
        what: The group; or how many groups.
        run: The run; None for those of several groups.
    """

    what: str
    outcome: Outcome
    run: EndedRun | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """A workload in the releases of a project.

    Attributes:
        latest: By release and group, its latest run that was not cancelled.
        turning: Where it turned from good to bad, in the group in which it did so last.
    """

    kind: str
    name: str
    standing: Standing
    latest: Mapping[tuple[str, str], EndedRun]
    turning: Regression

    @property
    def changed(self) -> tuple[GoodBad, ...]:
        """Return what is different where it turned; of another release, bytes always are."""
        found = self.turning.changed
        is_other = any(each.what == "release" for each in found)
        return tuple(each for each in found if each.what != "digest" or not is_other)

    def cells(self, release: str) -> list[BuildCell]:
        """Return what is shown of a release: each group, but those that passed in one cell if they are many."""
        own = [(group, run) for (of, group), run in sorted(self.latest.items()) if of == release]
        good = [run for _, run in own if run.outcome is Outcome.PASSED]
        many = len(good) > MANY
        shown = [
            BuildCell(what=group, outcome=run.outcome, run=run)
            for group, run in own
            if not many or run.outcome is not Outcome.PASSED
        ]
        return [*shown, BuildCell(what=f"{len(good)} groups", outcome=Outcome.PASSED)] if many else shown

    def needs_review(self, release: str) -> bool:
        """Return whether a run of a release failed of which nobody has said anything."""
        return any(_unseen(run) for (of, _), run in self.latest.items() if of == release)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTable:
    """The workloads of a project.

    Attributes:
        releases: The newest releases, newest first; one empty text if the project has none.
        groups: The groups in which it has run, in order.
        rows: Its workloads: new failures first, then others that fail, then those that pass.
    """

    releases: tuple[str, ...]
    groups: tuple[str, ...]
    rows: tuple[BuildRow, ...]


def build_table(runs: Mapping[tuple[str, str], Sequence[EndedRun]]) -> BuildTable:
    """Return the table of a project.

    Args:
        runs: The latest runs of each workload, by kind and name, newest first.
    """
    kept = {key: [run for run in found if not run.cancelled] for key, found in runs.items()}
    rows = sorted((_row(*key, found) for key, found in kept.items() if found), key=_by_urgency)
    places: dict[str, int] = {}
    for found in kept.values():
        for run in found:
            release = release_of(run.source)
            places[release] = max(places.get(release, 0), run.place)
    releases = sorted(places, key=lambda each: places[each], reverse=True)[:RELEASES]
    groups = sorted({group for row in rows for release, group in row.latest if release in releases})
    return BuildTable(releases=tuple(releases), groups=tuple(groups), rows=tuple(rows))


def _row(kind: str, name: str, runs: Sequence[EndedRun]) -> BuildRow:
    latest: dict[tuple[str, str], EndedRun] = {}
    for run in runs:
        latest.setdefault((release_of(run.source), run.group), run)
    turns = [turning_point(each for each in runs if each.group == group) for group in {run.group for run in runs}]
    bad = [each for each in turns if each.first_bad is not None]
    new = [each for each in bad if each.last_good is not None]
    turning = max(new or bad, key=_turned, default=Regression())
    standing = Standing.NEW if new else Standing.BAD if bad else Standing.GOOD
    return BuildRow(kind=kind, name=name, standing=standing, latest=latest, turning=turning)


def _turned(turning: Regression) -> int:
    return turning.first_bad.place if turning.first_bad is not None else 0


def _by_urgency(row: BuildRow) -> tuple[int, int, str]:
    return row.standing, -_turned(row.turning), row.name


def _unseen(run: EndedRun) -> bool:
    return run.outcome in BAD and run.override is None and not run.notes


# Two releases beside each other

WorkloadKey = tuple[str, str, str]  # kind, name, group


class Turn(StrEnum):
    """What became of a workload from one release to another, those first that somebody should look at first."""

    BROKEN = "newly failing"
    FIXED = "fixed"
    STILL_BAD = "failing in both"
    ONLY_NEW = "only in the new one"
    ONLY_OLD = "only in the old one"
    GOOD = "good in both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """How a workload ended last in two releases, in one group; None if it did not run in one of them."""

    kind: str
    name: str
    group: str
    old: EndedRun | None
    new: EndedRun | None

    @property
    def turn(self) -> Turn:
        """Return what became of it."""
        if self.old is None or self.new is None:
            return Turn.ONLY_NEW if self.old is None else Turn.ONLY_OLD
        was, now = self.old.outcome in BAD, self.new.outcome in BAD
        if was and now:
            return Turn.STILL_BAD
        return Turn.BROKEN if now else Turn.FIXED if was else Turn.GOOD


def latest_of_each(newest_first: Iterable[EndedRun]) -> dict[WorkloadKey, EndedRun]:
    """Return the latest run of each workload in each group; those that were cancelled say nothing of it."""
    found: dict[WorkloadKey, EndedRun] = {}
    for run in newest_first:
        if not run.cancelled:
            found.setdefault((run.kind, run.name, run.group), run)
    return found


def compared(old: Mapping[WorkloadKey, EndedRun], new: Mapping[WorkloadKey, EndedRun]) -> dict[Turn, list[Pair]]:
    """Return the workloads of two releases by what became of them; those that there are, in order."""
    found: dict[Turn, list[Pair]] = {turn: [] for turn in Turn}
    for key in sorted({*old, *new}, key=lambda each: (each[1], each[2], each[0])):
        kind, name, group = key
        pair = Pair(kind=kind, name=name, group=group, old=old.get(key), new=new.get(key))
        found[pair.turn].append(pair)
    return {turn: pairs for turn, pairs in found.items() if pairs}
