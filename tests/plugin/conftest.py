"""What the tests of the pytest side share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from plugin_bench import Bench
from pytest_dispatch.testing.github import FakeGitHub


@pytest.fixture
def bench(pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench without workloads."""
    return Bench(pytester, tmp_path_factory.getbasetemp() / "bytecode")


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A running fake GitHub."""
    with FakeGitHub() as fake:
        yield fake


@pytest.fixture
def python() -> str:
    """The interpreter that has the plugin."""
    return sys.executable
