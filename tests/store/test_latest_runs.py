"""The latest runs of many workloads, in both databases: they are those that a look at every run finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from databases import KINDS, Place, place, postgres_programs, postgres_server
from made_up_history import make_history

from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.history_search import Search
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.journal import Journal

RUNS = 5000
MOST = 6
NAMES = [f"test-{n}.efi" for n in range(25)]


@pytest.fixture(scope="module", params=KINDS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HistoryReader]:
    programs = postgres_programs()
    if request.param == "sqlite" or programs is None:
        with place("sqlite", tmp_path_factory.mktemp("latest"), "") as found:
            yield from _reader(found)
        return
    with postgres_server(programs) as url, place("postgresql", tmp_path_factory.mktemp("latest"), url) as found:
        yield from _reader(found)


def _reader(where: Place) -> Iterator[HistoryReader]:
    with closing(Journal(where.where)) as journal:
        journal.open()
    make_history(where.engine, RUNS)
    database = Database(where.where)
    yield HistoryReader(database)
    database.engine.dispose()


@pytest.fixture(scope="module")
def every(reader: HistoryReader) -> list[EndedRun]:
    found = reader.page(Search(), Page(None, RUNS + 1))
    assert len(found) == RUNS
    return found


def test_of_sources_they_are_those_of_all_releases(reader: HistoryReader, every: list[EndedRun]) -> None:
    wanted = [Series(kind, "lab/firmware@v3", name) for name in NAMES for kind in ("boot", "actions")]
    wanted += [Series("boot", "lab/firm", NAMES[0]), Series("boot", "lab/firmware", "none.efi")]
    found = reader.latest_runs.of_sources(wanted, MOST)
    assert list(found) == wanted
    for series, runs in found.items():
        of = [run for run in every if (run.kind, run.name) == (series.kind, series.name)]
        assert runs == ([] if series.origin == "lab/firm" else of[:MOST]), series
    assert {len(runs) for runs in found.values()} >= {0, MOST}
    assert len({run.outcome for runs in found.values() for run in runs}) == 4


def test_of_groups_they_are_the_newest(reader: HistoryReader, every: list[EndedRun]) -> None:
    wanted = [("boot", f"group-{n % 8}", name) for n, name in enumerate(NAMES)]
    wanted += [("boot", "none", NAMES[0]), ("vetting", "group-0", NAMES[0])]
    found = reader.latest_runs.of_groups(wanted)
    expected = [next((run for run in every if (run.kind, run.group, run.name) == each), None) for each in wanted]
    assert found == expected
    assert found[-2:] == [None, None]
    assert sum(each is not None for each in found) > 10
