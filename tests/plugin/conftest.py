"""What the tests of the pytest side share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from forks import Forks
from plugin_bench import Bench

from pytest_dispatch.testing.github import FakeGitHub


@pytest.fixture
def bench(pytester: pytest.Pytester, forks: Forks) -> Iterator[Bench]:
    """A bench without workloads."""
    yield Bench(pytester, forks)
    forks.end()


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A running fake GitHub."""
    with FakeGitHub() as fake:
        yield fake


@pytest.fixture
def python() -> str:
    """The interpreter that has the plugin."""
    return sys.executable
