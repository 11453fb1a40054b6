"""The behaviour of MAAS that this package relies on, as tests; they run on the fake, or on a real MAAS.

    from pytest_dispatch.testing import maas_contract

    class TestMyMaas(maas_contract.MaasContract):
        @pytest.fixture
        def maas(self):
            return maas_contract.Served(url="https://maas.example/MAAS", key="consumer:token:secret")

They change nothing there, unless they are given a machine that is ready, which they deploy, power, release, and mark as
broken and as fixed.
"""

# ruff: noqa: S101 - a contract is made of assertions

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pytest_dispatch.maas.api import PATH, SLOW, MaasApi, MaasKey, MaasMachine
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.support.transport import client_options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

URL, KEY = "DISPATCH_MAAS_URL", "DISPATCH_MAAS_API_KEY"  # of the environment: a real MAAS for this project's own tests
MACHINE = "DISPATCH_MAAS_MACHINE"  # a machine of it that is ready, and may be deployed
NOBODY = "000000"  # a system id that no machine has
NO_TAG = "pytest-dispatch-contract"  # which no machine may have
HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A MAAS, and who asks it.

    Attributes:
        url: Its address.
        key: An API key: `consumer:token:secret`.
        machine: Host name of a machine that is ready, and may be deployed; empty for none.
        every: Seconds between two looks at that one.
    """

    url: str
    key: str = field(repr=False)
    machine: str = ""
    every: float = 10.0

    def ask(self, verb: str, path: str, *, key: str = "", **more: Any) -> httpx.Response:
        """Send a signed request with the package's connection settings."""
        url = f"{self.url.rstrip('/')}{PATH}{path}"
        signed = MaasKey.read("the contract", key or self.key, self.url).signs()
        return httpx.request(verb, url, headers=signed, timeout=SLOW, **more, **client_options(url, os.environ))


class MaasContract:
    """Tests of the MAAS that the fixture `maas` returns, a `Served`."""

    def test_it_says_its_version_to_anybody(self, maas: Served) -> None:
        """Of a request that is not signed, nothing else is answered."""
        url = f"{maas.url.rstrip('/')}{PATH}"
        options = client_options(url, os.environ)
        assert httpx.get(f"{url}/version/", timeout=SLOW, **options).json()["version"]
        assert httpx.get(f"{url}/machines/", timeout=SLOW, **options).status_code == 401

    def test_a_signature_that_is_none_and_one_of_another_key_are_refused(self, maas: Served) -> None:
        """The key's last part is what signs; 401 is for one that is wrong, 400 for a header without it."""
        consumer, token, _ = maas.key.split(":")
        assert maas.ask("GET", "/machines/", key=f"{consumer}:{token}:wrong").status_code == 401
        url = f"{maas.url.rstrip('/')}{PATH}/machines/"
        headers = {"Authorization": f'OAuth oauth_token="{token}"'}
        assert httpx.get(url, headers=headers, timeout=SLOW, **client_options(url, os.environ)).status_code == 400

    def test_it_says_whose_the_key_is(self, maas: Served) -> None:
        """The name is what machines have as their owner."""
        user = maas.ask("GET", "/users/", params={"op": "whoami"}).json()["username"]
        assert isinstance(user, str)
        assert user

    def test_machines_are_a_whole_list_of_what_is_read(self, maas: Served) -> None:
        """There are no pages, so none can be missing."""
        answer = maas.ask("GET", "/machines/")
        assert isinstance(answer.json(), list)
        assert not answer.headers.keys() & {"link"}
        for machine in answer.json():
            assert isinstance(machine["system_id"], str)
            assert isinstance(machine["hostname"], str)
            assert machine["power_state"] in ("on", "off", "unknown", "error")
            assert machine["owner"] is None or isinstance(machine["owner"], str)
            assert isinstance(machine["tag_names"], list)
            assert {"status_name", "status_message", "power_type", "architecture", "zone", "pool"} <= machine.keys()

    def test_machines_are_found_by_all_their_tags_and_by_name(self, maas: Served) -> None:
        """A tag that is not there is refused, and is no empty list; a name that is not there is one."""
        unknown = maas.ask("GET", "/machines/", params={"tags": NO_TAG})
        assert unknown.status_code == 400
        assert NO_TAG in str(unknown.json()["tags"])
        assert maas.ask("GET", "/machines/", params={"hostname": NO_TAG}).json() == []
        for machine in maas.ask("GET", "/machines/").json()[:1]:
            named = maas.ask("GET", "/machines/", params={"hostname": machine["hostname"]}).json()
            assert machine["system_id"] in [each["system_id"] for each in named]
            if machine["tag_names"]:
                tagged = maas.ask("GET", "/machines/", params={"tags": machine["tag_names"]}).json()
                assert machine["system_id"] in [each["system_id"] for each in tagged]

    def test_a_machine_that_is_not_there(self, maas: Served) -> None:
        """It is 404 for each operation on it, and 409 to have it allocated."""
        assert maas.ask("GET", f"/machines/{NOBODY}/").status_code == 404
        for operation in ("power_on", "power_off", "release", "mark_broken", "mark_fixed", "deploy"):
            assert maas.ask("POST", f"/machines/{NOBODY}/", params={"op": operation}).status_code == 404
        allocated = maas.ask("POST", "/machines/", params={"op": "allocate"}, data={"system_id": NOBODY})
        assert allocated.status_code in (400, 409)

    def test_a_machine_that_is_ready_is_not_powered_on(self, maas: Served) -> None:
        """MAAS powers on only what somebody has allocated; an order that it refuses changes nothing."""
        ready = [each for each in maas.ask("GET", "/machines/").json() if each["status_name"] == "Ready"]
        if not ready:
            pytest.skip("this MAAS has no machine that is ready")
        path = f"/machines/{ready[0]['system_id']}/"
        answer = maas.ask("POST", path, params={"op": "power_on"})
        assert answer.status_code == 409
        assert "allocated" in answer.text
        assert maas.ask("POST", path, params={"op": "mark_fixed"}).status_code in (403, 409)
        assert maas.ask("GET", path).json()["status_name"] == "Ready"

    def test_a_machine_is_deployed_powered_released_and_marked(self, maas: Served) -> None:
        """What a lab does with a machine from taking it to its return."""
        if not maas.machine:
            pytest.skip(f"no machine is given that may be deployed: {MACHINE}")
        asyncio.run(_life(maas))


