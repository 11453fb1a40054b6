"""Searches of history in both databases: each finds what a plain look at every run finds, in pages, by an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from databases import KINDS, Place, place, postgres_programs, postgres_server
from made_up_history import BEGAN, YEAR, make_history

from pytest_dispatch.core.ended_runs import EndedRun, HistoryEntry
from pytest_dispatch.core.history_search import Condition, Field, Phrase, Search, Value, read_search, within, words_of
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.history_query import Page, page_queries
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.journal import Journal

RUNS = 3000
NOW = BEGAN + YEAR


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A history of a year, which no test changes."""
    programs = postgres_programs()
    if request.param == "sqlite" or programs is None:
        with place("sqlite", tmp_path_factory.mktemp("history"), "") as found:
            yield _filled(found)
        return
    with postgres_server(programs) as url, place("postgresql", tmp_path_factory.mktemp("history"), url) as found:
        yield _filled(found)


def _filled(where: Place) -> Place:
    with closing(Journal(where.where)) as journal:
        journal.open()
    make_history(where.engine, RUNS)
    return where


@pytest.fixture(scope="module")
def reader(made: Place) -> Iterator[HistoryReader]:
    database = Database(made.where)
    yield HistoryReader(database)
    database.engine.dispose()


@pytest.fixture(scope="module")
def every(reader: HistoryReader) -> list[HistoryEntry]:
    """All runs, newest first."""
    entries = [reader.of(run.run) for run in reader.page(Search(), Page(None, RUNS + 1))]
    return [entry for entry in entries if entry is not None]


SEARCHES = [
    "",
    "outcome:failed",
    "outcome:failed,error",
    "-outcome:passed",
    "-outcome:passed outcome:failed,passed",
    "original:error",
    "machine:m-17",
    "machine:retired-1",
    "machine:retired-*",
    "machine:m-1*,retired-2",
    "-machine:m-1*",
    "machine:m-17 outcome:passed -flaky:yes",
    "machine:m-17,m-18,m-19 outcome:failed,error group:group-1,group-2",
    "workload:test-7.efi",
    "workload:old-*",
    "workload:old-1* machine:retired-1 outcome:passed",
    "workload:test*,old* -workload:test-1*",
    "source:lab/firmware@v3",
    "source:lab* kind:actions",
    "kind:deploy",
    "group:group-3 who:person-3",
    "session:s-12",
    "who:person-3 outcome:error",
    "run:0fc21ad4ee15.77,0fc21ad4ee15.78",
    "run:2f46.3",
    "run:3.3,9.12 outcome:passed,failed",
    "run:4e.3,0fc21ad4ee15.78 group:group-1,group-2,group-3",
    "-run:5.3 machine:m-17",
    "run:f.3",
    "run:6.03 report",
    "label:nightly",
    "label:nightly label:arch=arm64",
    "label:arch",
    "label:arch=x86_64,nightly machine:m-17",
    "-label:nightly outcome:failed",
    "flaky:yes",
    "flaky:no outcome:error",
    "flaky:yes machine:m-1",
    "overridden:yes",
    "noted:yes",
    "cancelled:no machine:m-7",
    "since:30d",
    "since:2024-01-01 before:2024-02-01 outcome:failed",
    "since:30d machine:m-17",
    "report",
    "memory",
    '"out of memory"',
    '"memory of out"',
    "out memory -panic outcome:failed",
    "-memory outcome:failed",
    "-memory -panic",
    "driv*",
    '"kernel panic in dri"*',
    "arm64 test",
    "needle",
    "zebra",
    "panic machine:m-17,m-18 outcome:failed",
    "efi since:30d",
    # nothing of this is an instruction to a database
    "—",
    "-— outcome:error",
    "größe 日本*",
    "label:% outcome:failed",
    'label:"[" workload:"100%"',
    'machine:"\'; DROP TABLE x" workload:_*',
    'workload:"NUL \0"',
    '"NEAR OR AND NOT" outcome:failed',
    "since:999999w before:0s outcome:error",
]


def fits(search: Search, entry: HistoryEntry) -> bool:
    """Whether a search finds a run, by a plain look at it."""
    run = entry.run
    bounds = (search.since is None or run.place >= int(search.since * 1e6)) and (
        search.before is None or run.place < int(search.before * 1e6)
    )
    mine = search.groups is None or run.group in search.groups
    terms = [_has(each, run) for each in search.conditions] + [_says(each, entry) for each in search.phrases]
    return bounds and mine and all(terms)


OF: dict[Field, Callable[[EndedRun], Any]] = {
    Field.OUTCOME: lambda run: {str(run.outcome)},
    Field.ORIGINAL: lambda run: {str(run.original)},
    Field.MACHINE: lambda run: {run.machine},
    Field.GROUP: lambda run: {run.group},
    Field.WORKLOAD: lambda run: {run.name},
    Field.SOURCE: lambda run: {run.source},
    Field.KIND: lambda run: {run.kind},
    Field.LABEL: lambda run: set(run.labels),
    Field.SESSION: lambda run: {run.session},
    Field.WHO: lambda run: {run.who},
    Field.RUN: lambda run: {run.run},
    Field.FLAKY: lambda run: {"yes" if run.flaky else "no"},
    Field.CANCELLED: lambda run: {"yes" if run.cancelled else "no"},
    Field.OVERRIDDEN: lambda run: {"yes" if run.override else "no"},
    Field.NOTED: lambda run: {"yes" if run.notes else "no"},
}


