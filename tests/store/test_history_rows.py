"""Runs that have ended, as they are written and read back: in a file and on a server alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from journals import session, write
from queue_bench import QueueBench

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.ended_runs import HistoryEntry, as_it_ended, history_entry, noted, overridden
from pytest_dispatch.core.history_search import read_search
from pytest_dispatch.core.model import Case, Outcome, Report
from pytest_dispatch.core.run_series import Ending, Series
from pytest_dispatch.store.expiry import console_deletion, emptied
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.history_rows import history_row, note_row
from pytest_dispatch.store.inserts import Gone
from pytest_dispatch.store.journal import Journal, console_row, run_rows, series_rows, session_row
from pytest_dispatch.store.schema import notes

SOON = 60.0  # seconds that a write may take; none takes as long


@pytest.fixture
def reader(journal: Journal) -> HistoryReader:
    return HistoryReader(journal._database)


def ended(name: str = "s.0", place: int = 1, **more: object) -> HistoryEntry:
    (run,) = QueueBench("a").queue.of_session("s")
    found = history_entry(run, Outcome.FAILED, place, source="o/r@v1", who="ada", digest="sha256:1")
    said = replace(found.run, run=name, **{"reason": "NUL \0 and ü", "machine": "m-1", "labels": ('say "hi"',), **more})  # type: ignore[arg-type]
    return replace(found, run=said)


def judged(entry: HistoryEntry, override: Override) -> HistoryEntry:
    return replace(entry, run=overridden(entry.run, override))


def names(reader: HistoryReader, text: str) -> list[str]:
    return [each.run for each in reader.page(read_search(text, 0.0), Page(None, 10))]


def test_a_run_comes_back_as_it_was(journal: Journal, reader: HistoryReader) -> None:
    override = Override(outcome=Outcome.PASSED, reason="known", who="eve", at=5.0)
    runs = [ended("s.2", 3, seconds=None), judged(ended("s.1", 2, seconds=1.5, flaky=True), override), ended()]
    write(journal, *(history_row(run) for run in reversed(runs)))
    assert reader.page(read_search("", 0.0), Page(None, 10)) == [entry.run for entry in runs]
    assert reader.of("s.1") == runs[1]
    assert reader.of("nobody\0") is None
    assert reader.place_of("nobody\0") is None
    assert names(reader, 'label:"say \\"hi\\""') == ["s.2", "s.1", "s.0"]
    assert names(reader, "label:say") == []


def test_what_people_add_replaces_the_row_and_its_words(journal: Journal, reader: HistoryReader) -> None:
    fresh = ended()
    write(journal, history_row(fresh), history_row(ended("s.1", 2)))
    passed = judged(fresh, Override(outcome=Outcome.PASSED, reason="known", who="eve", at=5.0))
    note = Note(id="n", who="eve", at=6.0, text="the heatsink")
    write(journal, history_row(noted(passed, (note,))), note_row("s.0", note))
    assert names(reader, "outcome:passed") == names(reader, "heatsink outcome:passed") == ["s.0"]
    assert names(reader, "outcome:failed") == ["s.1"]
    assert names(reader, "ü machine:m-1") == ["s.1", "s.0"]
    assert reader.notes("s.0") == (note,)
    journal.forget([Gone(notes.c.id, ("n",))]).result(SOON)
    write(journal, history_row(replace(noted(passed, ()), run=as_it_ended(passed.run))))
    assert (names(reader, "heatsink"), names(reader, "outcome:failed")) == ([], ["s.1", "s.0"])
    assert reader.notes("s.0") == ()


def test_a_run_that_ends_anew_has_its_last_end_alone(journal: Journal, reader: HistoryReader) -> None:
    write(journal, history_row(ended("s.0", 1)), history_row(ended("s.1", 2)))
    write(journal, history_row(ended("s.0", 3, reason="another")))
    assert names(reader, "") == ["s.0", "s.1"]
    assert names(reader, "another") == ["s.0"]


def test_places_grow_even_if_the_clock_was_set_back(open_journal: Callable[[], Journal]) -> None:
    journal = open_journal()
    first = journal.place(1000.0)
    assert first == 1_000_000_000
    assert journal.place(500.0) == first + 1
    write(journal, history_row(ended("s.0", first + 1)))
    assert open_journal().place(500.0) == first + 2


def test_old_consoles_and_texts_go_and_results_stay(journal: Journal, reader: HistoryReader) -> None:
    (run,) = QueueBench("a").queue.of_session("s")
    cases = (Case(name="disk", outcome=Outcome.FAILED, message="no disk"),)
    report = Report(title="t", body="long", junit="<x/>", tap="1..1", cases=cases, at=50.0)
    attempt = replace(run.attempt, reports=(report, replace(report, title="u", at=200.0)))
    write(journal, session_row(session("s")), *run_rows(replace(run, attempts=(attempt,))))
    write(journal, *(console_row("s.0", 1, at, f"line at {at}") for at in (1.0, 2.0, 200.0)))
    last, count = reader.oldest_console(100.0, 10)
    assert count == 2
    journal.forget([console_deletion(last)]).result(SOON)
    assert reader.oldest_console(100.0, 10) == (0, 0)
    assert [piece.text for piece in reader.console("s.0", 1, 0, 10)] == ["line at 200.0"]
    assert reader.last_console("s.0", 1, 1)[0].at == 200.0
    place, runs = reader.texts(0, 100.0, 10)
    assert runs == ["s.0"]
    journal.forget(emptied(runs)).result(SOON)
    assert reader.texts(0, 100.0, 10) == (place, [])
    assert reader.texts(place, 100.0, 10) == (0, [])
    (kept,) = journal.reader.runs("s")
    for told in kept.attempt.reports:
        assert (told.body, told.junit, told.tap, told.cases[0].message) == ("", "", "", "")
        assert (told.title in "tu", told.cases[0].name, told.cases[0].outcome) == (True, "disk", Outcome.FAILED)
    assert journal.reader.knows("s.0", 1, report), "one that comes again is known"


def test_series_are_found_by_each_of_their_parts(journal: Journal, reader: HistoryReader) -> None:
    series = [Series(*key) for key in product(("actions", "boot"), ("o/r@v1", "o/r@v2", "w"), "ab")]
    for each in series:
        ending = Ending(series=each, machines=("m",), outcome=Outcome.PASSED, seconds=1.0, flaky=False, at=1.0)
        write(journal, *series_rows(ending))
    assert reader.series("", "", "", 100) == series
    assert reader.series("", "", "", 3) == series[:3]
    assert reader.series("boot", "", "", 100) == series[6:]
    assert reader.series("", "o/r", "a", 100) == [series[0], series[2], series[6], series[8]]
    assert reader.series("boot", "w", "b", 100) == [series[11]]
    assert reader.series("boot", "o/r@v2", "", 100) == series[8:10]
    assert reader.series("boot", "none", "", 100) == []
    assert reader.sketches(series[0])["m"].runs == 1
