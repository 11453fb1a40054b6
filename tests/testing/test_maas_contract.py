"""What is relied on of MAAS holds for the fake, and for a real one that DISPATCH_MAAS_URL and its key name."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_dispatch.testing import maas_contract
from pytest_dispatch.testing.maas import FakeMaas

FAKE = "the fake"
REAL = [each.rstrip("/") for each in [os.environ.get(maas_contract.URL, "")] if each]


class TestMaas(maas_contract.MaasContract):
    @pytest.fixture(params=[FAKE, *REAL])
    def maas(self, request: pytest.FixtureRequest) -> Iterator[maas_contract.Served]:
        if request.param != FAKE:
            key, machine = os.environ[maas_contract.KEY], os.environ.get(maas_contract.MACHINE, "")
            yield maas_contract.Served(url=request.param, key=key, machine=machine)
            return
        with FakeMaas(speed=500) as maas:
            maas.add_machine("node-7", tags=["rack-7"])
            maas.add_machine("node-8", tags=["rack-7", "gpu"])
            yield maas_contract.Served(url=maas.url, key=maas.key, machine="node-7", every=0.01)
