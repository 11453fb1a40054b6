"""A running lab, for every test that asks for one without saying more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from labs import LabBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    """A lab of one session, and what a test does to it."""
    from labs import running_lab

    async with running_lab(tmp_path) as running:
        yield running
