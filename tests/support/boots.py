"""Boot workloads and their attempts, as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_dispatch.core.media import BOOT, BootPayload, Expect
from pytest_dispatch.core.model import KnownBy, Moment, Placement, Workload
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES


def boots(name: str, *, media: str = "efi", location: str = "", size: int = 3, **said: Any) -> Workload:
    payload = BootPayload(media=media, location=location or f"/w/{name}", size=size)
    return Workload(name=name, kind=BOOT, payload=payload.as_json(), **said)


def but(workload: Workload, **changes: Any) -> Workload:
    """The workload with another payload."""
    return replace(workload, payload={**workload.payload, **changes})


def wanted(workload: Workload) -> Bytes:
    """What a cache is asked for."""
    payload = BootPayload.of(workload)
    return Bytes(name=workload.name, location=payload.location, size=payload.size, digest=workload.digest)


def moment(state: str, at: float) -> Moment:
    return Moment(state=state, phase=LIFECYCLES[Expect.REPORT].phase(state), at=at)


def on(machine: str, at: float = 0.0) -> tuple[Placement, ...]:
    """Where an attempt runs; nowhere if there is no machine."""
    return (Placement(machine=machine, known_by=KnownBy.ADDRESS, at=at),) if machine else ()
