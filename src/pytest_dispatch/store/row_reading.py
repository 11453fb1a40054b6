"""Values made from the journal's rows; invalid rows are refused.

Everything here raises ValueError (as msgspec's errors are) or TypeError for a row that cannot have been written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pytest_dispatch.core.health import Fault, MachineHealth
from pytest_dispatch.core.known_issues import Act, Failure, IssueLink, Lane, Tracking
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import Hold, Identity, Machine
from pytest_dispatch.core.model import (
    Attempt,
    Case,
    Idle,
    Issue,
    KnownBy,
    Moment,
    Outcome,
    Phase,
    Place,
    Placement,
    Policy,
    Priority,
    Refusal,
    Report,
    Run,
    Workload,
)
from pytest_dispatch.core.requirements import Requirement
from pytest_dispatch.core.run_options import Requeue
from pytest_dispatch.core.run_series import NO_BUCKET, Series, Sketch
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import restored
from pytest_dispatch.store.records import IssueRule, KeptMachine, PendingIssue, SessionRecord
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from pytest_dispatch.core.notifications import Delivery

Found = Mapping[Any, Any]

_Words = tuple[str, ...]
_Limits = dict[str, float]
_Group = dict[tuple[Any, ...], list[Found]]


def session_of(row: Found) -> SessionRecord:
    """Return the session of a row."""
    policy = Policy(
        limits=decode(row["limits"], _Limits),
        expect=row["expect"],
        retries=row["retries"],
        retry_failures=row["retry_failures"],
        idle=Idle(row["idle"]),
        judged=bool(row["judged"]),
        fail_labels=decode(row["fail_labels"], _Words),
        skip_labels=decode(row["skip_labels"], _Words),
    )
    return SessionRecord(
        id=row["id"],
        source=restored(row["source"]),
        opened=row["opened"],
        policy=policy,
        port=row["port"],
        owner=restored(row["owner"]),
        user=row["user_name"],
        epoch=row["epoch"],
        issues=IssueRule(
            repo=row["issues_repo"],
            outcomes=frozenset(map(Outcome, decode(row["issues_outcomes"], _Words))),
            raw=bool(row["issues_raw"]),
            reviewed=bool(row["issues_reviewed"]),
            updates=bool(row["issues_updates"]),
            close_after=row["issues_close_after"],
        ),
        api=row["issues_api"],
        lease=LeaseKind(row["lease"]),
    )


def sketch_of(row: Found) -> Sketch:
    """Return the statistics in one row of a series."""
    count, bucket = row["count"], row["bucket"]
    return Sketch(
        outcomes={Outcome(row["outcome"]): count},
        flaky=count if row["flaky"] else 0,
        buckets={} if bucket == NO_BUCKET else {bucket: count},
    )


def machine_of(row: Found, identities: Sequence[Found], hold: Found | None, health: Found | None) -> KeptMachine:
    """Return a machine with its identities and its hold, if any."""
    machine = Machine(
        id=restored(row["id"]),
        identities=frozenset(map(_identity, identities)),
        labels=decode(row["labels"], dict[str, str]),
        driven=bool(row["driven"]),
    )
    return KeptMachine(
        machine=machine,
        hold=None if hold is None else hold_of(hold),
        approved=bool(row["approved"]),
        health=None if health is None else health_of(health),
        joined=frozenset(_identity(each) for each in identities if each["joined"]),
    )


def _identity(row: Found) -> Identity:
    return Identity(KnownBy(row["known_by"]), restored(row["value"]))


def health_of(row: Found) -> MachineHealth:
    """Return the health of a machine."""
    return MachineHealth(
        faults=decode(row["faults"], tuple[Fault, ...]),
        holding=bool(row["holding"]),
        held_for=restored(row["held_for"]),
        tries=row["tries"],
        due=row["due"],
        run=row["run"],
        checked=row["checked"],
        last=row["last"],
        outcome=_outcome(row["outcome"]),
        reason=restored(row["reason"]),
    )


def suspect_of(name: str) -> Series:
    """Return the suspect workload of a hold's name."""
    return Series(*decode(name, tuple[str, str, str]))


def hold_of(row: Found) -> Hold:
    """Return the hold of a row."""
    said = {"reason": restored(row["reason"]), "owner": restored(row["owner"])}
    return Hold(**said, since=row["since"], until=row["until"])


