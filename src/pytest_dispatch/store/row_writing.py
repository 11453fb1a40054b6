"""Rows of the journal's tables, made from values; of a run, only the rows that changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa

from pytest_dispatch.core.health import MachineHealth
from pytest_dispatch.core.known_issues import Failure, IssueLink, Lane
from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import Attempt, Case, Moment, Outcome, Placement, Policy, Refusal, Report, Run
from pytest_dispatch.core.run_series import NO_BUCKET, Ending, Series, bucket_of
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import as_json, stored
from pytest_dispatch.store.records import PendingIssue, SessionRecord

if TYPE_CHECKING:
    from pytest_dispatch.core.notifications import Delivery

T = TypeVar("T")

Row = tuple[sa.Table, dict[str, Any]]

SUSPECT = "suspect"  # what is held, in the rows of suspect workloads

#: Fields of a run in its own row; its attempts have rows of their own.
_RUN = attrgetter(*(name for name in Run.__slots__ if name != "attempts"))


def session_row(record: SessionRecord, closed: float | None = None) -> Row:
    """Return the row that opens or closes a session."""
    return schema.sessions, {
        "id": record.id,
        "source": stored(record.source),
        "owner": stored(record.owner),
        "user_name": record.user,
        "epoch": record.epoch,
        "port": record.port,
        "opened": record.opened,
        "closed": closed,
        **_policy(record.policy),
        "issues_repo": record.issues.repo,
        "issues_api": record.api,
        "issues_outcomes": as_json(sorted(record.issues.outcomes)),
        "issues_raw": record.issues.raw,
        "issues_reviewed": record.issues.reviewed,
        "issues_updates": record.issues.updates,
        "issues_close_after": record.issues.close_after,
        "lease": str(record.lease),
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "limits": as_json(policy.limits),
        "expect": policy.expect,
        "retries": policy.retries,
        "retry_failures": policy.retry_failures,
        "idle": str(policy.idle),
        "judged": policy.judged,
        "fail_labels": as_json(policy.fail_labels),
        "skip_labels": as_json(policy.skip_labels),
    }


# Runs


def run_rows(run: Run, was: Run | None = None) -> list[Row]:
    """Return the rows of a run that are new or changed.

    Args:
        run: The run.
        was: The run as the journal has it; None if it is not there, or if this is unknown.
    """
    rows: list[Row] = []
    before = () if was is None else was.attempts
    if was is None or len(run.attempts) != len(before) or _RUN(run) != _RUN(was):
        rows.append(_run_row(run))
    for number, attempt in _fresh(run.attempts, before):
        _add_attempt(rows, run.id, attempt, before[number - 1] if number <= len(before) else None)
    return rows


def _run_row(run: Run) -> Row:
    workload = run.workload
    asked = {
        "kind": workload.kind,
        "name": stored(workload.name),
        "digest": workload.digest,
        "payload": as_json(workload.payload),
        "labels": as_json(workload.labels),
        "requires": as_json(workload.requires),
        "asked_expect": workload.expect,
        "asked_limits": as_json(workload.limits),
        "priority": int(workload.priority),
        "chain": stored(workload.chain),
        "after": as_json(workload.after),
        "asked_group": workload.group,
    }
    became = {
        "limits": as_json(run.limits),
        "expect": run.expect,
        "attempts": len(run.attempts),
        "outcome": _word(run.outcome),
        "reason": stored(run.reason),
        "cancelled": run.cancelled,
        "unreviewed": run.unreviewed,
        "in_group": run.group,
        "moved_priority": None if run.place is None else int(run.place.priority),
        "moved_number": None if run.place is None else run.place.number,
        "moved_line": None if run.place is None else run.place.line,
        "only_machine": stored(run.only),
        "avoids_machine": stored(run.avoids),
        "again_of": run.again,
        "requeue_most": None if run.requeue is None else run.requeue.most,
        "requeue_done": None if run.requeue is None else run.requeue.done,
        "requeue_faults": None if run.requeue is None else run.requeue.faults,
    }
    which = {"id": run.id, "session": run.session, "key": stored(run.key), "position": run.position}
    return schema.runs, {**which, **asked, **became}


def _add_attempt(rows: list[Row], run: str, attempt: Attempt, was: Attempt | None) -> None:
    """Add the row of a new or changed attempt, and those of its parts that are new or changed."""
    rows.append(_attempt_row(run, attempt))
    of = {"run": run, "attempt": attempt.number}
    for part, rows_of in _PARTS:
        now, before = part(attempt), part(was) if was is not None else ()
        if now is not before:
            for number, each in _fresh(now, before):
                rows += rows_of({**of, "number": number}, each)


def _fresh(now: Sequence[T], before: Sequence[T]) -> list[tuple[int, T]]:
    """Return the items that are new or changed, with their numbers from 1."""
    known = len(before)
    return [
        (number, each)
        for number, each in enumerate(now, 1)
        if number > known or (each is not before[number - 1] and each != before[number - 1])
    ]


def _moment_rows(of: dict[str, Any], moment: Moment) -> list[Row]:
    return [(schema.moments, {**of, "state": str(moment.state), "phase": str(moment.phase), "at": moment.at})]


def _placement_rows(of: dict[str, Any], placement: Placement) -> list[Row]:
    where = {"machine": stored(placement.machine), "known_by": str(placement.known_by), "at": placement.at}
    return [(schema.placements, {**of, **where})]


def _refusal_rows(of: dict[str, Any], refusal: Refusal) -> list[Row]:
    why = {"why": stored(refusal.why), "begins": stored(refusal.begins), "whole": refusal.whole, "at": refusal.at}
    return [(schema.refusals, {**of, **why})]


def _attempt_row(run: str, attempt: Attempt) -> Row:
    return schema.attempts, {
        "run": run,
        "number": attempt.number,
        "state": str(attempt.state),
        "moments": len(attempt.history),
        "placements": len(attempt.placements),
        "heard": attempt.heard,
        "counts": as_json(attempt.counts),
        "outcome": _word(attempt.outcome),
        "reason": stored(attempt.reason),
        "proposed": _word(attempt.proposed),
        "outside": stored(attempt.outside),
        "excused": attempt.excused,
    }


def _report_rows(of: dict[str, Any], report: Report) -> list[Row]:
    """Return the rows of a report, which is identified by its digest instead of a number."""
    of, digest = {"run": of["run"], "attempt": of["attempt"]}, report_digest(report)
    said = {
        "title": stored(report.title),
        "body": stored(report.body),
        "labels": as_json(report.labels),
        "assignees": as_json(report.assignees),
        "milestone": stored(report.milestone),
        "result": _word(report.result),
        "junit": stored(report.junit),
        "tap": stored(report.tap),
        "cases": len(report.cases),
        "at": report.at,
        "late": report.late,
        "size": report.size,
    }
    cases = enumerate(report.cases, 1)
    return [
        (schema.reports, {**of, "digest": digest, **said}),
        *((schema.cases, {**of, "report": digest, "number": number, **_case(case)}) for number, case in cases),
    ]


#: The parts of an attempt with rows of their own, and the functions that make these rows.
_PARTS: Sequence[tuple[Callable[[Attempt], Sequence[Any]], Callable[[dict[str, Any], Any], list[Row]]]] = (
    (attrgetter("history"), _moment_rows),
    (attrgetter("placements"), _placement_rows),
    (attrgetter("reports"), _report_rows),
    (attrgetter("refused"), _refusal_rows),
)


def _case(case: Case) -> dict[str, Any]:
    told = {"name": stored(case.name), "outcome": str(case.outcome)}
    return {**told, "duration": case.duration, "message": stored(case.message)}


def report_digest(report: Report) -> str:
    """Return the digest that identifies a report of an attempt: of its content, without times (`attempts.knows`)."""
    said = (
        report.title,
        report.body,
        report.labels,
        report.assignees,
        report.milestone,
        report.result,
        report.cases,
        report.junit,
        report.tap,
    )
    return hashlib.blake2b(msgspec.json.encode(said), digest_size=16).hexdigest()


def _word(value: object) -> str | None:
    return None if value is None else str(value)


# Other records


def issue_row(pending: PendingIssue) -> Row:
    """Return the row of an issue to be filed, with its state."""
    issue, tracking = pending.issue, pending.tracking
    return schema.issues, {
        "marker": issue.marker,
        "session": pending.session,
        "run": pending.run,
        "api": pending.api,
        "repo": pending.repo,
        "title": stored(issue.title),
        "body": stored(issue.body),
        "labels": as_json(issue.labels),
        "assignees": as_json(issue.assignees),
        "milestone": stored(issue.milestone),
        "comments": as_json(issue.comments),
        "review": pending.review,
        "tries": pending.tries,
        "failed": stored(pending.failed),
        "given_up": pending.given_up,
        "url": pending.url,
        "act": "" if tracking is None else str(tracking.act),
        "failure": "" if tracking is None else tracking.marker,
        "known_url": "" if tracking is None else tracking.url,
        "at": 0.0 if tracking is None else tracking.at,
    }


def failure_row(failure: Failure) -> Row:
    """Return the row of a failure that the next run may have again."""
    return schema.failures, {
        **_lane(failure.lane, failure.digest),
        "remembered": True,
        "outcome": str(failure.outcome),
        "cases": as_json(failure.cases),
        "run": failure.run,
        "first": failure.first,
        "last": failure.last,
        "times": failure.times,
        "current": failure.current,
        "passes": failure.passes,
        "links": as_json(failure.links),
        "repo": failure.repo,
        "api": failure.api,
        "url": failure.url,
    }


def gone_failure_row(lane: Lane, digest: str) -> Row:
    """Return the row that marks a failure as over."""
    over = Failure(lane=lane, digest=digest, outcome=Outcome.FAILED, cases=(), run="", first=0.0, last=0.0)
    return schema.failures, {**failure_row(over)[1], "remembered": False}


def _lane(lane: Lane, digest: str) -> dict[str, str]:
    series = lane.series
    of = {"kind": series.kind, "origin": stored(series.origin), "name": stored(series.name)}
    return {**of, "machines": stored(lane.machines), "digest": digest}


def link_row(run: str, url: str, link: IssueLink | None) -> Row:
    """Return the row of a run's link to an issue; with None, the row that marks it as taken away."""
    now = link or IssueLink(url=url, since=0.0, by="")
    of = {"run": run, "url": stored(url), "since": now.since, "by_whom": stored(now.by), "carried": now.carried}
    return schema.links, {**of, "active": link is not None}


