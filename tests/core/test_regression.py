"""Where a workload turned from good to bad, and what people add to a run that has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from queue_bench import QueueBench

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.ended_runs import (
    LONGEST_NOTE,
    EndedRun,
    HistoryEntry,
    as_it_ended,
    history_entry,
    note_text,
    noted,
    overridden,
)
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Case, Outcome, Report, Run
from pytest_dispatch.core.regression import GoodBad, project_of, release_of, turning_point
from pytest_dispatch.core.requirements import read_requirements

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


def a_run(**more: Any) -> Run:
    (run,) = QueueBench("a").queue.of_session("s")
    return replace(run, outcome=FAILED, reason="it broke", **more)


def entry(outcome: Outcome = FAILED, place: int = 1) -> HistoryEntry:
    return history_entry(a_run(), outcome, place, source="o/r@v1", who="ada", digest="sha256:1")


def ended(outcome: Outcome = FAILED, place: int = 1, **more: Any) -> EndedRun:
    return replace(entry(outcome, place).run, **more)


def test_the_last_good_and_the_first_bad_run_and_what_changed() -> None:
    runs = [
        ended(SKIPPED, 6),
        ended(ERROR, 5, source="o/r@v3"),
        ended(FAILED, 4, source="o/r@v2", digest="sha256:2", machine="m-2", firmware="1.1"),
        ended(FAILED, 3, cancelled=True),
        ended(PASSED, 2, machine="m-1", firmware="1.0"),
        ended(FAILED, 1),
    ]
    found = turning_point(runs)
    assert found.last_good is runs[4]
    assert found.first_bad is runs[2]
    assert found.changed == (
        GoodBad(what="digest", good="sha256:1", bad="sha256:2"),
        GoodBad(what="release", good="v1", bad="v2"),
        GoodBad(what="machine", good="m-1", bad="m-2"),
        GoodBad(what="firmware", good="1.0", bad="1.1"),
    )


def test_one_that_passes_has_no_bad_run_and_one_that_never_did_no_good_one() -> None:
    good = turning_point([ended(PASSED, 2), ended(FAILED, 1)])
    assert (good.first_bad, good.last_good is not None, good.changed) == (None, True, ())
    bad = turning_point([ended(FAILED, 2), ended(FAILED, 1)])
    assert (bad.last_good, bad.first_bad and bad.first_bad.place, bad.changed) == (None, 1, ())
    assert turning_point([]).first_bad is None


def test_releases_of_a_source() -> None:
    assert [(project_of(name), release_of(name)) for name in ("o/r@v1", "folder", "a@b@c")] == [
        ("o/r", "v1"),
        ("folder", ""),
        ("a@b", "c"),
    ]


def test_what_can_be_searched_for_in_a_run() -> None:
    run = a_run()
    cases = (Case(name="memory", outcome=FAILED), Case(name="disk", outcome=PASSED))
    report = Report(title="boot", cases=cases, labels=("slow", "firmware=1.2.3"))
    attempt = replace(run.attempt, reports=(report, replace(report, title="x" * 5000)))
    workload = replace(run.workload, labels=("nightly",), requires=read_requirements(["arch=arm64", "gpu"], ""))
    found = history_entry(
        replace(run, attempts=(attempt,), workload=workload), FAILED, 7, source="w", who="ada", digest="d"
    )
    assert (found.words, found.run.firmware, found.run.labels) == ("boot\nmemory", "1.2.3", ("nightly", "arch=arm64"))
    assert (found.run.place, found.run.outcome, found.run.original, found.run.reason) == (7, FAILED, FAILED, "it broke")


def test_an_override_keeps_what_the_run_ended_with() -> None:
    override = Override(outcome=PASSED, reason=" a known\x07 defect ", who="eve", at=5.0)
    now = overridden(ended(), override)
    assert (now.outcome, now.original) == (PASSED, FAILED)
    assert now.override == Override(outcome=PASSED, reason="a known defect", who="eve", at=5.0)
    assert as_it_ended(now) == ended()


@pytest.mark.parametrize(
    ("outcome", "reason", "told"),
    [
        (PASSED, " ", "reason: expected some words for other people, got none"),
        (PASSED, "x" * 1001, "reason: expected at most 1000 characters, got 1001"),
        (FAILED, "x", "outcome: expected another than failed, which counts already, got the same"),
    ],
)
def test_an_override_that_cannot_be(outcome: Outcome, reason: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(ended(), Override(outcome=outcome, reason=reason, who="eve", at=5.0))
    assert str(caught.value) == told


def test_nothing_to_take_back() -> None:
    assert as_it_ended(ended()) == ended()


def test_notes_are_counted_and_made_harmless() -> None:
    notes = tuple(Note(id=str(n), who="ada", at=1.0, text=f"note {n}") for n in range(2))
    found = noted(entry(), notes)
    assert (found.run.notes, found.noted) == (2, "note 0\nnote 1")
    assert note_text(" \x1b[31mred\x1b[0m ") == "red"
    with pytest.raises(ConfigError, match="expected at most 100 notes on a run"):
        noted(entry(), notes * 51)
    for text, told in (("", "got none"), ("x" * (LONGEST_NOTE + 1), "got 10001")):
        with pytest.raises(ConfigError, match=told):
            note_text(text)
