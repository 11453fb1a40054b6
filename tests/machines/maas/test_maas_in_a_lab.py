"""A lab with a machine of MAAS: powered on when there is work, boots by itself, is released in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from labs import running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.maas.api import MaasKey
from pytest_dispatch.machines.maas.driver import MaasControl
from pytest_dispatch.machines.maas.orders import Place
from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.maas_state import BROKEN, DEPLOYED, READY

pytestmark = pytest.mark.anyio

ADDRESS = "127.0.0.7"


def control(maas: FakeMaas) -> MaasControl:
    key = MaasKey.read("a test", maas.key, maas.url)
    place = Place(url=maas.url, key=key, name="node-7", every=0.01, settles=30.0, retries=0.1)
    return MaasControl(place, deploys="noble", marks=True)


async def test_it_is_deployed_for_a_run_boots_it_and_is_released_when_the_lab_ends(tmp_path: Path) -> None:
    with FakeMaas(speed=500) as maas:
        node = maas.add_machine("node-7")
        machine = replace(control(maas).driven(), address=ADDRESS)
        async with running_lab(tmp_path, machines=[machine]) as bench:
            run = await bench.one()
            await until(
                lambda: (node.status, node.power) == (DEPLOYED, "on") and not bench.lab.machines.is_off("node-7")
            )
            await bench.download(run, ADDRESS)
            assert bench.now(run).attempt.machine == "node-7"
        await until(lambda: (node.status, node.power, node.owner) == (READY, "off", ""))


async def test_one_whose_bmc_fails_is_an_error_of_the_lab_with_the_words_of_maas(tmp_path: Path) -> None:
    with FakeMaas(speed=500) as maas:
        node = maas.add_machine("node-7", power_fails=True)
        machine = replace(control(maas).driven(), address=ADDRESS)
        async with running_lab(tmp_path, machines=[machine]) as bench:
            run = await bench.one()
            await until(lambda: bench.now(run).outcome is not None)
            assert bench.now(run).outcome is Outcome.ERROR
            assert "no machine is left: node-7: MAAS cannot ask the BMC of node-7" in bench.now(run).reason
            await until(lambda: node.status == BROKEN)
            assert node.comment.startswith("pytest-dispatch: MAAS cannot ask the BMC of node-7")
            node.power_fails = False