def machine_rows(machine: Machine, joined: frozenset[Identity] = frozenset(), *, approved: bool = True) -> list[Row]:
    """Return the rows of a machine and of its identities, some of which a person has joined."""
    name = stored(machine.id)
    own = {"id": name, "driven": machine.driven, "labels": as_json(machine.labels), "approved": approved}
    known: Iterable[Row] = (
        (
            schema.identities,
            {
                "known_by": str(each.known_by),
                "value": stored(each.value),
                "machine": name,
                "joined": each in joined,
            },
        )
        for each in sorted(machine.identities)
    )
    return [(schema.machines, own), *known]


def health_row(machine: str, health: MachineHealth) -> Row:
    """Return the row of a machine's health."""
    return schema.health, {
        "machine": stored(machine),
        "faults": as_json(health.faults),
        "holding": health.holding,
        "held_for": stored(health.held_for),
        "tries": health.tries,
        "due": health.due,
        "run": health.run,
        "checked": health.checked,
        "last": health.last,
        "outcome": _word(health.outcome),
        "reason": stored(health.reason),
    }


def suspect_row(series: Series, since: float | None) -> Row:
    """Return the row of a workload whose faults count against no machine; None if they do again."""
    name = as_json((series.kind, series.origin, series.name))
    return hold_row(name, None if since is None else Hold(reason="", since=since), SUSPECT)


