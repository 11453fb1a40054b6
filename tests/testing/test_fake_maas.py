"""The fake MAAS: machines by tag, signed requests, and operations that take their time."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from pytest_dispatch.testing.clock import ScriptedClock
from pytest_dispatch.testing.maas import FakeMaas


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
def maas(clock: ScriptedClock) -> Iterator[FakeMaas]:
    with FakeMaas(clock=clock) as maas:
        yield maas


@pytest.fixture
def api(maas: FakeMaas) -> Iterator[httpx.Client]:
    parts = {"consumer_key": "consumer", "token": "token", "signature": "%26s3cr3t", "signature_method": "PLAINTEXT"}
    parts |= {"timestamp": "1", "nonce": "1", "version": "1.0"}
    header = "OAuth " + ", ".join(f'oauth_{name}="{value}"' for name, value in parts.items())
    with httpx.Client(base_url=f"{maas.url}api/2.0", headers={"Authorization": header}) as client:
        yield client


def test_machines_are_found_by_all_their_tags(maas: FakeMaas, api: httpx.Client) -> None:
    maas.add_machine("node-1", tags=["rack-7", "big"], zone="fra")
    maas.add_machine("node-2", tags=["rack-7"])
    found = api.get("/machines/", params={"tags": ["rack-7", "big"]}).json()
    assert [(each["hostname"], each["zone"]["name"], each["status_name"]) for each in found] == [
        ("node-1", "fra", "Ready")
    ]
    assert len(api.get("/machines/", params={"tags": "rack-7"}).json()) == 2
    unknown = api.get("/machines/", params={"tags": "rack-8"})
    assert (unknown.status_code, unknown.json()) == (400, {"tags": ["No such tag(s): 'rack-8'."]})


def test_requests_without_the_key_are_refused(maas: FakeMaas, api: httpx.Client) -> None:
    assert httpx.get(f"{maas.url}api/2.0/machines/").status_code == 401
    assert api.get("/machines/", headers={"Authorization": 'OAuth oauth_token="x"'}).status_code == 400
    wrong = api.headers["Authorization"].replace("s3cr3t", "other")
    assert api.get("/machines/", headers={"Authorization": wrong}).status_code == 401
    assert httpx.get(f"{maas.url}api/2.0/version/").json()["version"]


def test_a_machine_is_allocated_powered_and_released(maas: FakeMaas, api: httpx.Client, clock: ScriptedClock) -> None:
    node = maas.add_machine("node-1")
    path = f"/machines/{node.system_id}/"
    assert api.post(path, params={"op": "power_on"}).text == "Can't start node: it hasn't been allocated."
    assert api.post("/machines/", params={"op": "allocate"}).json()["status_name"] == "Allocated"
    assert api.post("/machines/", params={"op": "allocate"}).status_code == 409
    assert api.post(path, params={"op": "power_on"}).status_code == 200
    assert api.get(path, params={"op": "query_power_state"}).json() == {"state": "off"}
    clock.advance(5)
    assert api.get(path, params={"op": "query_power_state"}).json() == {"state": "on"}
    assert api.post(path, params={"op": "release"}, data={"comment": "done"}).json()["status_name"] == "Releasing"
    clock.advance(30)
    shown = api.get(path).json()
    assert (shown["status_name"], shown["owner"], shown["power_state"]) == ("Ready", None, "off")
    assert node.comment == "done"


def test_a_deployment_takes_its_time_and_may_fail(maas: FakeMaas, api: httpx.Client, clock: ScriptedClock) -> None:
    node = maas.add_machine("node-1", deploy_fails=True)
    path = f"/machines/{node.system_id}/"
    assert api.post(path, params={"op": "deploy"}, data={"distro_series": "noble"}).json()["status_name"] == "Deploying"
    again = api.post(path, params={"op": "deploy"})
    assert (again.status_code, again.text) == (
        409,
        "Can't deploy a machine that is in the 'Deploying' state",
    )
    clock.advance(300)
    assert api.get(path).json()["status_name"] == "Failed deployment"


def test_a_broken_machine_and_its_bmc(maas: FakeMaas, api: httpx.Client) -> None:
    node = maas.add_machine("node-1", owner="dispatch", power_fails=True)
    path = f"/machines/{node.system_id}/"
    assert api.post(path, params={"op": "power_on"}).status_code == 503
    assert api.get(path, params={"op": "query_power_state"}).json() == {"state": "error"}
    assert api.post(path, params={"op": "mark_broken"}).json()["status_name"] == "Broken"
    assert api.post(path, params={"op": "mark_fixed"}).json()["status_name"] == "Ready"
    assert api.post(path, params={"op": "mark_fixed"}).status_code == 409
    assert api.get("/machines/nobody/").status_code == 404
    maas.fail_next("GET */machines/", status=503, message="busy")
    assert api.get("/machines/").text == "busy"
