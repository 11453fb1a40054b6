"""The words of notifications; whatever comes from workloads, machines and people is made harmless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.chat_text import chat_line
from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import BAD, WORST_FIRST, Outcome, Run
from pytest_dispatch.core.notifications import Delivery, Notification, NotificationKind, Severity

if TYPE_CHECKING:
    from pytest_dispatch.core.cycle_state import Round
    from pytest_dispatch.core.machine import Hold
    from pytest_dispatch.store.journal import PendingIssue, SessionRecord

NAMED = 15  # most lines of a body
LONGEST = 300  # most characters of a reason


def run_ended(run: Run, outcome: Outcome, at: float) -> Notification:
    """Return what people are told when a run has its outcome."""
    reports = [report for attempt in run.attempts for report in attempt.reports if report.title]
    lines = [
        f"why: {chat_line(run.reason, LONGEST)}" if run.reason else "",
        f"report: {chat_line(reports[-1].title, LONGEST)}" if reports else "",
        f"machine: {chat_line(run.attempt.machine)}" if run.attempt.machine else "",
        f"attempts: {len(run.attempts)}" if len(run.attempts) > 1 else "",
        f"run {run.id}, group {chat_line(run.group)}",
    ]
    return Notification(
        id=f"run:{run.id}",
        kind=NotificationKind.RUN_ENDED,
        severity=Severity.WARNING if outcome in BAD else Severity.INFO,
        title=f"{chat_line(run.workload.name)}: {outcome}",
        body="\n".join(filter(None, lines)),
        at=at,
        groups=frozenset({run.group}),
        outcome=outcome,
        session=run.session,
    )


def session_ended(record: SessionRecord, runs: Sequence[Run], how: str, at: float) -> Notification:
    """Return what people are told when a session has ended; `how` says so if it was not closed in order."""
    counts = Counter(run.outcome for run in runs)
    worst = next((outcome for outcome in WORST_FIRST if counts[outcome]), None)
    told = [f"{counts[outcome]} {outcome}" for outcome in (*Outcome, None) if outcome and counts[outcome]]
    told += [f"{counts[None]} unfinished"] * bool(counts[None])
    bad = [f"{chat_line(run.workload.name)}: {_outcome(run)}" for run in runs if run.outcome in BAD]
    more = [f"… and {len(bad) - NAMED} more"] * (len(bad) > NAMED)
    source, owner = chat_line(record.source), chat_line(record.owner)
    return Notification(
        id=f"session:{record.id}:{record.epoch}",
        kind=NotificationKind.SESSION_ENDED,
        severity=Severity.WARNING if worst in BAD or counts[None] or how else Severity.INFO,
        title=f"session {source}{f' of {owner}' if owner else ''}: {', '.join(told) or 'no runs'}",
        body="\n".join([*filter(None, [how]), *bad[:NAMED], *more, f"session {record.id}"]),
        at=at,
        groups=frozenset(run.group for run in runs),
        outcome=worst,
        session=record.id,
    )


def _outcome(run: Run) -> str:
    return f"{run.outcome}{f', {chat_line(run.reason, LONGEST)}' if run.reason else ''}"


def machine_broken(name: str, why: str, hold: Hold | None, groups: frozenset[str], at: float) -> Notification:
    """Return what people are told when a machine cannot be started, and is held, if it is."""
    held = "" if hold is None else f"; it is held{_by(hold)}"
    return Notification(
        id=f"broken:{_key(name)}:{at:.6f}",
        kind=NotificationKind.MACHINE_BROKEN,
        severity=Severity.CRITICAL,
        title=f"machine {chat_line(name)} is broken",
        body=f"{chat_line(why, LONGEST)}{held}",
        at=at,
        groups=groups,
    )


def machine_held(name: str, hold: Hold, groups: frozenset[str], at: float) -> Notification:
    """Return what people are told when a machine is kept out of scheduling."""
    end = f"for {format_duration(hold.until - at)}" if hold.until is not None and hold.until > at else "until released"
    return Notification(
        id=f"held:{_key(name)}:{at:.6f}",
        kind=NotificationKind.MACHINE_HELD,
        severity=Severity.WARNING,
        title=f"machine {chat_line(name)} is held{_by(hold)}",
        body=f"{chat_line(hold.reason, LONGEST) or 'no reason given'}; {end}",
        at=at,
        groups=groups,
    )


def _by(hold: Hold) -> str:
    return f" by {chat_line(hold.owner)}" if hold.owner else ""


def machine_unknown(name: str, at: float) -> Notification:
    """Return what people are told when a machine waits for approval."""
    return Notification(
        id=f"unknown:{_key(name)}:{at:.6f}",
        kind=NotificationKind.MACHINE_UNKNOWN,
        severity=Severity.WARNING,
        title=f"machine {chat_line(name)} asks to boot, and waits for approval",
        body="nobody has named it; approve it, or remove it",
        at=at,
    )


def issue_unfiled(pending: PendingIssue, group: str, why: str, at: float) -> Notification:
    """Return what people are told when an issue is not filed, and will not be by itself."""
    return Notification(
        id=f"unfiled:{pending.issue.marker}",
        kind=NotificationKind.ISSUES_UNFILED,
        severity=Severity.WARNING,
        title=f"issue not filed in {chat_line(pending.repo)}: {chat_line(pending.issue.title)}",
        body=f"{chat_line(why, LONGEST)}\nrun {pending.run}",
        at=at,
        groups=frozenset({group} if group else ()),
        session=pending.session,
    )


def queue_slow(group: str, waiting: int, longest: Run, waited: float, at: float) -> Notification:
    """Return what people are told when runs of a group wait too long for a machine."""
    count = f"{waiting} run{'s' * (waiting != 1)}"
    return Notification(
        id=f"slow:{_key(group)}:{at:.6f}",
        kind=NotificationKind.QUEUE_SLOW,
        severity=Severity.WARNING,
        title=f"group {chat_line(group)}: {count} waited too long for a machine",
        body=f"the longest for {format_duration(waited)}: {chat_line(longest.workload.name)}",
        at=at,
        groups=frozenset({group}),
    )


def cycle_changed(each: Round, group: str, at: float) -> Notification:
    """Return what people are told when a round has ended with changes, or without results.

    Args:
        each: The round.
        group: The group of its cycle; empty for the whole lab.
        at: When it ended.
    """
    change = replace(each.change, added=0, gone=0)
    worse = (("fails now", change.failures), ("is a fault of the lab now", change.errors))
    lines = [f"{chat_line(name, LONGEST)} {what}" for what, names in worse for name in names]
    lines += [f"{chat_line(name, LONGEST)} is fixed" for name in change.fixed]
    more = [f"… and {len(lines) - NAMED} more"] * (len(lines) > NAMED)
    why = [chat_line(each.reason, LONGEST)] * bool(each.reason)
    fixed_only = bool(change) and not (change.failures or change.errors)
    return Notification(
        id=f"cycle:{_key(each.cycle)}:{each.number}",
        kind=NotificationKind.CYCLE_CHANGED,
        severity=Severity.INFO if fixed_only else Severity.WARNING,
        title=f"cycle {chat_line(each.cycle)}, round {each.number}: {change if change else each.outcome}",
        body="\n".join([*why, *lines[:NAMED], *more]),
        at=at,
        groups=frozenset({group} if group else ()),
        outcome=each.outcome,
    )


def _key(name: str) -> str:
    return name[:64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a target gets: one delivery, or a digest of several."""

    title: str
    body: str
    severity: Severity


def message_of(deliveries: Sequence[Delivery]) -> Message:
    """Return the message with these deliveries, of which there is at least one; several become a digest."""
    if len(deliveries) == 1:
        return Message(title=deliveries[0].title, body=deliveries[0].body, severity=deliveries[0].severity)
    severity = max((delivery.severity for delivery in deliveries), key=lambda each: each.rank)
    first = sorted(deliveries, key=lambda delivery: (-delivery.severity.rank, delivery.at))
    more = [f"… and {len(deliveries) - NAMED} more"] * (len(deliveries) > NAMED)
    lines = [*(delivery.title for delivery in first[:NAMED]), *more]
    return Message(title=f"{len(deliveries)} notifications held back", body="\n".join(lines), severity=severity)
