"""`--dispatch-rack`: the machines of a rack are items, deployed by Testflinger and judged by their phases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from plugin_bench import APART, HERE, IN_THREAD, WITHOUT, Bench

from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeClient, FakeTestflinger, JobPlan

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

SECRET = "a-secret-of-testflinger"
PANIC = ("booting", "Kernel panic - not syncing")
SOON = "--dispatch-first-look=0"


@dataclass
class Farm:
    """A rack with its MAAS and its Testflinger."""

    bench: Bench
    maas: FakeMaas
    testflinger: FakeTestflinger

    def machine(self, name: str, *plans: JobPlan, location: str = "TOR3-rack-7", **said: str) -> None:
        self.maas.add_machine(name, tags=["rack-7"], **said)
        self.testflinger.add_agent(name, location=location, plans=plans)

    def run(self, *args: str, lab: str = IN_THREAD, rack: str = "rack-7") -> pytest.RunResult:
        return self.bench.pytester.runpytest(f"--dispatch-rack={rack}", *HERE, *WITHOUT, SOON, lab, *args)


@pytest.fixture
def farm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    with FakeMaas() as maas, FakeTestflinger(speed=2000) as testflinger:
        testflinger.access.sign_in = True
        testflinger.add_client(FakeClient(id="me", secret=SECRET))
        variables = {
            "MAAS_URL": maas.url,
            "MAAS_API_KEY": maas.key,
            "TESTFLINGER_SERVER": testflinger.url,
            "TESTFLINGER_CLIENT_ID": "me",
            "TESTFLINGER_SECRET_KEY": SECRET,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield Farm(bench, maas, testflinger)


def test_the_machines_of_a_rack_are_deployed_and_judged_by_their_phases(farm: Farm) -> None:
    farm.machine("node-1")
    farm.machine("node-2", JobPlan(statuses={"provision": 1}, serial={"provision": PANIC}))
    farm.machine("node-3", JobPlan(statuses={"provision": 46}))
    farm.machine("node-4")
    farm.maas.add_machine("node-5", tags=["rack-7"])
    farm.testflinger.add_agent("elsewhere")
    result = farm.run("-v", lab=APART)
    result.stdout.fnmatch_lines(
        [
            "dispatch: rack-7; 4 deployment*",
            "dispatch: left out: node-5: MAAS has it, and Testflinger has no agent of that name",
            "rack-7::node-1*PASSED*",
            "*provision failed with exit status 1: Kernel panic - not syncing*",
        ]
    )
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"] > 0) == (2, True), outcomes
    assert "recovery failed in provision (exit status 46)" in result.stdout.str()
    assert len(farm.testflinger.jobs) == 4
    assert SECRET not in result.stdout.str() + result.stderr.str()
    assert farm.maas.key not in result.stdout.str() + result.stderr.str()


def test_a_slash_at_the_end_of_an_address_does_no_harm(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.machine("node-1")
    monkeypatch.setenv("MAAS_URL", f"{farm.maas.url}/")
    monkeypatch.setenv("TESTFLINGER_SERVER", f"{farm.testflinger.url}/")
    farm.run().assert_outcomes(passed=1)


def test_what_is_not_idle_is_skipped_and_labels_select(farm: Farm) -> None:
    farm.machine("node-1", zone="fra")
    farm.machine("node-2", zone="ams")
    farm.machine("node-3", zone="fra")
    busy = farm.testflinger.add_agent("node-3", location="TOR3-rack-7")
    busy.state, busy.comment = "maintenance", "a new disk"
    result = farm.run("-rs", "-k", "zone:fra")
    result.assert_outcomes(passed=1, skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*its agent is maintenance: a new disk*"])


def test_each_machine_gets_a_job_in_the_queue_of_its_name(farm: Farm) -> None:
    farm.machine("node-1")
    farm.machine("node-2")
    farm.run().assert_outcomes(passed=2)
    for job in farm.testflinger.jobs:
        assert job.queue == job.agent
        asked = {"provision_data": {"distro": "noble"}, "reserve_data": {"timeout": 120}}
        assert {key: job.data[key] for key in asked} == asked
    assert {job.queue for job in farm.testflinger.jobs} == {"node-1", "node-2"}


def test_a_rack_leaves_the_machines_of_others_alone(farm: Farm) -> None:
    farm.machine("node-1")
    farm.maas.add_machine("node-2", tags=["rack-8"])
    farm.testflinger.add_agent("node-2", location="TOR3-rack-8").state = "offline"
    farm.run().assert_outcomes(passed=1)
    assert [job.queue for job in farm.testflinger.jobs] == ["node-1"]


def test_that_the_first_look_is_later_is_told_at_the_terminal(farm: Farm) -> None:
    farm.machine("node-1")
    args = ("--dispatch-rack=rack-7", "--dispatch-first-look=6s", *HERE, *WITHOUT, APART)
    result = farm.bench.pytester.runpytest_subprocess(*args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["⏳ node-1: *; Testflinger has its job, and is first asked how it goes at *UTC."])


def test_agents_of_one_place_and_a_job_of_ones_own(farm: Farm) -> None:
    farm.machine("node-1")
    farm.machine("node-2", location="FRA1")
    farm.testflinger.add_agent("node-9", location="TOR3-rack-7")
    job = farm.bench.path / "job.yaml"
    job.write_text("provision_data: {distro: jammy}\ntags: ['{machine}']\n")
    result = farm.run("--dispatch-rack-location=TOR3*", "--dispatch-rack-job=job.yaml")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "dispatch: left out: node-2: its agent is at 'FRA1', expected 'TOR3[*]'",
            "dispatch: left out: node-9: Testflinger has an agent of that name there, and MAAS has no such machine*",
        ]
    )
    [submitted] = farm.testflinger.jobs
    assert submitted.data["provision_data"] == {"distro": "jammy"}
    assert submitted.tags[0] == "node-1"


def test_a_job_with_a_mistake_is_told_by_line_before_anything_is_submitted(farm: Farm) -> None:
    farm.machine("node-1")
    (farm.bench.path / "job.yaml").write_text("provision_data: {distro: noble}\ntags: [{machine}]\n")
    said = refused(farm, "--dispatch-rack-job=job.yaml")
    assert said.endswith("job.yaml:2:8: tags.0: expected '{machine}' in quotes: without, YAML takes it for a mapping")
    assert not farm.testflinger.jobs


def refused(farm: Farm, *args: str, rack: str = "rack-7") -> str:
    result = farm.run(*args, rack=rack)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return result.stderr.str().strip().removeprefix("ERROR: ")


def test_an_error_of_maas_or_testflinger_is_no_empty_rack(farm: Farm) -> None:
    farm.machine("node-1")
    farm.maas.fail_next("GET *", status=503)
    assert refused(farm) == (
        "the rack rack-7 cannot be listed: MAAS at 127.0.0.1 answered GET /machines/ with 503 Service Unavailable:"
        " Server Error"
    )
    farm.testflinger.fail_next("GET /v1/agents/data", status=502, html=True)
    assert refused(farm) == (
        "the rack rack-7 cannot be listed: Testflinger at 127.0.0.1 answered GET /agents/data with 502 Bad Gateway"
    )
    assert "No such tag(s): 'rack-9'" in refused(farm, rack="rack-9")


def test_a_rack_that_both_know_nothing_of_says_how_many_each_has(farm: Farm) -> None:
    farm.maas.add_machine("node-1", tags=["rack-7"])
    farm.testflinger.add_agent("node-2")
    assert refused(farm) == (
        "rack-7: expected machines that MAAS and Testflinger both know, got none: MAAS has 1 under that tag, and"
        " Testflinger has 1 agent, none of the same name; is the tag the right one?"
    )


def test_a_location_that_no_agent_has_is_told_with_those_that_they_have(farm: Farm) -> None:
    farm.machine("node-1", location="TOR3")
    assert refused(farm, "--dispatch-rack-location=tor3") == (
        "rack-7: expected machines that MAAS and Testflinger both know at 'tor3', got none: MAAS has 1 under that tag,"
        " and Testflinger has agents of the same name at TOR3 alone; is the location the right one?"
    )


@pytest.mark.parametrize(
    ("call", "status", "advice"),
    [
        ("maas", 401, "; is MAAS_API_KEY the key that MAAS shows?"),
        ("maas", 404, "; does the address of MAAS end in /MAAS?"),
        ("testflinger", 401, "; is the client's secret right?"),
        ("testflinger", 404, "; is it Testflinger's address, without /v1?"),
    ],
)
def test_what_may_be_wrong_is_asked_with_the_answer(farm: Farm, call: str, status: int, advice: str) -> None:
    farm.machine("node-1")
    fake, asked = (farm.maas, "GET *") if call == "maas" else (farm.testflinger, "GET /v1/agents/data")
    fake.fail_next(asked, status=status, times=2)
    assert refused(farm).endswith(advice)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "MAAS_URL",
            "",
            "--dispatch-maas-url: expected an address for --dispatch-rack, got none; give it, or set MAAS_URL",
        ),
        ("MAAS_URL", "http://maas.example", "MAAS_URL: expected an https:// address (http:// for this computer alone)"),
        ("MAAS_API_KEY", "", "MAAS_API_KEY: expected MAAS's API key in the environment, got none"),
        ("MAAS_API_KEY", "x", "MAAS_API_KEY: expected an API key as consumer:token:secret, got something else"),
        ("TESTFLINGER_SECRET_KEY", "", "TESTFLINGER_CLIENT_ID and TESTFLINGER_SECRET_KEY: expected both"),
    ],
)
def test_what_is_missing_in_the_environment_is_named(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refused(farm).startswith(expected)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--dispatch-busy=perhaps", "--dispatch-busy: expected skip or wait, got 'perhaps'"),
        (
            "--dispatch-dir=w",
            "--dispatch-dir and --dispatch-rack: expected one source of workloads, got 'w' and 'rack-7'",
        ),
        ("--dispatch-streak-limit=x", "--dispatch-streak-limit: expected a number from 0 to 1000, got 'x'"),
        ("--dispatch-rack-job=none.yaml", "--dispatch-rack-job: expected a Testflinger job in YAML, got "),
    ],
)
def test_options_of_a_rack_that_cannot_be_used_are_refused(farm: Farm, option: str, expected: str) -> None:
    assert refused(farm, option).startswith(expected)


def test_options_of_a_rack_are_for_a_rack(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.run("--dispatch-busy=wait")
    result.stderr.fnmatch_lines(["*--dispatch-busy: expected it with --dispatch-rack, got it with another source*"])
