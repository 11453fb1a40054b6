"""What charts show, in both databases: each number is what a plain look at every run counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from databases import KINDS, Place, place, postgres_programs, postgres_server
from made_up_history import BEGAN, YEAR, make_history

from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.history_search import Search
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.trends import RunsOf, Span, Trends, Wait
from pytest_dispatch.store import schema
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.journal import Journal
from pytest_dispatch.store.trend_reader import MOST_FLAKY

RUNS = 3000
NOW = BEGAN + YEAR
DAY = 86_400
MONTHS = Span.until(NOW, 15 * DAY, 12)  # half of all runs
GROUPS = frozenset({"group-1", "group-2"})


@pytest.fixture(scope="module", params=KINDS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryReader]:
    programs = postgres_programs()
    if request.param == "sqlite" or programs is None:
        with place("sqlite", tmp_path_factory.mktemp("trends"), "") as found:
            yield from _reader(found)
        return
    with postgres_server(programs) as url, place("postgresql", tmp_path_factory.mktemp("trends"), url) as found:
        yield from _reader(found)


def _reader(where: Place) -> Iterator[HistoryReader]:
    with closing(Journal(where.where)) as journal:
        journal.open()
    make_history(where.engine, RUNS)
    with where.engine.begin() as db:
        latest = db.execute(sa.select(schema.history.c.run, schema.history.c.ended)).all()
        db.execute(sa.insert(schema.moments), [row for each in latest for row in _moments(*each)])
    database = Database(where.where)
    yield HistoryReader(database)
    database.engine.dispose()


def _moments(run: str, ended: float) -> list[dict[str, object]]:
    """A run that waits 100 s, boots for 10 s and runs for 30 s."""
    steps = ((140, "queued", "queued"), (40, "booting", "starting"), (30, "running", "running"), (0, "over", "over"))
    return [
        {"run": run, "attempt": 1, "number": number, "state": state, "phase": phase, "at": ended - before}
        for number, (before, state, phase) in enumerate(steps, 1)
    ]


def every(reader: HistoryReader, span: Span, groups: frozenset[str] | None) -> list[EndedRun]:
    runs = reader.page(Search(since=float(span.first), groups=groups), Page(None, RUNS + 1))
    assert runs
    return runs


@pytest.fixture(params=[None, GROUPS], ids=["all groups", "some groups"])
def counted(request: pytest.FixtureRequest, reader: HistoryReader) -> tuple[Trends, list[EndedRun]]:
    return reader.charts.trends(MONTHS, NOW, request.param), every(reader, MONTHS, request.param)


def test_outcomes_are_counted_by_slot(counted: tuple[Trends, list[EndedRun]]) -> None:
    trends, runs = counted
    slots = [Counter[Outcome]() for _ in MONTHS.begins]
    for run in runs:
        slots[math.floor((run.place / 1e6 - MONTHS.first) / MONTHS.width)][run.outcome] += 1
    assert [dict(slot) for slot in trends.outcomes] == [dict(slot) for slot in slots]


def test_outcomes_alone_are_the_same(reader: HistoryReader) -> None:
    assert reader.charts.outcomes(MONTHS, GROUPS) == reader.charts.trends(MONTHS, NOW, GROUPS).outcomes


@pytest.mark.parametrize("most", [3, 1000])
def test_runs_of_a_workload_in_a_group_are_counted_up_to_a_number(reader: HistoryReader, most: int) -> None:
    runs = every(reader, MONTHS, None)
    wanted = [*dict.fromkeys(RunsOf(kind=run.kind, name=run.name, group=run.group) for run in runs)][:20]
    since = float(MONTHS.first)
    plain = [
        Counter(run.outcome for run in runs if (run.kind, run.name, run.group) == (each.kind, each.name, each.group))
        for each in wanted
    ]
    expected = [{outcome: min(count, most) for outcome, count in each.items()} for each in plain]
    assert reader.charts.counted(wanted, since, most) == expected
    assert reader.charts.counted([RunsOf(kind="boot", name="none", group="lab")], since, most) == [{}]


def test_machines_are_as_busy_as_their_runs_took(counted: tuple[Trends, list[EndedRun]]) -> None:
    trends, runs = counted
    busy, number = Counter[str](), Counter(run.machine for run in runs)
    for run in runs:
        busy[run.machine] += run.seconds or 0.0  # type: ignore[assignment]
    assert trends.used_since == MONTHS.first
    assert {each.machine: each.runs for each in trends.machines} == number
    for each in trends.machines:
        assert each.share == pytest.approx(busy[each.machine] / (NOW - MONTHS.first))


def test_flaky_workloads_are_counted_with_their_passes(counted: tuple[Trends, list[EndedRun]]) -> None:
    trends, runs = counted
    flaky = Counter(run.name for run in runs if run.flaky)
    passed = Counter(run.name for run in runs if run.outcome is Outcome.PASSED)
    assert len(trends.flaky) == min(MOST_FLAKY, len(flaky))
    assert [each.flaky for each in trends.flaky] == sorted(flaky.values(), reverse=True)[:MOST_FLAKY]
    for each in trends.flaky:
        assert (each.flaky, each.passed) == (flaky[each.name], passed[each.name])


def test_waits_and_states_are_those_of_the_latest_runs(counted: tuple[Trends, list[EndedRun]]) -> None:
    trends, _ = counted
    assert {each.half and round(each.half) for each in trends.waits if each != Wait()} == {100}
    assert [(each.state, round(each.seconds)) for each in trends.states] == [
        ("queued", 100),
        ("booting", 10),
        ("running", 30),
    ]
    assert {each.runs for each in trends.states} == {trends.looked_at}


def test_a_time_without_runs_has_nothing(reader: HistoryReader) -> None:
    later = Span.until(NOW + YEAR, 60, 60)
    trends = reader.charts.trends(later, NOW + YEAR, None)
    assert not any(trends.outcomes)
    assert (trends.machines, trends.states, trends.flaky, trends.looked_at) == ([], [], [], 0)
