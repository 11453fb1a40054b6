"""What goes into the journal, as rows of its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from pytest_dispatch.core.model import Attempt, Issue, Policy, Report, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.shapes import decode
from pytest_dispatch.store import schema

Row = tuple[sa.Table, dict[str, Any]]

#: Makes the JSON of a run of an earlier make one of today.
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is kept of a session beside its runs.

    Attributes:
        owner: Who holds it.
        epoch: Of its lease.
    """

    id: str
    source: str
    opened: float
    policy: Policy
    port: int = 0
    owner: str = ""
    epoch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An issue on its way to GitHub.

    Attributes:
        api: Address of the API of the GitHub that it is for; empty where an earlier make did not note it.
        tries: How often filing was begun.
        failed: Why the last try failed.
        given_up: No further try makes sense.
        url: Of the filed issue, empty until then.
        review: Its session's holder is to have a look at it first.
    """

    session: str
    run: str
    repo: str
    issue: Issue
    tries: int = 0
    failed: str = ""
    given_up: bool = False
    url: str = ""
    api: str = ""
    review: bool = False


def read_run(record: bytes, upgrade: Upgrade) -> Run:
    """Read a run, also one that an earlier make wrote.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    try:
        return decode(record, Run)
    except msgspec.ValidationError:
        found = msgspec.json.decode(record)
        try:
            return msgspec.convert(upgrade(found), Run)
        except (LookupError, TypeError, AttributeError):
            raise msgspec.ValidationError("it is no run") from None


def session_row(record: SessionRecord, closed: float | None = None) -> Row:
    """The row that opens a session, or closes it."""
    values = {"id": record.id, "source": record.source, "opened": record.opened, "closed": closed}
    return schema.sessions, {**values, "record": msgspec.json.encode(record)}


def change_rows(change: Change, new_report: Report | None) -> list[Row]:
    """The rows that make a change durable: the event, the run as it now is, and a report that came with it."""
    return [*event_rows(change, new_report), run_row(change.run)]


def event_rows(change: Change, new_report: Report | None) -> list[Row]:
    """Those of them that a later change of the run does not replace."""
    run, number = change.run, change.attempt
    attempt = run.attempts[number - 1]
    event = {"at": change.at, "event": change.event, "state": attempt.state}
    rows: list[Row] = [(schema.events, {"run": run.id, "attempt": number, "machine": attempt.machine, **event})]
    if new_report is not None:
        record = msgspec.json.encode(new_report)
        rows.append((schema.reports, {"run": run.id, "attempt": number, "record": record}))
    return rows


def run_row(run: Run) -> Row:
    """A run as it is; its reports have rows of their own, so that a long one is written once."""
    told: Any = run
    if any(attempt.reports for attempt in run.attempts):  # by names, which takes half as long as to make another run
        told = _fields(run) | {"attempts": [_fields(attempt) | {"reports": ()} for attempt in run.attempts]}
    return schema.runs, {"id": run.id, "session": run.session, "record": msgspec.json.encode(told)}


def _fields(value: Run | Attempt) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def letter_row(letter: Letter) -> Row:
    """An issue to be filed, or what became of it."""
    values = {"marker": letter.issue.marker, "session": letter.session, "run": letter.run}
    state = {"repo": letter.repo, "given_up": letter.given_up, "url": letter.url}
    return schema.outbox, {**values, **state, "record": msgspec.json.encode(letter)}


def served_row(run: str, attempt: int, digest: str) -> Row:
    """Of which bytes a machine began to download an attempt."""
    return schema.served, {"run": run, "attempt": attempt, "digest": digest}


def console_row(run: str, attempt: int, at: float, text: str) -> Row:
    """A line that a machine showed while it held an attempt; what no database takes (NUL, surrogates) is replaced."""
    storable = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return schema.console, {"run": run, "attempt": attempt, "at": at, "text": storable}
