"""Machines of MAAS: they keep the contracts of machines, and say in one line what MAAS does not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from waiting import until

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.lab_program.machine_making import make_machines
from pytest_dispatch.lab_program.option_values import read_spec
from pytest_dispatch.maas.api import MaasKey
from pytest_dispatch.machines.base import PATIENCE, DrivenMachine
from pytest_dispatch.machines.maas.driver import MaasControl
from pytest_dispatch.machines.maas.orders import Place
from pytest_dispatch.testing.maas import FakeMaas, FakeNode
from pytest_dispatch.testing.maas_state import ALLOCATED, BROKEN, DEPLOYED, DEPLOYING, FAILED_DEPLOYMENT, READY
from pytest_dispatch.testing.machine_contract import LenderContract, PowerContract

SECRET = "s3cr3tofmaas"
ORDER = "POST *op=power_*"


@pytest.fixture
def maas() -> Iterator[FakeMaas]:
    with FakeMaas(key=f"consumer:token:{SECRET}", speed=500) as maas:
        yield maas


def place(maas: FakeMaas, name: str = "node-7") -> Place:
    key = MaasKey.read("a test", maas.key, maas.url)
    return Place(url=maas.url, key=key, name=name, every=0.01, settles=20.0, retries=5.0)


def deployed(maas: FakeMaas, **said: Any) -> FakeNode:
    return maas.add_machine("node-7", **{"status": DEPLOYED, "owner": "dispatch", **said})


class OnMaas:
    """Makes a machine of a MAAS that runs as long as the test."""

    lends: ClassVar[dict[str, Any]] = {}
    state: ClassVar[dict[str, Any]] = {"status": DEPLOYED, "owner": "dispatch"}
    patience = 60.0

    @pytest.fixture(autouse=True)
    def _with_maas(self, maas: FakeMaas) -> None:
        self.maas = maas

    def make_machine(self, state: Path) -> DrivenMachine:
        self.maas.add_machine("node-7", **self.state)
        return MaasControl(place(self.maas), **self.lends).driven()


class TestDeployed(OnMaas, PowerContract):
    """One that is deployed, and stays so."""


class TestLent(OnMaas, PowerContract, LenderContract):
    """One that is ready, and deployed when it is taken."""

    lends: ClassVar[dict[str, Any]] = {"deploys": "noble", "marks": True}
    state: ClassVar[dict[str, Any]] = {"status": READY}


# What MAAS is asked, and what it refuses

pytestmark = pytest.mark.anyio


async def refused(control: MaasControl) -> str:
    with pytest.raises(MachineError) as error:
        await control.on()
    assert SECRET not in str(error.value)
    return str(error.value)


async def test_one_that_is_deployed_is_never_released_or_marked(maas: FakeMaas) -> None:
    node = deployed(maas)
    control = MaasControl(place(maas))
    assert control.driven().lender is None
    assert control.driven().boot is None
    await control.on()
    await control.broken("its disk")
    await control.fixed()
    await control.off()
    await control.until_off()
    assert (node.status, node.owner, node.power) == (DEPLOYED, "dispatch", "off")
    assert maas.calls["POST /MAAS/api/2.0/machines/{id}/"] == 2


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"status": READY, "owner": ""}, "node-7 is Ready in MAAS; expected it to be Deployed: deploy it, or have"),
        ({"status": ALLOCATED}, "node-7 is Allocated in MAAS; expected it to be Deployed: deploy it, or release"),
        ({"status": BROKEN, "owner": "", "comment": "no fan"}, "node-7 is Broken in MAAS: no fan; expected it to be"),
        (
            {"status": 21, "owner": ""},
            "node-7 is Testing in MAAS; expected it to be Deployed: look at its events there",
        ),
        ({"owner": "ada"}, "node-7 is Deployed in MAAS, and ada's: expected it to be nobody's, or that of the key's"),
        ({"power_type": "manual"}, "MAAS does not control the power of node-7, so the lab cannot either: set its"),
        ({"locked": True}, "MAAS could not power it on (node-7): MAAS at 127.0.0.1 answered POST /machines/000001/"),
    ],
)
async def test_what_maas_does_not_lend_is_told_as_it_stands(
    maas: FakeMaas, state: dict[str, Any], expected: str
) -> None:
    node = deployed(maas, **state)
    assert (await refused(MaasControl(place(maas)))).startswith(expected)
    assert node.power == "off"


async def test_one_of_somebody_else_is_not_powered_off_either(maas: FakeMaas) -> None:
    node = deployed(maas, owner="ada", power="on")
    with pytest.raises(MachineError, match=r"node-7 is Deployed in MAAS, and ada's"):
        await MaasControl(place(maas)).off()
    assert node.power == "on"


async def test_a_name_that_maas_does_not_have_once_is_told(maas: FakeMaas) -> None:
    assert await refused(MaasControl(place(maas))) == (
        "expected one machine of the name node-7 in MAAS, got none; is the name right?"
    )
    deployed(maas)
    deployed(maas)
    assert "got 2, in several domains" in await refused(MaasControl(place(maas)))


async def test_a_wrong_key_is_told_at_once_and_without_it(maas: FakeMaas) -> None:
    deployed(maas)
    wrong = replace(place(maas), key=MaasKey.read("a test", f"consumer:other:{SECRET}", maas.url))
    told = await refused(MaasControl(wrong))
    assert told.startswith("MAAS could not look for it (node-7): MAAS at 127.0.0.1 answered GET /machines/ with 401")
    assert told.endswith("; is MAAS_API_KEY, or token=, the key that MAAS shows?")
    assert maas.calls["GET /MAAS/api/2.0/machines/"] == 1


LOOK, ASK, TURN = "GET */machines/", "GET *op=query_power_state", "POST *op=power_on"


@pytest.mark.parametrize(
    ("call", "status", "expected"),
    [
        (LOOK, 301, "could not look for it (node-7): MAAS at 127.0.0.1 answered GET /machines/ with 301 Moved"),
        (LOOK, 403, "could not look for it (node-7): MAAS at 127.0.0.1 answered GET /machines/ with 403 Forbidden"),
        (TURN, 404, "could not power it on (node-7): MAAS at 127.0.0.1 answered POST /machines/000001/ with 404 Not"),
        (TURN, 409, "could not power it on (node-7): MAAS at 127.0.0.1 answered POST /machines/000001/ with 409 Conf"),
        (TURN, 401, "could not power it on (node-7): MAAS at 127.0.0.1 answered POST /machines/000001/ with 401 Unau"),
    ],
)
async def test_what_will_not_pass_is_told_at_once(maas: FakeMaas, call: str, status: int, expected: str) -> None:
    node = deployed(maas)
    maas.fail_next(call, status=status)
    assert (await refused(MaasControl(place(maas)))).startswith(f"MAAS {expected}")
    assert node.power == "off"


@pytest.mark.parametrize("status", [429, 500, 502])
async def test_what_does_not_pass_in_time_is_told(maas: FakeMaas, status: int) -> None:
    deployed(maas)
    maas.fail_next(LOOK, status=status, lasting=600)
    told = await refused(MaasControl(replace(place(maas), retries=0.1)))
    assert told.startswith(
        f"MAAS could not look for it (node-7): MAAS at 127.0.0.1 answered GET /machines/ with {status}"
    )


async def test_a_release_that_maas_does_not_know_is_told_at_once(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7")
    maas.fail_next("POST *op=deploy", status=400, data={"distro_series": ["'noblest' is not a valid distro_series."]})
    told = await refused(MaasControl(place(maas), deploys="noblest"))
    assert told.startswith("MAAS could not deploy it (node-7): MAAS at 127.0.0.1 answered POST /machines/000001/ with")
    assert "400 Bad Request: " in told
    assert "'noblest' is not a valid distro_series." in told
    assert node.status == READY


async def test_a_maas_without_addresses_is_told_after_some_tries(maas: FakeMaas) -> None:
    deployed(maas)
    words = "000001: Unable to allocate static IP due to address exhaustion."
    maas.fail_next(TURN, status=503, message=words, lasting=600)
    told = await refused(MaasControl(replace(place(maas), retries=0.1)))
    assert told.endswith(f"with 503 Service Unavailable: {words}")
    assert maas.calls["POST /MAAS/api/2.0/machines/{id}/"] > 1


async def test_one_that_goes_away_while_it_is_used_is_told(maas: FakeMaas) -> None:
    deployed(maas)
    control = MaasControl(place(maas))
    await control.on()
    maas.fail_next(ASK, status=404, message="No Machine matches the given query.")
    with pytest.raises(MachineError) as error:
        await control.until_off()
    assert str(error.value).startswith("MAAS could not ask for its power (node-7): MAAS at 127.0.0.1 answered GET")
    assert str(error.value).endswith("; MAAS has it no more, or its address is wrong")


async def test_a_maas_that_is_away_and_one_that_is_none_are_told(maas: FakeMaas) -> None:
    deployed(maas)
    maas.fail_next(LOOK, status=200, data={"machines": []}, lasting=600)
    impatient = replace(place(maas), retries=0.0)
    assert "answered with something that is not MAAS's" in await refused(MaasControl(impatient))
    maas.stop()
    assert "MAAS at 127.0.0.1 cannot be reached: " in await refused(MaasControl(impatient))


async def test_what_keeps_it_is_known_while_maas_is_asked_again(maas: FakeMaas) -> None:
    deployed(maas)
    maas.fail_next(LOOK, status=503, times=2)
    control = MaasControl(replace(place(maas), every=0.05, retries=PATIENCE))
    task = asyncio.create_task(control.on())
    await until(lambda: bool(control.trouble))
    told = control.trouble
    await task
    assert told.startswith("MAAS could not ")
    assert "(node-7): MAAS at 127.0.0.1 answered" in told
    assert SECRET not in told
    assert control.trouble == ""


async def test_a_power_that_cannot_be_asked_for_a_while_is_not_taken_for_off(maas: FakeMaas) -> None:
    node = deployed(maas, power="on")
    maas.fail_next(ASK, status=503, times=2)
    maas.fail_next(ASK, drop=True)
    watch = asyncio.create_task(MaasControl(place(maas)).until_off())
    await until(lambda: maas.calls["GET /MAAS/api/2.0/machines/{id}/"] > 4)
    assert not watch.done()
    node.power = "off"
    await watch


async def test_a_bmc_that_does_not_answer_is_told_after_some_tries(maas: FakeMaas) -> None:
    deployed(maas, power_fails=True)
    told = await refused(MaasControl(replace(place(maas), retries=0.1)))
    assert told.startswith("MAAS could not power it on (node-7): MAAS at 127.0.0.1 answered POST")
    assert "503 Service Unavailable: Failed talking to node's BMC" in told
    with pytest.raises(MachineError, match="MAAS cannot ask the BMC of node-7; its events in MAAS say why"):
        await MaasControl(place(maas)).until_off()


async def test_a_bmc_that_takes_orders_and_does_nothing_is_told(maas: FakeMaas) -> None:
    deployed(maas, power_sticks=True)
    told = await refused(MaasControl(replace(place(maas), settles=0.1)))
    assert told == "MAAS was told to power node-7 on, and 0.1s later its power is off"


@pytest.mark.parametrize("status", [502, 503])
async def test_what_maas_cannot_do_just_now_is_asked_again(maas: FakeMaas, status: int) -> None:
    node = deployed(maas)
    maas.fail_next("GET */machines/", status=status)
    maas.fail_next("GET *op=query_power_state", status=status)
    maas.fail_next(ORDER, status=503)
    await MaasControl(place(maas)).on()
    assert node.power == "on"


async def test_an_order_whose_answer_is_lost_is_not_given_twice(maas: FakeMaas) -> None:
    node = deployed(maas)
    maas.fail_next(ORDER, drop_after_commit=True)
    await MaasControl(place(maas)).on()
    assert node.power == "on"
    assert maas.calls["POST /MAAS/api/2.0/machines/{id}/"] == 1


async def test_one_that_is_still_going_on_is_powered_off_nevertheless(maas: FakeMaas) -> None:
    node = deployed(maas)
    control = MaasControl(place(maas))
    gate = maas.hold_next("GET *op=query_power_state")
    going_on = asyncio.create_task(control.on())
    await asyncio.to_thread(gate.wait)
    going_on.cancel()
    gate.open()
    await asyncio.wait([going_on])
    await control.off()
    await control.until_off()
    assert (node.power, node.turns) == ("off", "")


async def test_one_that_powers_itself_off_is_seen(maas: FakeMaas) -> None:
    node = deployed(maas)
    control = MaasControl(place(maas))
    await control.on()
    watch = asyncio.create_task(control.until_off())
    node.power = "off"
    await watch


async def test_one_of_which_maas_cannot_tell_is_off_after_off(maas: FakeMaas) -> None:
    node = deployed(maas, power_type="webhook", power="unknown")
    maas.fail_next("GET *op=query_power_state", status=200, data={"state": "unknown"}, lasting=600)
    control = MaasControl(place(maas))
    await control.on()
    watch = asyncio.create_task(control.until_off())
    await control.off()
    await watch
    await until(lambda: node.power == "off")


# One that the lab takes when it is ready, and gives back


async def test_one_that_is_ready_is_deployed_powered_anew_and_released(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7")
    control = MaasControl(place(maas), deploys="jammy")
    assert control.driven().patience > PATIENCE
    await control.on()
    assert (node.status, node.owner, node.distro_series, node.power) == (DEPLOYED, "dispatch", "jammy", "on")
    assert node.comment == "pytest-dispatch"
    await control.off()
    await control.release()
    await until(lambda: node.status == READY)
    assert node.owner == ""


async def test_a_deployment_that_fails_is_told_and_tried_anew_at_the_next_start(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7", deploy_fails=True)
    control = MaasControl(place(maas), deploys="noble")
    assert (await refused(control)).startswith(
        "node-7 is Failed deployment in MAAS: pytest-dispatch; expected it to be"
    )
    assert node.status == FAILED_DEPLOYMENT
    node.deploy_fails = False
    await control.off()
    await control.on()
    assert (node.status, node.power) == (DEPLOYED, "on")


async def test_a_deployment_that_an_earlier_lab_began_is_waited_for(maas: FakeMaas) -> None:
    node = deployed(maas, status=DEPLOYING, power="on")
    control = MaasControl(place(maas), deploys="noble")
    start = asyncio.create_task(control.on())
    await until(lambda: maas.calls["GET /MAAS/api/2.0/machines/{id}/"] > 2)
    assert not start.done()
    node.status = DEPLOYED
    await start


async def test_one_that_is_held_as_broken_is_marked_and_fixed_for_its_check(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7")
    control = MaasControl(place(maas), deploys="noble", marks=True)
    await control.on()
    await control.broken("3 faults of the lab in a row")
    await control.until_off()
    assert (node.status, node.owner, node.comment) == (BROKEN, "", "pytest-dispatch: 3 faults of the lab in a row")
    await control.on()
    assert (node.status, node.power) == (DEPLOYED, "on")
    await control.broken("again")
    await control.fixed()
    assert node.status == READY


async def test_one_that_a_person_marked_as_broken_stays_so(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7", status=BROKEN, comment="no fan")
    control = MaasControl(place(maas), deploys="noble", marks=True)
    assert await refused(control) == (
        "node-7 is Broken in MAAS: no fan; expected it to be Deployed: mark it as fixed there"
    )
    assert node.status == BROKEN


async def test_one_that_a_person_deployed_is_not_released(maas: FakeMaas) -> None:
    node = deployed(maas)
    control = MaasControl(place(maas), deploys="noble")
    await control.on()
    await control.off()
    await control.release()
    assert (node.status, node.owner) == (DEPLOYED, "dispatch")


async def test_one_that_is_no_longer_wanted_while_it_is_deployed_is_released(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7")
    control = MaasControl(place(maas), deploys="noble")
    gate = maas.hold_next("POST *op=deploy")
    start = asyncio.create_task(control.on())
    await asyncio.to_thread(gate.wait)
    gate.open()
    await until(lambda: node.status == DEPLOYING)
    start.cancel()
    await asyncio.wait([start])
    await control.off()
    await control.release()
    await until(lambda: (node.status, node.power) == (READY, "off"))


async def test_one_that_a_lab_took_that_was_killed_is_released_by_the_next(maas: FakeMaas) -> None:
    node = maas.add_machine("node-7")
    await MaasControl(place(maas), deploys="noble").on()
    after = MaasControl(place(maas), deploys="noble")
    await after.off()
    await after.release()
    await until(lambda: (node.status, node.owner_data) == (READY, {}))


# The SPEC


def test_a_spec_names_machines_and_may_say_where_maas_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_URL", "https://maas.example/MAAS")
    monkeypatch.setenv("MAAS_API_KEY", f"a:b:{SECRET}")
    first, second = make_machines(
        read_spec("maas://node-7,node-8?address=10.0.0.7,10.0.0.8&labels=rack=7&deploy=noble&broken=mark"), tmp_path
    )
    assert (first.name, first.address, first.labels) == ("node-7", "10.0.0.7", {"driver": "maas", "rack": "7"})
    assert (second.name, second.address) == ("node-8", "10.0.0.8")
    assert first.secrets == (SECRET,)
    assert SECRET not in repr(first)


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ("maas", ConfigError, "maas: expected names of machines, as in maas://node-7,node-8, got none"),
        ("maas://n,?url=https://x", ConfigError, "maas://n,?url=https://x: expected names of machines"),
        ("maas://n?boot=pxe", ConfigError, "maas://n?boot=pxe: MAAS has no operation that says what a machine boots"),
        (
            "maas://n?color=red",
            ConfigError,
            "maas://n?color=red: unknown option 'color'; maas knows url, token, every,",
        ),
        ("maas://n?every=0", ConfigError, "maas://n?every=0: expected seconds from 1 to 3600 behind every=, got '0'"),
        ("maas://n?deploy=", ConfigError, "maas://n?deploy=: expected a release such as noble behind deploy=, got ''"),
        ("maas://n?deploy=noble&broken=yes", ConfigError, "expected mark behind broken=, got 'yes'"),
        ("maas://n?broken=mark", ConfigError, "expected broken=mark with deploy=, got it without: MAAS releases what"),
        ("maas://n?url=http://x", ConfigError, "url: expected an https:// address (http:// for this computer alone)"),
        (f"maas://n?token={SECRET}", ConfigError, "token: expected an API key as consumer:token:secret, got something"),
        ("maas://n", MachineError, "expected url=, or MAAS_URL in the environment, got neither"),
        ("maas://n?url=https://x", MachineError, "expected token=, or MAAS_API_KEY in the environment, got neither"),
        (f"maas://n?url=https://x&token=a:b:{SECRET}", ConfigError, "expected address= with 1 of its 1 machines'"),
    ],
)
def test_a_spec_that_cannot_be_used_is_refused_without_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, kind: type[Exception], expected: str
) -> None:
    monkeypatch.delenv("MAAS_URL", raising=False)
    monkeypatch.delenv("MAAS_API_KEY", raising=False)
    if "url=" not in given and "token=" in given:
        monkeypatch.setenv("MAAS_URL", "https://maas.example/MAAS")
    if given in {"maas", "maas://n,?url=https://x"}:
        monkeypatch.setenv("MAAS_URL", "https://maas.example/MAAS")
        monkeypatch.setenv("MAAS_API_KEY", f"a:b:{SECRET}")
    with pytest.raises(kind) as error:
        make_machines(read_spec(given), tmp_path)
    assert expected in str(error.value)
    assert SECRET not in str(error.value)
