"""Which workloads of a project have run, with the latest runs of each: what a table of builds is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.builds import BuildTable, build_table
from pytest_dispatch.core.history_search import Condition, Field, Search, Value
from pytest_dispatch.core.model import BAD
from pytest_dispatch.core.regression import project_of
from pytest_dispatch.core.run_series import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.lab.history import History

LATEST = 600  # runs in which projects and workloads are looked for
LATEST_BAD = 300  # runs that did not pass, likewise
SOURCES = 8  # newest releases in which they are looked for
ROWS = 20  # workloads in a page
OF_EACH = 60  # latest runs of each of them that are looked at


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