def pending_issue_of(row: Found) -> PendingIssue:
    """Return the pending issue of a row."""
    issue = Issue(
        title=restored(row["title"]),
        body=restored(row["body"]),
        marker=row["marker"],
        labels=decode(row["labels"], _Words),
        assignees=decode(row["assignees"], _Words),
        milestone=restored(row["milestone"]),
        comments=decode(row["comments"], _Words),
    )
    return PendingIssue(
        session=row["session"],
        run=row["run"],
        repo=row["repo"],
        issue=issue,
        tries=row["tries"],
        failed=restored(row["failed"]),
        given_up=bool(row["given_up"]),
        url=row["url"],
        api=row["api"],
        review=bool(row["review"]),
        tracking=_tracking(row) if row["act"] else None,
    )


def _tracking(row: Found) -> Tracking:
    return Tracking(marker=row["failure"], act=Act(row["act"]), url=row["known_url"], at=row["at"])


def failure_of(row: Found) -> Failure:
    """Return the failure of a row."""
    series = Series(row["kind"], restored(row["origin"]), restored(row["name"]))
    return Failure(
        lane=Lane(series, restored(row["machines"])),
        digest=row["digest"],
        outcome=Outcome(row["outcome"]),
        cases=decode(row["cases"], _Words),
        run=row["run"],
        first=row["first"],
        last=row["last"],
        times=row["times"],
        current=bool(row["current"]),
        passes=row["passes"],
        links=decode(row["links"], tuple[IssueLink, ...]),
        repo=row["repo"],
        api=row["api"],
        url=row["url"],
    )


def link_of(row: Found) -> IssueLink:
    """Return the link of a row."""
    return IssueLink(url=restored(row["url"]), since=row["since"], by=restored(row["by_whom"]), carried=row["carried"])


def notification_of(row: Found) -> Delivery:
    """Return the notification of a row."""
    from pytest_dispatch.core.notifications import Delivery, DeliveryState, NotificationKind, Severity

    return Delivery(
        id=row["id"],
        target=row["target"],
        kind=NotificationKind(row["kind"]),
        severity=Severity(row["severity"]),
        title=restored(row["title"]),
        body=restored(row["body"]),
        at=row["at"],
        since=row["since"],
        due=row["due"],
        held=bool(row["held"]),
        tries=row["tries"],
        failed=restored(row["failed"]),
        state=DeliveryState(row["state"]),
        done=row["done"],
        session=row["session"],
        url=restored(row["url"]),
    )


