"""Runs as journals of earlier makes have them: all boot workloads, each attempt on one machine at most."""

from __future__ import annotations

import ipaddress
from typing import Any

from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.kinds import BOOT, BootPayload, Expect
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, REPORTING, SLOWEST, Event, State

_LIMITS = {"assign_timeout": "assign", "boot_timeout": "boot", "report_timeout": "report"}
_KEPT = ("name", "digest", "labels", "expect")


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a run as it would be written today.

    Args:
        record: Of a run from before there were kinds, placements and phases.
    """
    workload, size = record["workload"], record["workload"]["size"]
    limits = {name: workload[key] for key, name in _LIMITS.items() if workload.get(key) is not None}
    payload = BootPayload(
        media=workload["kind"], location=workload["location"], size=size, scenario=workload.get("scenario", "")
    )
    own = record["limits"]
    kept = {name: workload[name] for name in _KEPT if name in workload}
    return {
        **record,
        "workload": {**kept, "kind": BOOT, "payload": payload.as_json(), "limits": limits},
        "limits": {**own, "download": size / SLOWEST, "reporting": max(own["report"], REPORTING)},
        "attempts": [_attempt(attempt) for attempt in record["attempts"]],
    }


def _attempt(record: dict[str, Any]) -> dict[str, Any]:
    phase = LIFECYCLES[Expect.REPORT].phase
    history = [{**moment, "phase": phase(moment["state"])} for moment in record["history"]]
    placements = []
    if machine := record.get("machine"):
        placements.append({"machine": machine, "known_by": _known_by(machine), "at": history[1]["at"]})
    reported = any(moment["state"] == State.REPORTED for moment in record["history"])
    counts = {
        Event.SENT: record.get("downloads", 0),
        Event.BREAK: record.get("breaks", 0),
        Event.REPORT: int(reported),  # at least
    }
    return {**record, "history": history, "placements": placements, "counts": counts}


def _known_by(machine: str) -> KnownBy:
    """Return how a machine was recognised: those of a network had no name but their address."""
    try:
        ipaddress.ip_address(machine)
    except ValueError:
        return KnownBy.TOKEN
    return KnownBy.ADDRESS
