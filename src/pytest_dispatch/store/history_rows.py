"""Rows of history: made from runs that have ended, and read back."""

from __future__ import annotations

from typing import Any

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.ended_runs import EndedRun, HistoryEntry, searched_words
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import as_json, restored, stored
from pytest_dispatch.store.inserts import Replaced
from pytest_dispatch.store.row_reading import Found
from pytest_dispatch.store.row_writing import Row
from pytest_dispatch.support.codec import decode


def history_row(entry: HistoryEntry) -> Row:
    """Return the row of a run that has ended."""
    ended, override = entry.run, entry.run.override
    asked = {
        "session": ended.session,
        "kind": ended.kind,
        "origin": stored(ended.source),
        "name": stored(ended.name),
        "digest": ended.digest,
        "in_group": ended.group,
        "who": stored(ended.who),
        "labels": as_json(ended.labels),
    }
    became: dict[str, Any] = {
        "machine": stored(ended.machine),
        "outcome": str(ended.outcome),
        "original": str(ended.original),
        "reason": stored(ended.reason),
        "ended": ended.ended,
        "seconds": ended.seconds,
        "attempts": ended.attempts,
        "flaky": ended.flaky,
        "cancelled": ended.cancelled,
        "firmware": stored(ended.firmware),
        "words": stored(entry.words),
    }
    added = {
        "overridden": override is not None,
        "override_reason": "" if override is None else stored(override.reason),
        "override_who": "" if override is None else stored(override.who),
        "override_at": None if override is None else override.at,
        "notes": ended.notes,
        "noted": stored(entry.noted),
    }
    return schema.history, {"id": ended.place, "run": ended.run, **asked, **became, **added}


def words_row(run: Run) -> Replaced:
    """Return the words for which a run that has ended is found now."""
    of = schema.history.c
    return Replaced(of.run, stored(run.id), of.words, stored(searched_words(run)))


def ended_of(row: Found) -> EndedRun:
    """Return the run of a row."""
    outcome = Outcome(row["outcome"])
    return EndedRun(
        place=row["id"],
        run=row["run"],
        session=row["session"],
        kind=row["kind"],
        source=restored(row["origin"]),
        name=restored(row["name"]),
        digest=row["digest"],
        group=row["in_group"],
        machine=restored(row["machine"]),
        who=restored(row["who"]),
        outcome=outcome,
        original=Outcome(row["original"]),
        reason=restored(row["reason"]),
        ended=row["ended"],
        seconds=row["seconds"],
        attempts=row["attempts"],
        flaky=bool(row["flaky"]),
        cancelled=bool(row["cancelled"]),
        labels=decode(row["labels"], tuple[str, ...]),
        firmware=restored(row["firmware"]),
        override=_override(row, outcome),
        notes=row["notes"],
    )


def entry_of(row: Found) -> HistoryEntry:
    """Return the entry of a row."""
    return HistoryEntry(run=ended_of(row), words=restored(row["words"]), noted=restored(row["noted"]))


def _override(row: Found, outcome: Outcome) -> Override | None:
    if not row["overridden"]:
        return None
    said = {"reason": restored(row["override_reason"]), "who": restored(row["override_who"])}
    return Override(outcome=outcome, **said, at=row["override_at"])


def note_row(run: str, note: Note) -> Row:
    """Return the row of a note on a run."""
    said = {"who": stored(note.who), "at": note.at, "text": stored(note.text)}
    return schema.notes, {"id": note.id, "run": run, **said}


def note_of(row: Found) -> Note:
    """Return the note of a row."""
    return Note(id=row["id"], who=restored(row["who"]), at=row["at"], text=restored(row["text"]))
