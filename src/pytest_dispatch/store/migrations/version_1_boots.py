"""Converts runs of the first releases with version 1: boots only, with at most one machine per attempt."""

from __future__ import annotations

import ipaddress

from pytest_dispatch.store.migrations.version_1_shapes import Attempt, Moment, Placement, Run

_PHASES = {
    "unassigned": "queued",
    "assigned": "starting",
    "downloading": "starting",
    "downloaded": "starting",
    "booting": "running",
    "reported": "settling",
    "finished": "over",
    "failed": "over",
}
_SLOWEST = 2**16  # bytes a second that a download must reach
_REPORTING = 3600.0  # seconds in which further reports may come, at least
_UNSAID = "report"  # the default of `expect`


def as_last_makes(run: Run) -> Run:
    """Convert a run of the first releases to the form of the last ones; other runs are unchanged.

    Raises:
        ValueError: It is in an unknown state.
    """
    workload = run.workload
    if workload.payload is None:
        payload = {"media": workload.kind, "location": workload.location, "size": workload.size}
        workload.payload = {**payload, "scenario": workload.scenario} if workload.scenario else payload
        own = {"assign": workload.assign_timeout, "boot": workload.boot_timeout, "report": workload.report_timeout}
        workload.limits = {name: seconds for name, seconds in own.items() if seconds is not None}
        workload.kind = "boot"
        reporting = max(run.limits.get("report", _REPORTING), _REPORTING)
        run.limits = {**run.limits, "download": workload.size / _SLOWEST, "reporting": reporting}
        for attempt in run.attempts:
            _place(attempt)
    return run


def _place(attempt: Attempt) -> None:
    states = [moment.state for moment in attempt.history]
    for moment in attempt.history:
        moment.phase = _phase(moment)
    if attempt.machine and len(attempt.history) > 1:
        taken = attempt.history[1].at
        attempt.placements = [Placement(attempt.machine, _known_by(attempt.machine), taken)]
    reported = int("reported" in states)  # the minimum
    attempt.counts = {"sent": attempt.downloads, "break": attempt.breaks, "report": reported}


def _phase(moment: Moment) -> str:
    if moment.state not in _PHASES:
        raise ValueError(f"expected a state of a boot, found {moment.state!r}")
    return _PHASES[moment.state]


def _known_by(machine: str) -> str:
    """Return how a machine was recognised: machines on the network were named by their address."""
    try:
        ipaddress.ip_address(machine)
    except ValueError:
        return "token"
    return "address"