class RunParts:
    """The parts of runs, grouped so that runs can be assembled.

    Args:
        rows: The rows of the tables `schema.PARTS`; those of reports in the order in which they came.
    """

    def __init__(self, rows: Mapping[sa.Table, Iterable[Found]]) -> None:
        self._attempts = _grouped(rows[schema.attempts], "run")
        self._cases = _grouped(rows[schema.cases], "run", "attempt", "report")
        of_attempt = (schema.moments, schema.placements, schema.reports, schema.refusals)
        self._parts = {table: _grouped(rows[table], "run", "attempt") for table in of_attempt}

    def run(self, row: Found) -> Run:
        """Return an assembled run.

        Raises:
            ValueError: A part of it is missing, or cannot be read.
        """
        attempts = [self._attempt(each) for each in _in_order(self._attempts.get((row["id"],), ()))]
        _check_count(f"attempts of {row['id']}", len(attempts), row["attempts"], least=1)
        return Run(
            id=row["id"],
            session=row["session"],
            key=restored(row["key"]),
            position=row["position"],
            workload=_workload(row),
            limits=decode(row["limits"], _Limits),
            expect=row["expect"],
            attempts=tuple(attempts),
            outcome=_outcome(row["outcome"]),
            reason=restored(row["reason"]),
            cancelled=bool(row["cancelled"]),
            unreviewed=bool(row["unreviewed"]),
            group=row["in_group"],
            place=_place(row),
            only=restored(row["only_machine"]),
            avoids=restored(row["avoids_machine"]),
            again=row["again_of"],
            requeue=_requeue(row),
        )

    def _attempt(self, row: Found) -> Attempt:
        of = (row["run"], row["number"])
        moments, placements, refusals = (
            _in_order(self._parts[table].get(of, ())) for table in (schema.moments, schema.placements, schema.refusals)
        )
        _check_count(f"states of attempt {of[1]} of {of[0]}", len(moments), row["moments"], least=1)
        _check_count(f"machines of attempt {of[1]} of {of[0]}", len(placements), row["placements"])
        return Attempt(
            number=row["number"],
            placements=tuple(map(_placement, placements)),
            history=tuple(map(_moment, moments)),
            heard=row["heard"],
            counts=decode(row["counts"], dict[str, int]),
            reports=tuple(map(self.report, self._parts[schema.reports].get(of, ()))),
            outcome=_outcome(row["outcome"]),
            reason=restored(row["reason"]),
            proposed=_outcome(row["proposed"]),
            refused=tuple(map(_refusal, refusals)),
            outside=restored(row["outside"]),
            excused=bool(row["excused"]),
        )

    def report(self, row: Found) -> Report:
        """Return a report with its cases.

        Raises:
            ValueError: Some of them are missing, or cannot be read.
        """
        of = (row["run"], row["attempt"], row["digest"])
        cases = tuple(map(_case, _in_order(self._cases.get(of, ()))))
        _check_count(f"cases of a report of {row['run']}", len(cases), row["cases"])
        return Report(
            title=restored(row["title"]),
            body=restored(row["body"]),
            labels=decode(row["labels"], _Words),
            assignees=decode(row["assignees"], _Words),
            milestone=restored(row["milestone"]),
            result=_outcome(row["result"]),
            cases=cases,
            junit=restored(row["junit"]),
            tap=restored(row["tap"]),
            at=row["at"],
            late=bool(row["late"]),
            size=row["size"],
        )


def _grouped(rows: Iterable[Found], *keys: str) -> _Group:
    groups: _Group = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _in_order(rows: Sequence[Found]) -> list[Found]:
    """Return numbered rows in their order.

    Raises:
        ValueError: A number is missing.
    """
    ordered = sorted(rows, key=lambda row: row["number"])
    numbers = [row["number"] for row in ordered]
    if numbers != [*range(1, len(numbers) + 1)]:
        raise ValueError(f"expected numbers from 1 on, found {numbers}")
    return ordered


def _check_count(what: str, found: int, expected: int, least: int = 0) -> None:
    if found != expected or found < least:
        raise ValueError(f"{what}: expected {max(expected, least)}, found {found}")


def _workload(row: Found) -> Workload:
    return Workload(
        name=restored(row["name"]),
        kind=row["kind"],
        payload=decode(row["payload"], dict[str, Any]),
        digest=row["digest"],
        labels=decode(row["labels"], _Words),
        requires=decode(row["requires"], tuple[Requirement, ...]),
        expect=row["asked_expect"],
        limits=decode(row["asked_limits"], _Limits),
        priority=Priority(row["priority"]),
        chain=restored(row["chain"]),
        after=decode(row["after"], _Words),
        group=row["asked_group"],
    )


def _place(row: Found) -> Place | None:
    priority, number, line = row["moved_priority"], row["moved_number"], row["moved_line"]
    return None if priority is None else Place(priority=Priority(priority), number=number, line=line)


def _requeue(row: Found) -> Requeue | None:
    most = row["requeue_most"]
    return None if most is None else Requeue(most=most, done=row["requeue_done"], faults=row["requeue_faults"])


def _moment(row: Found) -> Moment:
    return Moment(state=row["state"], phase=Phase(row["phase"]), at=row["at"])


def _placement(row: Found) -> Placement:
    return Placement(machine=restored(row["machine"]), known_by=KnownBy(row["known_by"]), at=row["at"])


def _refusal(row: Found) -> Refusal:
    whole = bool(row["whole"])
    return Refusal(why=restored(row["why"]), begins=restored(row["begins"]), whole=whole, at=row["at"])


def _case(row: Found) -> Case:
    told = {"name": restored(row["name"]), "message": restored(row["message"])}
    return Case(**told, outcome=Outcome(row["outcome"]), duration=row["duration"])


def _outcome(word: str | None) -> Outcome | None:
    return None if word is None else Outcome(word)
