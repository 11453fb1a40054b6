"""Distinguishes options typed for this run from those that an ini file or the environment sets for all runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def is_typed(config: pytest.Config, option: str) -> bool:
    """Return whether the option is on the command line itself; `addopts`, `PYTEST_ADDOPTS` and `@FILE` do not count."""
    return any(str(arg).partition("=")[0] == option for arg in config.invocation_params.args)
