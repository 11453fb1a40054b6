"""What tests of the fake GitHub's Actions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from actions_client import ActionsClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_dispatch.testing.github import FakeGitHub


@pytest.fixture
def actions(clocked_github: FakeGitHub) -> Iterator[ActionsClient]:
    """A client of the fake whose time the test moves on."""
    client = ActionsClient(clocked_github)
    yield client
    client.close()