async def _life(maas: Served) -> None:
    api = MaasApi(maas.url, MaasKey.read("the contract", maas.key, maas.url), time.monotonic)
    try:
        [machine] = await api.named(maas.machine)
        assert machine.status_name == "Ready", machine
        user, name = await api.user(), machine.system_id
        try:
            await api.allocate(name, "a contract")
            assert ((await api.machine(name)).status_name, (await api.machine(name)).owner) == ("Allocated", user)
            await _refused(api.allocate(name, "again"))
            await api.operate(name, "power_on")  # which deploys what is allocated
            await _until(maas, api, name, lambda now: now.status_name == "Deployed")
            await _refused(api.operate(name, "deploy"))
            await api.operate(name, "set_owner_data", **{NO_TAG: "noted"})
            assert (await api.machine(name)).owner_data[NO_TAG] == "noted"
            for state in ("off", "on"):
                await api.operate(name, f"power_{state}")
                await _powered(maas, api, name, state)
        finally:
            await api.operate(name, "release", comment="the contract is over")
        await api.operate(name, "release")  # may be repeated
        await _until(maas, api, name, lambda now: now.status_name == "Ready" and not now.owner)
        assert NO_TAG not in (await api.machine(name)).owner_data, "it is forgotten with the owner"
        await _refused(api.operate(name, "set_owner_data", **{NO_TAG: "noted"}))
        await _powered(maas, api, name, "off")
        await _marked(api, name)
    finally:
        await api.aclose()


async def _marked(api: MaasApi, name: str) -> None:
    await api.operate(name, "mark_broken", comment="the contract says so")
    try:
        assert (await api.machine(name)).status_name == "Broken"
        await _refused(api.operate(name, "power_on"))
        await _refused(api.operate(name, "deploy"))
        await api.operate(name, "mark_broken", comment="and again")
    finally:
        await api.operate(name, "mark_fixed")
    assert (await api.machine(name)).status_name == "Ready"


async def _refused(step: Awaitable[object]) -> None:
    with pytest.raises(ServiceError) as error:
        await step
    assert error.value.status == 409


async def _until(maas: Served, api: MaasApi, name: str, stands: Callable[[MaasMachine], bool]) -> None:
    async with asyncio.timeout(HOUR):
        while not stands(await api.machine(name)):  # noqa: ASYNC110 - MAAS tells nobody
            await asyncio.sleep(maas.every)


async def _powered(maas: Served, api: MaasApi, name: str, state: str) -> None:
    async with asyncio.timeout(HOUR):
        while await api.power(name) != state:  # noqa: ASYNC110 - MAAS tells nobody
            await asyncio.sleep(maas.every)