def hold_row(name: str, hold: Hold | None, what: str = "machine") -> Row:
    """Return the row of the hold of a machine, group or run; with None, the row that marks the hold as ended."""
    now = hold or Hold(reason="")
    why = {"reason": stored(now.reason), "owner": stored(now.owner), "since": now.since, "until": now.until}
    return schema.holds, {"what": what, "name": stored(name), **why, "active": hold is not None}


def series_rows(ending: Ending) -> list[Row]:
    """Return what a run adds to its series: one row for all machines together, and one for each of its machines."""
    series, seconds = ending.series, ending.seconds
    counted = {
        "kind": series.kind,
        "origin": stored(series.origin),
        "name": stored(series.name),
        "outcome": str(ending.outcome),
        "flaky": ending.flaky,
        "bucket": NO_BUCKET if seconds is None else bucket_of(seconds),
        "count": 1,
    }
    return [(schema.series, {**counted, "machine": stored(machine)}) for machine in ("", *ending.machines)]


def served_row(run: str, attempt: int, digest: str) -> Row:
    """Return the row with the digest of the bytes that a machine began to download for an attempt."""
    return schema.served, {"run": run, "attempt": attempt, "digest": digest}


def console_row(run: str, attempt: int, at: float, text: str) -> Row:
    """Return the row of console lines, separated by newlines, that a machine showed during an attempt.

    Characters that a database cannot store (NUL, surrogates) are replaced.
    """
    if "\0" in text or not text.isascii():
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return schema.console, {"run": run, "attempt": attempt, "at": at, "text": text}


def notification_row(delivery: Delivery) -> Row:
    """Return the row of a notification on its way; the URL of one that is done is dropped."""
    return schema.notifications, {
        "id": delivery.id,
        "target": delivery.target,
        "kind": str(delivery.kind),
        "severity": str(delivery.severity),
        "title": stored(delivery.title),
        "body": stored(delivery.body),
        "at": delivery.at,
        "since": delivery.since,
        "due": delivery.due,
        "held": delivery.held,
        "tries": delivery.tries,
        "failed": stored(delivery.failed),
        "state": str(delivery.state),
        "done": delivery.done,
        "session": delivery.session,
        "url": stored(delivery.url) if delivery.done is None else "",
    }
