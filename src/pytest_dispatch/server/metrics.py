"""Metrics of a lab for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

What happens (outcomes, durations, requests) is counted as it happens; how things stand (runs, machines, sessions) is
read when somebody asks. Every lab has a registry of its own. Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from pytest_dispatch import __version__
from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.machine import MachineState
from pytest_dispatch.core.model import Phase

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from pytest_dispatch.core.ended_runs import EndedRun
    from pytest_dispatch.core.model import Attempt
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.lab import Lab

_Values = Mapping[tuple[str, ...], float]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Upper bounds of durations in seconds: from a simulated boot to a day in the queue.
SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)

#: Upper bounds of answers in seconds.
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

#: The phases of runs that are not over.
ALIVE = tuple(phase for phase in Phase if phase is not Phase.OVER)

#: Names of routes that take any path.
_NAMES = {"/{path}": "boot", "/api/v1/{rest}": "unknown"}


class RunMetrics:
    """Counts what happens to runs; a subscriber to their changes.

    Args:
        registry: Where its metrics are registered.

    Attributes:
        is_check: Returns whether a session is of checks of machines.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        of_run = ("group", "kind")
        self._ended = Counter(
            "dispatch_runs_ended", "Runs that got their outcome.", (*of_run, "outcome"), registry=registry
        )
        self._overridden = Counter(
            "dispatch_runs_overridden",
            "Outcomes that people gave to ended runs, in place of the one that counted before.",
            (*of_run, "before", "outcome"),
            registry=registry,
        )
        self._attempts = Counter(
            "dispatch_attempts", "Attempts of runs that got their outcome.", (*of_run, "outcome"), registry=registry
        )
        self._states = Histogram(
            "dispatch_state_seconds",
            "Time in a state, of attempts of runs that got their outcome.",
            ("kind", "state"),
            buckets=SECONDS,
            registry=registry,
        )
        self._waits = Histogram(
            "dispatch_queue_wait_seconds",
            "Time from a run's submission until its first attempt left the queue.",
            of_run,
            buckets=SECONDS,
            registry=registry,
        )
        self._checks = Counter(
            "dispatch_health_checks", "Checks of machines that ended.", ("group", "outcome"), registry=registry
        )
        self._left: set[str] = set()  # live runs that have left the queue
        self.is_check: Callable[[str], bool] = lambda _session: False

    def overridden(self, before: EndedRun, now: EndedRun) -> None:
        """Count an outcome that a person gave, or took back."""
        if before.outcome is not now.outcome:
            self._overridden.labels(now.group, now.kind, str(before.outcome), str(now.outcome)).inc()

    def changed(self, change: Change) -> None:
        """Count what a change adds."""
        run = change.run
        if run.id not in self._left and (waited := _waited(run.attempts[0])) is not None:
            self._left.add(run.id)
            if not change.ends or run.attempts[0].machine:
                self._waits.labels(run.group, run.workload.kind).observe(waited)
        if not change.ends:
            return
        self._left.discard(run.id)
        kind = run.workload.kind
        self._ended.labels(run.group, kind, str(run.outcome)).inc()
        if self.is_check(run.session):
            self._checks.labels(run.group, str(run.outcome)).inc()
        for attempt in run.attempts:
            self._attempts.labels(run.group, kind, str(attempt.outcome)).inc()
            for before, after in pairwise(attempt.history):
                self._states.labels(kind, before.state).observe(max(0.0, after.at - before.at))


def _waited(attempt: Attempt) -> float | None:
    """Return the seconds for which an attempt was queued; None if it still is."""
    began = next((moment.at for moment in attempt.history if moment.phase is not Phase.QUEUED), None)
    return None if began is None else max(0.0, began - attempt.history[0].at)


class HttpMetrics:
    """Counts requests by the template of their route, so that callers cannot make up labels.

    Args:
        registry: Where its metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Histogram(
            "dispatch_http_request_seconds",
            "Time from a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=FAST,
            registry=registry,
        )
        self._open = Gauge(
            "dispatch_http_requests_in_progress",
            "Requests that are being answered; an event stream is one as long as it is open.",
            ("method", "route"),
            registry=registry,
        )

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request, whatever becomes of it."""
        labels = (request.method if request.method in hdrs.METH_ALL else "other", _route(request))
        status, began = 500, time.perf_counter()
        with self._open.labels(*labels).track_inprogress():
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                status = error.status
                raise
            else:
                status = answer.status
                return answer
            finally:
                self._answers.labels(*labels, str(status)).observe(time.perf_counter() - began)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return _NAMES.get(resource.canonical, resource.canonical) if resource is not None else "unknown"


