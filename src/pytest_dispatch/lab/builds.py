"""Which workloads of a project have run, with the latest runs of each: what a table of builds is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.builds import BuildTable, Pair, Turn, build_table, compared, latest_of_each
from pytest_dispatch.core.history_search import Condition, Field, Search, Value
from pytest_dispatch.core.model import BAD
from pytest_dispatch.core.regression import project_of, release_of
from pytest_dispatch.core.run_series import Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.lab.history import History

LATEST = 600  # runs in which projects and workloads are looked for
LATEST_BAD = 300  # runs that did not pass, likewise
SOURCES = 8  # newest releases in which they are looked for
ROWS = 20  # workloads in a page
OF_EACH = 60  # latest runs of each of them that are looked at
OF_RELEASE = 1000  # latest runs of a release that are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """A page of a project's table.

    Attributes:
        projects: The projects that have run lately, the latest first.
        workloads: Number of its workloads that have run lately.
    """

    project: str
    projects: tuple[str, ...]
    workloads: int
    table: BuildTable


async def builds(history: History, project: str, groups: frozenset[str] | None, first: int) -> Builds:
    """Return a page of a project's table; those that did not pass are on its first pages.

    Args:
        history: The lab's.
        project: What the sources are called in all their releases; empty for the one that has run last.
        groups: Only runs of these groups count; None for all.
        first: How many workloads to leave out.
    """
    latest = await history.page(Search(groups=groups), None, LATEST)
    projects = tuple(dict.fromkeys(project_of(run.source) for run in latest.runs))
    chosen = project or next(iter(projects), "")
    if not chosen:
        return Builds(project="", projects=(), workloads=0, table=build_table({}))
    own = [run for run in latest.runs if project_of(run.source) == chosen]
    sources = list(dict.fromkeys(run.source for run in own)) or (await history.origins(chosen))[::-1]
    if not sources:
        return Builds(project=chosen, projects=projects, workloads=0, table=build_table({}))
    of = Condition(Field.SOURCE, tuple(map(Value, sources[:SOURCES])))
    outcomes = Condition(Field.OUTCOME, tuple(Value(str(each)) for each in sorted(BAD)))
    bad = await history.page(Search(conditions=(of, outcomes), groups=groups), None, LATEST_BAD)
    if not own:
        own = [*(await history.page(Search(conditions=(of,), groups=groups), None, LATEST)).runs]
    names = [*_series(chosen, bad.runs), *sorted(_series(chosen, own), key=lambda each: each.name)]
    wanted = [*dict.fromkeys(names)]
    found = await history.latest(wanted[first : first + ROWS], OF_EACH)
    runs = {(each.kind, each.name): _within(groups, own) for each, own in found.items()}
    return Builds(project=chosen, projects=projects, workloads=len(wanted), table=build_table(runs))


def _series(project: str, runs: Sequence[EndedRun]) -> list[Series]:
    return [Series(run.kind, project, run.name) for run in runs if not run.cancelled]


def _within(groups: frozenset[str] | None, runs: Sequence[EndedRun]) -> list[EndedRun]:
    return [run for run in runs if groups is None or run.group in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two releases of a project beside each other.

    Attributes:
        pairs: Their workloads, by what became of them.
        whole: Whether all of their runs were looked at.
    """

    pairs: Mapping[Turn, Sequence[Pair]]
    whole: bool


async def compare(history: History, project: str, old: str, new: str, groups: frozenset[str] | None) -> Comparison:
    """Return two releases of a project beside each other.

    Args:
        history: The lab's.
        project: What its sources are called in all their releases.
        old: A release.
        new: Another one.
        groups: Only runs of these groups count; None for all.
    """
    pages = [await history.page(_of_release(project, each, groups), None, OF_RELEASE) for each in (old, new)]
    before, after = (latest_of_each(page.runs) for page in pages)
    return Comparison(pairs=compared(before, after), whole=all(page.before is None for page in pages))


async def failed_last(history: History, project: str, release: str, groups: frozenset[str] | None) -> list[EndedRun]:
    """Return the latest runs of those workloads that failed last in a release, each in each group."""
    outcomes = Condition(Field.OUTCOME, tuple(Value(str(each)) for each in sorted(BAD)))
    bad = await history.page(_of_release(project, release, groups, outcomes), None, LATEST_BAD)
    series = [*dict.fromkeys(_series(project, bad.runs))]
    latest = await history.latest(series, OF_EACH)
    own = (run for runs in latest.values() for run in _within(groups, runs) if release_of(run.source) == release)
    found = [run for run in latest_of_each(own).values() if run.outcome in BAD]
    return sorted(found, key=lambda run: (run.name, run.group))


def _of_release(project: str, release: str, groups: frozenset[str] | None, *more: Condition) -> Search:
    source = Value(f"{project}@{release}" if release else project)
    return Search(conditions=(Condition(Field.SOURCE, (source,)), *more), groups=groups)
