"""The half of it that pytest sees: the loaves that are wanted, from a file."""

from __future__ import annotations

import json

import pytest

from bakery.lifecycle import loaf
from pytest_dispatch import Workload


def pytest_dispatch_workloads(config: pytest.Config, workloads: list[Workload]) -> None:
    """Add the loaves of `loaves.json`."""
    wanted = json.loads(config.rootpath.joinpath("loaves.json").read_text())
    workloads += [loaf(**said) for said in wanted]
