"""A fake GitHub whose traffic is held against GitHub's own description, for every test that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from github_openapi import Judge

from pytest_dispatch.testing.actions import ScriptedClock
from pytest_dispatch.testing.github import FakeGitHub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A running fake; the test fails if anything asked or answered is not as GitHub describes it."""
    judge = Judge()
    with FakeGitHub(observer=judge) as fake:
        yield fake
    assert judge.complaints() == []


@pytest.fixture
def github_clock() -> ScriptedClock:
    """The clock of `clocked_github`."""
    return ScriptedClock()


@pytest.fixture
def clocked_github(github_clock: ScriptedClock) -> Iterator[FakeGitHub]:
    """A running fake whose time a test moves on; judged as `github` is."""
    judge = Judge()
    with FakeGitHub(observer=judge, clock=github_clock) as fake:
        yield fake
    assert judge.complaints() == []
