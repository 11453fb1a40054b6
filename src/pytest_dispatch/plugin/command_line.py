"""What the command line tells: whether any test is to run, and which options were typed for this run alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


#: Options of pytest, and of pytest-xdist, with which this process runs no test.
_ONLY_LOOKS = (
    "collectonly",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
    "setupplan",
    "markers",
    "version",
    "looponfail",
)


def only_looks(config: pytest.Config) -> bool:
    """Return whether this process runs no test, so that no lab is wanted."""
    return any(config.getoption(name, False) for name in _ONLY_LOOKS)


def is_typed(config: pytest.Config, option: str) -> bool:
    """Return whether the option is on the command line itself; `addopts`, `PYTEST_ADDOPTS` and `@FILE` do not count."""
    return any(str(arg).partition("=")[0] == option for arg in config.invocation_params.args)
