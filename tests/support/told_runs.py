"""Runs as they might have been, for what tells of them."""

from __future__ import annotations

from typing import Any

from boots import boots, moment, on

from pytest_dispatch.core.model import Attempt, Case, Moment, Outcome, Report, Run
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC
DIGEST = "sha256:" + "ab12" * 16


def moments(*steps: tuple[State, float]) -> tuple[Moment, ...]:
    """States with the seconds after noon at which they were entered."""
    return tuple(moment(state, NOON + seconds) for state, seconds in steps)


WELL = moments(
    (State.UNASSIGNED, 0),
    (State.ASSIGNED, 2),
    (State.DOWNLOADING, 2.5),
    (State.DOWNLOADED, 12.5),
    (State.BOOTING, 40),
    (State.REPORTED, 100),
    (State.FINISHED, 160),
)
NEVER_BOOTED = moments(
    (State.UNASSIGNED, 0),
    (State.ASSIGNED, 2),
    (State.DOWNLOADING, 2.5),
    (State.DOWNLOADED, 12.5),
    (State.DOWNLOADED, 112.5),
    (State.FAILED, 912.5),
)


def report(title: str = "all done", **fields: Any) -> Report:
    return Report(title=title, **fields)


def case(name: str, outcome: Outcome, message: str = "") -> Case:
    return Case(name=name, outcome=outcome, message=message)


def attempt(
    number: int = 1,
    *reports: Report,
    machine: str = "10.0.0.7",
    history: tuple[Moment, ...] = WELL,
    outcome: Outcome | None = Outcome.PASSED,
    reason: str = "",
) -> Attempt:
    return Attempt(
        number=number, placements=on(machine), history=history, reports=reports, outcome=outcome, reason=reason
    )


def run(*attempts: Attempt, name: str = "snp.efi", reason: str | None = None, outcome: Outcome | None = None) -> Run:
    last = attempts[-1]
    return Run(
        id="c0ffee.4",
        session="c0ffee",
        key=f"dir::{name}",
        position=4,
        workload=boots(name),
        limits={},
        expect=Expect.REPORT,
        attempts=attempts,
        outcome=outcome or last.outcome,
        reason=last.reason if reason is None else reason,
    )