class LabCollector(Collector):
    """Reads how a lab stands, whenever somebody asks.

    Args:
        lab: The lab.
        budget: Returns how many requests each GitHub still answers, by host.
    """

    def __init__(self, lab: Lab, budget: Callable[[], Mapping[str, int]]) -> None:
        self._lab = lab
        self._budget = budget

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering it does not read the lab."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all gauges."""
        lab, queue = self._lab, self._lab.queue
        yield InfoMetricFamily("dispatch_build", "The lab's version.", value={"version": __version__})
        yield _table("dispatch_runs", "Runs without an outcome.", ("group", "kind", "phase"), self._runs())
        yield _table("dispatch_machines", "Machines.", ("state",), self._machines())
        faults: _Values = {(name,): float(len(each.faults)) for name, each in queue.health.items()}
        yield _table("dispatch_machine_faults", "Faults of the lab in a row.", ("machine",), faults)
        failed: _Values = {(name,): float(each.tries) for name, each in queue.health.items() if each.holding}
        text = "Checks in a row that a machine held by the lab has failed."
        yield _table("dispatch_machine_failed_checks", text, ("machine",), failed)
        suspects = float(len(queue.health.suspects))
        yield _gauge("dispatch_suspect_workloads", "Workloads whose faults count against no machine.", suspects)
        yield _table("dispatch_sessions", "Open sessions.", ("lease",), self._sessions())
        limits: _Values = {(name,): float(each.max_running) for name, each in queue.groups.items() if each.max_running}
        yield _table("dispatch_group_max_running", "Limit of runs under way at once.", ("group",), limits)
        paused: _Values = {(name,): float(name in queue.groups.pauses) for name in queue.groups}
        yield _table("dispatch_group_paused", "Whether a group is paused.", ("group",), paused)
        held = float(queue.groups.lab_hold is not None)
        yield _gauge("dispatch_held", "Whether the whole lab is held, so that no run begins.", held)
        outbox = lab.issues.status()
        issues: _Values = {("pending",): float(outbox.pending), ("unfiled",): float(len(outbox.unfiled))}
        yield _table("dispatch_issues", "Issues to be filed, and groups of issues that cannot be.", ("state",), issues)
        left: _Values = {(host,): float(each) for host, each in self._budget().items()}
        yield _table(
            "dispatch_github_requests_remaining",
            "Requests that GitHub still answers until it counts anew.",
            ("host",),
            left,
        )
        removed = CounterMetricFamily(
            "dispatch_history_removed", "What was removed from the journal for its age.", labels=("what",)
        )
        for what, count in lab.history.removed.items():
            removed.add_metric((what,), count)
        yield removed
        behind = lab.lab_state.batches.behind()
        yield _gauge("dispatch_journal_lag_seconds", "Age of the oldest change that is not on disk.", behind)
        yield _gauge("dispatch_broken", "Whether the lab is broken, and serves nothing.", float(lab.broken is not None))

    def _runs(self) -> _Values:
        queue = self._lab.queue
        found: dict[tuple[str, ...], float] = {
            (group, kind, str(phase)): 0.0 for group in queue.groups for kind in self._lab.kinds for phase in ALIVE
        }
        for run in queue.runs.values():
            if run.outcome is None:
                key = (run.group, run.workload.kind, str(run.attempt.phase))
                found[key] = found.get(key, 0.0) + 1
        return found

    def _machines(self) -> _Values:
        queue, now = self._lab.queue, self._lab.lab_state.clock.now()
        found = Tally(str(queue.machine(name, now).state) for name in queue.machines)
        found[str(MachineState.UNAPPROVED)] = len(queue.unknown)
        return {(str(state),): float(found[state]) for state in MachineState}

    def _sessions(self) -> _Values:
        found = Tally(str(kind) for kind in self._lab.queue.table.open_leases())
        return {(str(kind),): float(found[kind]) for kind in LeaseKind}


def _table(name: str, text: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


class Metrics:
    """All metrics of one lab, in a registry of their own.

    Attributes:
        runs: Is told of all changes of runs.
        http: Is told of all requests.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.runs = RunMetrics(self._registry)
        self.http = HttpMetrics(self._registry)
        ProcessCollector("dispatch", registry=self._registry)

    def watch(self, lab: Lab, budget: Callable[[], Mapping[str, int]] = dict) -> None:
        """Count what happens in this lab, and read how it stands.

        Args:
            lab: The lab.
            budget: Returns how many requests each GitHub still answers, by host.
        """
        self.runs.is_check = lab.health_service.is_session
        lab.watchers.add(self.runs)
        lab.watchers.add_of_history(self.runs.overridden)
        self._registry.register(LabCollector(lab, budget))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
