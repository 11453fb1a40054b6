"""Metrics of a lab, after days of which each number is known."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from labs import LabBench, running_lab
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.health import HealthRules
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.lab.admission import Approval
from pytest_dispatch.server.metrics import LabCollector, Metrics

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"
SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_info")
#: Read by who looks for them.
LEFT_OUT = {
    *("dispatch_attempts", "dispatch_group_max_running", "dispatch_held"),
    *("dispatch_history_removed", "dispatch_runs_overridden"),
}
ENDS = {"info": "_info", "counter": "_total"}
DETACHED = Lease(kind=LeaseKind.DETACHED, owner="ada")
LIMITS = {"assign": 600.0, "boot": 600.0, "report": 600.0}
ARM = Group(id="arm", labels={"arch": "arm64"}, max_running=3)


class Scrape:
    """What Prometheus reads."""

    def __init__(self, metrics: Metrics) -> None:
        families = list(text_string_to_metric_families(metrics.text().decode()))
        self.names = {family.name for family in families}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self._samples[name, frozenset(labels.items())]

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric that are not zero, by the values of its labels in the order of their names."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (known, labels), number in self._samples.items()
            if known == name and number
        }


def outcome(bench: LabBench, run: Run) -> Outcome | None:
    return bench.now(run).outcome


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with running_lab(tmp_path, private=False) as bench:
        await bench.lab.group_service.configure([ARM], [])
        yield bench


@pytest.fixture
def metrics(bench: LabBench) -> Metrics:
    metrics = Metrics()
    metrics.watch(bench.lab, lambda: {"api.github.com": 4321})
    return metrics


async def test_a_lab_in_which_nothing_happened(metrics: Metrics) -> None:
    """Every series is there from the start, so that an alert on it can be written and tried."""
    scrape = Scrape(metrics)
    assert scrape.value("dispatch_runs", group="arm", kind="boot", phase="queued") == 0
    assert scrape.value("dispatch_machines", state="broken") == 0
    assert scrape.value("dispatch_sessions", lease="attached") == 0
    assert scrape.value("dispatch_group_max_running", group="arm") == 3
    assert scrape.value("dispatch_github_requests_remaining", host="api.github.com") == 4321
    assert scrape.value("dispatch_journal_lag_seconds") == 0
    assert scrape.value("dispatch_broken") == 0
    assert scrape.value("dispatch_process_resident_memory_bytes") > 2**20


async def test_how_things_stand(bench: LabBench, metrics: Metrics) -> None:
    wanted = [bench.workload(f"{n}.efi", group=group) for n, group in enumerate(("lab", "lab", "arm"))]
    runs = await bench.submit(*wanted, lease=DETACHED)
    await bench.download(runs[0])
    await bench.call("POST")
    await bench.call("HEAD", source="127.0.0.3")
    await bench.api("POST", "/groups/arm/hold", {"reason": "its rack is moved"})
    await bench.call("HEAD", source="127.0.0.4")
    scrape = Scrape(metrics)
    assert scrape.all("dispatch_runs") == {
        ("arm", "boot", "queued"): 1,
        ("lab", "boot", "starting"): 1,
        ("lab", "boot", "running"): 1,
    }
    assert scrape.all("dispatch_machines") == {("running",): 1, ("reserved",): 1, ("idle",): 1}
    assert scrape.all("dispatch_sessions") == {("detached",): 1}
    assert scrape.all("dispatch_group_paused") == {("arm",): 1}
    assert scrape.value("dispatch_held") == 0
    await bench.lab.group_service.hold_lab(Hold(reason="the air conditioning"))
    assert Scrape(metrics).value("dispatch_held") == 1


async def test_what_happened(bench: LabBench, metrics: Metrics) -> None:
    """One that passes, one that fails at once, and one that is tried again and then cancelled."""
    wanted = [bench.workload(f"{n}.efi", group="lab") for n in range(3)]
    runs = await bench.submit(*wanted, lease=DETACHED, policy=Policy(limits=LIMITS, retries=1))
    bench.clock.ahead += 100  # all of them wait
    for run, result in zip(runs, ("passed", "failed"), strict=False):
        await bench.download(run)
        await bench.call("POST")
        bench.clock.ahead += 7
        await bench.report(title="done", result=result)
        bench.clock.ahead += 3600
        await until(partial(outcome, bench, run))
    await bench.download(runs[2])
    bench.clock.ahead += LIMITS["boot"] + 1
    await until(lambda: len(bench.now(runs[2]).attempts) == 2)
    await bench.api("DELETE", f"/runs/{runs[2].id}")
    scrape = Scrape(metrics)
    assert scrape.all("dispatch_runs_ended_total") == {
        ("lab", "boot", "passed"): 1,
        ("lab", "boot", "failed"): 1,
        ("lab", "boot", "error"): 1,
    }
    assert scrape.all("dispatch_attempts_total") == {
        ("lab", "boot", "passed"): 1,
        ("lab", "boot", "failed"): 1,
        ("lab", "boot", "error"): 2,
    }
    assert scrape.value("dispatch_state_seconds_count", kind="boot", state="booting") == 2
    assert 14 <= scrape.value("dispatch_state_seconds_sum", kind="boot", state="booting") < 20
    assert scrape.value("dispatch_queue_wait_seconds_count", group="lab", kind="boot") == 3
    assert scrape.value("dispatch_queue_wait_seconds_bucket", group="lab", kind="boot", le="60.0") == 0
    assert scrape.value("dispatch_queue_wait_seconds_bucket", group="lab", kind="boot", le="120.0") == 1


async def test_the_health_of_machines_is_counted(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False, health=HealthRules(faults=1), welcome=False) as lab:
        metrics, health = Metrics(), lab.lab.queue.health
        metrics.watch(lab.lab)
        await lab.call("HEAD")
        scrape = Scrape(metrics)
        assert scrape.value("dispatch_machines", state="unapproved") == 1
        await lab.lab.admission.approve("127.0.0.2", Approval(id="m-1"))
        (run,) = await lab.submit(lab.workload("a.efi"), policy=Policy(retries=0), lease=DETACHED)
        await lab.call("HEAD")
        lab.lab.queue.scheduler.fault("m-1", "no memory", lab.clock.now(), lab=True)
        lab.lab.lab_state.commit()
        assert health.of("m-1").holding
        scrape = Scrape(metrics)
        assert scrape.value("dispatch_machines", state="unapproved") == 0
        assert scrape.value("dispatch_machine_faults", machine="m-1") == 1
        assert scrape.all("dispatch_machine_failed_checks") == {}
        assert scrape.value("dispatch_suspect_workloads") == 0
        assert lab.now(run).outcome is Outcome.ERROR


async def test_a_run_that_never_began_has_waited_for_nothing(bench: LabBench, metrics: Metrics) -> None:
    (run,) = await bench.submit(bench.workload("a.efi"), lease=DETACHED)
    await bench.api("DELETE", f"/runs/{run.id}")
    scrape = Scrape(metrics)
    assert scrape.all("dispatch_runs_ended_total") == {("arm", "boot", "error"): 1}
    assert scrape.all("dispatch_queue_wait_seconds_count") == {}


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yaml"])
async def test_examples_name_metrics_that_there_are(metrics: Metrics, name: str) -> None:
    text = (EXAMPLES / name).read_text()
    named = set(re.findall(r"\bdispatch_[a-z_]+\b", text))
    known = {f"{family}{suffix}" for family in Scrape(metrics).names for suffix in ("", *SUFFIXES)}
    assert named
    assert named - known == set()


async def test_every_metric_is_on_the_example_dashboard_or_has_an_alert(metrics: Metrics) -> None:
    text = "".join((EXAMPLES / name).read_text() for name in ("grafana.json", "alerts.yaml"))
    shown = {family for family in Scrape(metrics).names if family in text}
    own = {family for family in Scrape(metrics).names if not family.startswith("dispatch_process_")}
    assert own - shown == LEFT_OUT


async def test_the_example_dashboard_has_no_two_panels_in_one_place() -> None:
    panels = json.loads((EXAMPLES / "grafana.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in panels})


async def test_the_table_of_metrics_is_that_of_the_page(metrics: Metrics) -> None:
    page = (EXAMPLES.parent / "docs" / "service.md").read_text()
    rows = re.findall(r"(?m)^\| `(dispatch_\w+)` \| (.*?) \| (.*) \|$", page)
    counted: list[Any] = [each for each in metrics._registry._collector_to_names if hasattr(each, "_labelnames")]
    [stands] = [each for each in metrics._registry._collector_to_names if isinstance(each, LabCollector)]
    expected = [
        (f"{each._name}{'_total' if each._type == 'counter' else ''}", each._labelnames, each._documentation)
        for each in counted
    ]
    families: list[Any] = list(stands.collect())
    for family in families:
        labels = family._labelnames if family.name != "dispatch_build" else ("version",)
        name = f"{family.name}{ENDS.get(family.type, '')}"
        expected.append((name, labels, family.documentation))
    assert rows == [(name, ", ".join(f"`{each}`" for each in labels), text) for name, labels, text in expected]
