"""Runs that have ended, as history shows and searches them: one value for each, with what people added to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pytest_dispatch.core.annotations import Note, Override
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import BAD, Outcome, Phase, Report, Run
from pytest_dispatch.core.plain_text import plain

LONGEST_TEXT = 1000  # characters of the reason of an override
LONGEST_NOTE = 10_000  # characters of a note
MOST_NOTES = 100  # of a run
WORDS = 2000  # characters of titles and names of cases that can be searched for
REASON = 1000  # characters of a run's reason that history keeps

_FIRMWARE = "firmware="  # begins the label of a report that names the version of the machine's firmware
_NEVER = {Phase.QUEUED, Phase.OVER}  # an attempt that goes from the queue straight to these never reached a machine


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that has ended, as history shows it; also how it is sent to clients.

    Attributes:
        place: Its place in history: microseconds since 1970 at its end, and more than that of the run before.
        run: Its id.
        source: The name of its source.
        digest: Digest of the bytes that were served.
        group: Id of its group.
        machine: The machine of its last attempt; empty if that reached none.
        who: The person who asked for it: the owner of a person's session, else the user of the session.
        outcome: The outcome that counts: a person's, if there is one.
        original: The outcome that it ended with.
        reason: Why it did not pass.
        ended: When it ended, in seconds since 1970.
        seconds: From when the last attempt left the queue to its end; null if it never left the queue.
        attempts: Number of its attempts.
        flaky: Whether it passed, but not at the first attempt.
        cancelled: Whether it was cancelled.
        labels: Labels of the workload, and what it required of a machine where that is one value (`arch=arm64`).
        firmware: Version of the machine's firmware, if a report named it by a label `firmware=VERSION`.
        override: The person's outcome, with who gave it and why; null if there is none.
        notes: Number of its notes.
    """

    place: int
    run: str
    session: str
    kind: str
    source: str
    name: str
    digest: str
    group: str
    machine: str
    who: str
    outcome: Outcome
    original: Outcome
    reason: str
    ended: float
    seconds: float | None
    attempts: int
    flaky: bool
    cancelled: bool
    labels: tuple[str, ...] = ()
    firmware: str = ""
    override: Override | None = None
    notes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """A page of what a search finds, newest first.

    Attributes:
        before: What `before` must be for the next page; null if this is the last one.
    """

    runs: tuple[EndedRun, ...]
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A run that has ended, with the texts by which it is found.

    Attributes:
        words: Titles of its reports, and names of the cases that did not pass.
        noted: Texts of its notes.
    """

    run: EndedRun
    words: str = ""
    noted: str = ""


def history_entry(run: Run, outcome: Outcome, place: int, *, source: str, who: str, digest: str) -> HistoryEntry:
    """Return the entry in history of a run that has ended with an outcome.

    Args:
        run: The run.
        outcome: Its outcome.
        place: Its place in history.
        source: The name of its source.
        who: The person who asked for it.
        digest: Digest of the bytes that were served.
    """
    attempt, workload = run.attempt, run.workload
    left = next((moment for moment in attempt.history if moment.phase is not Phase.QUEUED), attempt.history[-1])
    ended = EndedRun(
        place=place,
        run=run.id,
        session=run.session,
        kind=workload.kind,
        source=source,
        name=workload.name,
        digest=digest,
        group=run.group,
        machine=attempt.machine,
        who=who,
        outcome=outcome,
        original=outcome,
        reason=(run.reason or attempt.reason)[:REASON],
        ended=attempt.since,
        seconds=None if left.phase in _NEVER else max(0.0, attempt.since - left.at),
        attempts=len(run.attempts),
        flaky=run.flaky,
        cancelled=run.cancelled,
        labels=tuple(dict.fromkeys([*workload.labels, *_required(run)])),
        firmware=_firmware(attempt.reports),
    )
    return HistoryEntry(run=ended, words=searched_words(run))


def _required(run: Run) -> Iterator[str]:
    """Yield the requirements that name one value, as labels."""
    for each in run.workload.requires:
        if each.operator == "in" and len(each.values) == 1:
            yield f"{each.key}={each.values[0]}"


def _firmware(reports: tuple[Report, ...]) -> str:
    named = (label for report in reports for label in report.labels if label.startswith(_FIRMWARE))
    return next(named, "").removeprefix(_FIRMWARE)


def searched_words(run: Run) -> str:
    """Return what can be searched for: each title and name once, until there is no more room."""
    found, size = dict[str, None](), 0
    for text in _texts(run):
        if text not in found:
            size += len(text) + 1
            if size > WORDS:
                break
            found[text] = None
    return "\n".join(found)


def _texts(run: Run) -> Iterator[str]:
    for attempt in run.attempts:
        for report in attempt.reports:
            yield report.title
            yield from (case.name for case in report.cases if case.outcome in BAD)


def overridden(ended: EndedRun, override: Override) -> EndedRun:
    """Return a run with a person's outcome; what it ended with stays beside it.

    Raises:
        ConfigError: The reason is empty or too long, or the outcome is the one that counts already.
    """
    reason = plain(override.reason).strip()
    if not reason:
        raise ConfigError("reason: expected some words for other people, got none")
    if len(reason) > LONGEST_TEXT:
        raise ConfigError(f"reason: expected at most {LONGEST_TEXT} characters, got {len(reason)}")
    if override.outcome is ended.outcome:
        raise ConfigError(f"outcome: expected another than {ended.outcome}, which counts already, got the same")
    return replace(ended, outcome=override.outcome, override=replace(override, reason=reason))


def as_it_ended(ended: EndedRun) -> EndedRun:
    """Return a run without a person's outcome."""
    return replace(ended, outcome=ended.original, override=None)


def noted(entry: HistoryEntry, notes: tuple[Note, ...]) -> HistoryEntry:
    """Return the entry of a run with these notes.

    Raises:
        ConfigError: There are too many of them.
    """
    if len(notes) > MOST_NOTES:
        raise ConfigError(f"{entry.run.run}: expected at most {MOST_NOTES} notes on a run, which it has; delete one")
    return replace(entry, run=replace(entry.run, notes=len(notes)), noted="\n".join(note.text for note in notes))


def note_text(text: str) -> str:
    """Return the text of a note, made harmless.

    Raises:
        ConfigError: There is none, or it is too long.
    """
    told = plain(text).strip()
    if not told:
        raise ConfigError("text: expected some words for other people, got none")
    if len(told) > LONGEST_NOTE:
        raise ConfigError(f"text: expected at most {LONGEST_NOTE} characters, got {len(told)}")
    return told
