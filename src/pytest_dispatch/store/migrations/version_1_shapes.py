"""The JSON records of version 1, of its last releases and of the first, which supported boot workloads only."""

from __future__ import annotations

from typing import Any

import msgspec


class Moment(msgspec.Struct):
    """An attempt entered a state; the first releases did not record the phase."""

    state: str
    at: float
    phase: str = ""


class Placement(msgspec.Struct):
    """Where an attempt runs."""

    machine: str
    known_by: str
    at: float


class Refusal(msgspec.Struct):
    """A report that the lab refused."""

    why: str
    begins: str = ""
    whole: bool = True
    at: float = 0.0


class Attempt(msgspec.Struct):
    """One try of a run. `machine`, `downloads` and `breaks` are from the first releases."""

    number: int
    history: list[Moment]
    placements: list[Placement] = []
    heard: float = 0.0
    counts: dict[str, int] = {}
    outcome: str | None = None
    reason: str = ""
    proposed: str | None = None
    refused: list[Refusal] = []
    outside: str = ""
    machine: str = ""
    downloads: int = 0
    breaks: int = 0


class Workload(msgspec.Struct):
    """What is to be run. The fields from `size` on are from the first releases, which had no payload."""

    name: str
    kind: str
    payload: dict[str, Any] | None = None
    digest: str = ""
    labels: list[str] = []
    requires: list[dict[str, Any]] = []
    expect: str | None = None
    limits: dict[str, float] = {}
    priority: int = 2
    chain: str = ""
    after: list[str] = []
    size: int = 0
    location: str = ""
    scenario: str = ""
    assign_timeout: float | None = None
    boot_timeout: float | None = None
    report_timeout: float | None = None


class Run(msgspec.Struct):
    """One workload requested by one session."""

    id: str
    session: str
    key: str
    position: int
    workload: Workload
    limits: dict[str, float]
    expect: str
    attempts: list[Attempt]
    outcome: str | None = None
    reason: str = ""
    cancelled: bool = False
    unreviewed: bool = False


class Case(msgspec.Struct):
    """One test inside a workload."""

    name: str
    outcome: str
    duration: float = 0.0
    message: str = ""


class Report(msgspec.Struct):
    """One report of a workload."""

    title: str
    body: str = ""
    labels: list[str] = []
    assignees: list[str] = []
    milestone: str = ""
    result: str | None = None
    cases: list[Case] = []
    junit: str = ""
    tap: str = ""
    at: float = 0.0
    late: bool = False
    size: int = 0


class Policy(msgspec.Struct):
    """How a session wants its workloads run."""

    limits: dict[str, float] = {}
    expect: str = ""
    retries: int = 1
    retry_failures: int = 0
    idle: str = "wait"
    judged: bool = False
    fail_labels: tuple[str, ...] = ("fail", "failed", "failure", "error")
    skip_labels: tuple[str, ...] = ("skip", "skipped")


class Session(msgspec.Struct):
    """A session without its runs."""

    id: str
    source: str
    opened: float
    policy: Policy
    port: int = 0
    owner: str = ""
    epoch: int = 1


class Issue(msgspec.Struct):
    """A GitHub issue."""

    title: str
    body: str
    marker: str
    labels: list[str] = []
    assignees: list[str] = []
    milestone: str = ""
    comments: list[str] = []


class Letter(msgspec.Struct):
    """An issue on its way to GitHub."""

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
