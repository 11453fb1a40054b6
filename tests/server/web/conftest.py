"""What tests of the pages share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from service_bench import PASSWORD, ServiceBench, service

from pytest_dispatch.server.auth.roles import Role


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    """A service with pages, and a user of each role."""
    async with service(tmp_path, pages=True) as running:
        for name, role in (("ada", Role.ADMIN), ("bob", Role.OPERATOR), ("eve", Role.READER)):
            await running.added(name, role, password=PASSWORD)
        yield running
