"""What is relied on of Testflinger holds for the fake, and for a real server that DISPATCH_TESTFLINGER_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_dispatch.testing import testflinger_contract
from pytest_dispatch.testing.testflinger import FakeTestflinger

FAKE = "the fake"
SERVERS = [FAKE, *filter(None, [os.environ.get(testflinger_contract.VARIABLE, "").rstrip("/")])]


class TestServers(testflinger_contract.TestflingerContract):
    @pytest.fixture(params=SERVERS)
    def server(self, request: pytest.FixtureRequest) -> Iterator[str]:
        if request.param != FAKE:
            yield request.param
            return
        with FakeTestflinger() as testflinger:
            testflinger.add_agent("node-1", location="TOR3-rack-7")
            yield testflinger.url