def _has(condition: Condition, run: EndedRun) -> bool:
    found = any(_is_meant(own, value) for value in condition.values for own in OF[condition.field](run))
    return found is not condition.negated


def _is_meant(own: str, value: Value) -> bool:
    if value.short:
        session, _, number = value.text.partition(".")
        return own.startswith(session) and own.partition(".")[2] == str(int(number))
    return own.startswith(value.text) if value.prefix else own == value.text


def _says(phrase: Phrase, entry: HistoryEntry) -> bool:
    run = entry.run
    words, count = (
        words_of(f"{run.name} {run.reason} {run.labels} {entry.words} {_why(run)} {entry.noted}"),
        len(phrase.words),
    )
    *first, last = phrase.words
    found = any(
        words[start : start + count - 1] == first
        and (words[start + count - 1].startswith(last) if phrase.prefix else words[start + count - 1] == last)
        for start in range(len(words) - count + 1)
    )
    return found is not phrase.negated


def _why(run: EndedRun) -> str:
    return "" if run.override is None else run.override.reason


@pytest.mark.parametrize("text", SEARCHES)
def test_a_search_finds_what_fits_in_pages(reader: HistoryReader, every: list[HistoryEntry], text: str) -> None:
    search = read_search(text, NOW)
    expected = [entry.run for entry in every if fits(search, entry)]
    found, before = list[EndedRun](), None
    while page := reader.page(search, Page(before, 150)):
        found += page
        before = page[-1].place
    assert [run.run for run in found] == [run.run for run in expected]
    if not text:
        assert len(found) == RUNS


@pytest.mark.parametrize("text", ["", "outcome:failed", "panic", "machine:m-17", "group:group-2,group-7", "flaky:yes"])
def test_a_token_for_groups_sees_the_runs_of_those_alone(
    reader: HistoryReader, every: list[HistoryEntry], text: str
) -> None:
    search = within(read_search(text, NOW), frozenset({"group-2", "group-3"}))
    expected = [entry.run.run for entry in every if fits(search, entry)]
    found = reader.page(search, Page(None, RUNS))
    assert [run.run for run in found] == expected
    assert {run.group for run in found} <= {"group-2", "group-3"}
    nobodys = within(read_search(text, NOW), frozenset())
    assert reader.page(nobodys, Page(None, RUNS)) == []


#: Searches whose page is read in the order of history from an index, and which one, in SQLite.
BY_INDEX = {
    "": "INTEGER PRIMARY KEY",
    "since:30d": "INTEGER PRIMARY KEY",
    "outcome:failed": "dispatch_history_outcome",
    "-outcome:passed": "dispatch_history_outcome",
    "machine:m-17": "dispatch_history_machine",
    "machine:m-17 outcome:failed group:group-1 who:person-1": "dispatch_history_machine",
    "workload:test-7.efi machine:m-17": "dispatch_history_name",
    "group:group-1 kind:boot": "dispatch_history_in_group",
    "who:person-1": "dispatch_history_who",
    "session:s-12 machine:m-17": "dispatch_history_session",
    "run:0fc21ad4ee15.77": "sqlite_autoindex_dispatch_history_1",
    "flaky:yes machine:m-17": "dispatch_history_flaky",
    "overridden:yes": "dispatch_history_overridden",
    "panic machine:m-17": "VIRTUAL TABLE INDEX",
    "label:nightly outcome:failed": "VIRTUAL TABLE INDEX",
}


@pytest.mark.parametrize(("text", "index"), BY_INDEX.items())
def test_a_page_is_read_from_an_index_in_the_order_of_history(made: Place, text: str, index: str) -> None:
    dialect = made.engine.dialect.name
    query, *_ = page_queries(read_search(text, NOW), Page(None, 50), dialect)
    plan = "\n".join(explained(made, query))
    if dialect == "sqlite":
        reads = [line for line in plan.splitlines() if "dispatch_history" in line or "VIRTUAL" in line]
        assert any(index in line for line in reads) or (index == "INTEGER PRIMARY KEY" and "SCAN" in plan), plan
        several = query.get_final_froms()[0].__class__.__name__ == "Subquery"  # pages of several reads are merged
        assert several or "TEMP B-TREE" not in plan, plan
    else:  # it knows how many runs each value has, and so chooses among the indexes
        assert "Seq Scan" not in plan, plan
        assert "Index Scan" in plan, plan


def test_a_short_id_is_read_from_the_index_of_ids(made: Place) -> None:
    search = within(read_search("run:0f.3", NOW), frozenset({"group-2"}))
    (query,) = page_queries(search, Page(None, 50), made.engine.dialect.name)
    plan = "\n".join(explained(made, query))
    index = {
        "sqlite": "sqlite_autoindex_dispatch_history_1 (run>? AND run<?)",
        "postgresql": "dispatch_history_run_key",
    }
    assert index[made.engine.dialect.name] in plan, plan


def explained(made: Place, query: sa.Select[Any]) -> list[str]:
    """How the database would carry out a query."""
    compiled = query.compile(made.engine, compile_kwargs={"literal_binds": True})
    with made.engine.connect() as db:
        if made.engine.dialect.name == "sqlite":
            return [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
        db.exec_driver_sql("SET enable_seqscan = off")  # so few rows it would rather read all at once
        db.exec_driver_sql("SET enable_bitmapscan = off")
        return [row[0] for row in db.exec_driver_sql(f"EXPLAIN {str(compiled).replace('%', '%%')}")]
