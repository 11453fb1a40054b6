"""The client of MAAS, against the fake: what it asks, and what it makes of each bad answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.maas.api import MaasApi, MaasKey
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.testing.clock import ScriptedClock
from pytest_dispatch.testing.maas import FakeMaas

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
def maas(clock: ScriptedClock) -> Iterator[FakeMaas]:
    with FakeMaas(clock=clock) as maas:
        yield maas


@pytest.fixture
async def api(maas: FakeMaas, clock: ScriptedClock) -> AsyncIterator[MaasApi]:
    api = MaasApi(maas.url, MaasKey.read("a test", maas.key, maas.url), clock.now)
    yield api
    await api.aclose()


async def test_machines_by_tag_with_what_they_are_selected_by(maas: FakeMaas, api: MaasApi) -> None:
    maas.add_machine("node-1", tags=["rack-7", "gpu"], pool="ci", zone="fra", architecture="arm64/generic")
    maas.add_machine("node-2", tags=["rack-8"])
    [machine] = await api.machines("rack-7")
    assert (machine.hostname, machine.status_name, machine.power_state) == ("node-1", "Ready", "off")
    assert machine.labels == ("rack-7", "gpu", "pool:ci", "zone:fra", "arch:arm64")


async def test_a_tag_that_is_not_there_is_an_error_and_no_empty_rack(maas: FakeMaas, api: MaasApi) -> None:
    maas.add_machine("node-1", tags=["rack-7"])
    with pytest.raises(ServiceError, match=r"400 Bad Request: .*No such tag\(s\): 'rack-9'") as error:
        await api.machines("rack-9")
    assert error.value.status == 400


async def test_operations_and_what_refuses_them(maas: FakeMaas, api: MaasApi, clock: ScriptedClock) -> None:
    node = maas.add_machine("node-1", tags=["rack-7"])
    with pytest.raises(ServiceError, match="409 Conflict: Can't start node: it hasn't been allocated"):
        await api.operate(node.system_id, "power_on")
    await api.allocate(node.system_id, "for a test")
    await api.operate(node.system_id, "power_on", comment="on")
    clock.advance(5)
    assert await api.power(node.system_id) == "on"
    await api.operate(node.system_id, "mark_broken", comment="its disk")
    assert (await api.machine(node.system_id)).status_name == "Broken"
    assert node.comment == "its disk"
    with pytest.raises(ServiceError, match="404 Not Found: No Machine matches the given query"):
        await api.machine("nobody")


async def test_a_bmc_that_fails_is_told_and_keeps_nobody_from_other_machines(maas: FakeMaas, api: MaasApi) -> None:
    node = maas.add_machine("node-1", owner="dispatch", power_fails=True)
    with pytest.raises(ServiceError, match="503 Service Unavailable: Failed talking to node's BMC") as error:
        await api.operate(node.system_id, "power_on")
    assert error.value.passes
    await api.machine(node.system_id)


async def test_a_wrong_key_is_an_error_without_it(maas: FakeMaas, clock: ScriptedClock) -> None:
    key = MaasKey.read("MAAS_API_KEY", "consumer:token:wrongsecret", maas.url)
    api = MaasApi(maas.url, key, clock.now)
    with pytest.raises(ServiceError, match=r"MAAS at 127.0.0.1 answered GET /machines/ with 401 Unauthorized") as error:
        await api.machines("rack-7")
    assert "wrongsecret" not in str(error.value) + repr(key)
    await api.aclose()


@pytest.mark.parametrize("given", ["", "one", "a:b", "a:b:c:d", "a::c", "a:b:se cret"])
def test_a_key_that_is_none_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(ConfigError, match="MAAS_API_KEY: expected an API key as consumer:token:secret") as error:
        MaasKey.read("MAAS_API_KEY", given, "https://maas.example/MAAS")
    assert "se cret" not in str(error.value)
